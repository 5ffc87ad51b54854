"""The pure parts, against whatever hypothesis can think of."""

import ipaddress
import itertools
import re
import string
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import main

settings.register_profile("stable", derandomize=True, deadline=None, max_examples=200)
settings.load_profile("stable")

TCHAR = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters  # RFC 9110, 5.6.2
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
# the lines that requests, good and bad, are made of, and what they may end in: mostly what is right
STARTS = [
    b"GET /health HTTP/1.1",
    b"POST /validate?x HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET /  HTTP/1.1",
    b"",
]
GOOD = [b"Host: nas", b"Content-Length: 4", b"X: y", b"x:", b"Accept:\t*/*, :\xff "]
BAD = [
    b"Host : nas",
    b"content-length: +4",
    b"Transfer-Encoding: chunked",
    b"X",
    b" X: y",
    b"\tX: y",
    b": y",
]
BAD += [b"X: a\rb", b"X: a\nb", b"X: a\0b", b"X\0: y", b"X y: z"]
lines = st.tuples(
    st.sampled_from(GOOD * 6 + BAD),
    st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n", b""]),
)
requests = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda start, fields, end: b"\r\n".join([start, b"".join(map(b"".join, fields)) + end]),
        st.sampled_from(STARTS[:3] * 4 + STARTS),
        st.lists(lines, max_size=6),
        st.sampled_from([b"\r\n"] * 5 + [b"\n", b"\r", b""]),
    ),
)


def outcome(feeds: list[bytes]) -> tuple[object, ...]:
    """What comes of the bytes of `feeds`: the status of the error, or all that the head says."""
    data, head = b"", main.Head()
    try:
        for more in feeds:
            searched, data = len(data), data + more
            if size := main.head_size(data, searched):
                head.read(data[:size].decode("latin-1"))
                return (size, *vars(head).values())
    except main.Error as error:
        return (error.status,)
    return ("more",)


@given(requests, st.lists(st.integers(0, 80), max_size=6))
def test_a_head_in_pieces_gives_what_it_gives_whole(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert outcome(pieces) == outcome([data])


@given(requests)
def test_a_head_byte_by_byte_gives_what_it_gives_whole(data: bytes) -> None:
    assert outcome([data[at : at + 1] for at in range(len(data))]) == outcome([data])


@given(requests)
def test_no_bytes_raise_anything_but_an_error_with_a_status_of_the_contract(data: bytes) -> None:
    assert outcome([data])[0] in (400, 501, "more") or outcome([data])[1:]


@given(requests)
def test_nothing_is_accepted_that_another_parser_could_read_otherwise(data: bytes) -> None:
    said = outcome([data])
    if not said[1:]:
        return
    size = said[0]
    assert isinstance(size, int)
    lines = data[:size].split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert not set(b"".join(lines)) & set(b"\0\r\n")
    assert all(
        b":" in line and line[:1] not in b" \t" and b" " not in line.split(b":")[0]
        for line in lines[1:-2]
    )
    names = [line.split(b":")[0].lower() for line in lines[1:-2]]
    assert names.count(b"content-length") <= 1
    assert names.count(b"host") in ((1,) if lines[0].endswith(b"1.1") else (0, 1))
    assert b"transfer-encoding" not in names


@given(
    st.text(TCHAR, min_size=1, max_size=10),
    st.text(VISIBLE.replace("?", ""), max_size=20),
    st.text(VISIBLE, max_size=20),
    st.integers(0, 1),
    st.dictionaries(
        st.text(TCHAR, min_size=1, max_size=10).map(lambda s: "x-" + s.lower()), st.text(VISIBLE)
    ),
    st.one_of(st.none(), st.integers(0, 9_999_999_999)),
    st.sampled_from(["", " ", "\t", "  \t "]),
)
def test_a_well_formed_request_is_read_as_it_was_written(
    method: str,
    path: str,
    query: str,
    version: int,
    extra: dict[str, str],
    length: int | None,
    blank: str,
) -> None:
    headers = {"host": "nas", **extra} | ({} if length is None else {"content-length": str(length)})
    lines = [
        f"{method} /{path}?{query} HTTP/1.{version}",
        *(f"{n.upper()}:{blank}{v}{blank}" for n, v in headers.items()),
    ]
    data = "\r\n".join([*lines, "", ""]).encode()
    head = main.Head()
    assert main.head_size(data + b"\0the body\n", 0) == len(data)
    head.read(data.decode())
    assert (head.method, head.path, head.query) == (method, "/" + path, query)
    assert (head.version, head.headers, head.length) == (version, headers, length or 0)


def read_token(line: str) -> tuple[str, str]:
    """The value at the start of a log line, unescaped, and what follows it."""
    if line[:1] != '"':
        value, blank, rest = line.partition(" ")
        assert value.isascii()
        assert value.isprintable()
        assert not set(value) & set('"\\=')
        return value, blank + rest
    value, at, widths = "", 1, {"x": 2, "u": 4, "U": 8}
    while line[at] != '"':
        assert line[at].isprintable()
        if line[at] != "\\":
            value, at = value + line[at], at + 1
            continue
        kind = line[at + 1]
        if width := widths.get(kind):
            value, at = value + chr(int(line[at + 2 : at + 2 + width], 16)), at + 2 + width
        else:
            value, at = (
                value + {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}[kind],
                at + 2,
            )
    return value, line[at + 1 :]


def read_line(line: str) -> dict[str, str]:
    """A line of `key=value` pairs: an independent reader of the log."""
    pairs = {}
    while line:
        key, _, line = line.partition("=")
        pairs[key], line = read_token(line)
        assert line[:1] in ("", " ")
        line = line[1:]
    return pairs


any_text = st.text(st.characters(), max_size=60)  # surrogates too
nasty_text = st.lists(
    st.sampled_from(['"', "\\", "\n", "\r", "\t", " ", "=", "\x1b[2J", "\u2028", "a", "ä"])
).map("".join)


@given(st.lists(st.one_of(any_text, nasty_text, st.integers(), st.floats()), max_size=4))
def test_a_log_line_reads_back_as_what_was_put_in(values: list[object]) -> None:
    line = " ".join(f"key{n}={main.quoted(value)}" for n, value in enumerate(values))
    assert len(line.splitlines()) <= 1
    assert read_line(line) == {f"key{n}": str(value) for n, value in enumerate(values)}


@given(st.text(min_size=401, max_size=1200))
def test_a_long_value_is_cut_so_that_a_line_stays_whole(value: str) -> None:
    read, rest = read_token(main.quoted(value))
    assert read.startswith(value[:100])
    assert len(read) < 500
    assert rest == ""


@given(st.one_of(any_text, nasty_text), st.text())
def test_a_full_name_is_never_empty_and_holds_no_ampersand_of_gecos(
    gecos: str, username: str
) -> None:
    name = main.full_name(gecos, username)
    assert name or not username
    assert "&" not in name or "&" in username


local, domain = (
    st.text(string.ascii_letters + "._+-", min_size=1),
    st.from_regex(r"[a-z0-9-]+(\.[a-z]+)*", fullmatch=True),
)


PARTS = ["a@b", "c.d@e.f", "Jane", " ", ",", ";", "<", ">", "&", "@", ".", '"', "\n", "ä"]


@given(st.one_of(any_text, st.lists(st.sampled_from(PARTS), max_size=5).map("".join)))
def test_an_email_is_empty_or_an_address_that_gecos_holds(gecos: str) -> None:
    found = main.email(gecos)
    assert found in gecos
    assert not found or re.fullmatch(r"[^\s@<>,;\"]+@[A-Za-z0-9.-]+", found, re.ASCII)


@given(
    local,
    domain,
    st.sampled_from(["{}", "Jane Doe,{}", "Jane Doe <{}>", "a,b,c,d,x; {} ;y", " <{}> "]),
)
def test_an_email_is_found_wherever_gecos_holds_it(local: str, domain: str, gecos: str) -> None:
    address = f"{local[:60]}@{domain[:60].rstrip('.')}"
    assert main.email(gecos.format(address)) == address


@pytest.mark.parametrize("setting", main.SETTINGS, ids=lambda setting: setting.name)
def test_a_reader_of_a_setting_raises_nothing_but_value_error(setting: main.Setting) -> None:
    numbers = st.one_of(
        st.integers().map(str),
        st.floats().map(str),
        st.from_regex(r"[+-]?[0-9_\u0660-\u0669]*\.?[0-9]*"),
    )

    @given(st.one_of(any_text, numbers).filter(bool))
    def reads(text: str) -> None:
        said, value = "", None
        try:
            value = setting.cast(text)
        except ValueError as error:
            said = f"{setting.name}: {error}"
        assert len(said.splitlines()) <= 1
        assert not isinstance(value, int | float) or set(text) <= set("0123456789.")

    reads()


@given(
    st.one_of(
        any_text,
        st.builds("{}{}{}".format, st.ip_addresses(), st.sampled_from("%/, :x"), st.text("01")),
    )
)
def test_what_is_no_plain_address_is_no_client(text: str) -> None:
    assume("%" in text or not set(text) <= set("0123456789abcdefABCDEF.:"))
    with pytest.raises(ValueError):  # noqa: PT011 - ipaddress has many texts
        main.read_client(text)


@given(st.ip_addresses())
def test_an_address_is_a_client_as_it_is_written(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    client = main.read_client(str(address))
    plain = getattr(address, "ipv4_mapped", None) or address
    assert client.address == str(plain)
    assert client.network == str(
        plain if plain.version == 4 else ipaddress.ip_network((int(plain), 64), strict=False)
    )


body_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.one_of(st.binary(max_size=60), body_text.map(str.encode)))
def test_any_body_is_credentials_or_a_400(body: bytes) -> None:
    readers: list[Callable[[], object]] = [
        lambda: main.read_credentials(body),
        lambda: main.read_query(body.decode("latin-1")),
    ]
    for read in readers:
        status = 200
        try:
            read()
        except main.Error as error:
            status = error.status
        assert status in (200, 400)
