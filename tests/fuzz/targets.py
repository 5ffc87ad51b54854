"""What is fuzzed: each target holds a pure part of main.py against a second, plain reading of what
it promises."""

import itertools
import json
import re
import string
import unicodedata
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import main

LIMITS = {
    "MAX_LINE": 96,
    "MAX_HEAD": 384,
}  # main.py's, made so low here that inputs of a few hundred bytes reach them
TCHAR = set(
    b"!#$%&'*+-.^_`|~" + string.digits.encode() + string.ascii_letters.encode()
)  # RFC 9110, 5.6.2
VISIBLE = set(range(0x21, 0x7F))
LOCAL_PART = set(
    string.ascii_letters + string.digits + ".!#$%&'*+/=?^_`{|}~-"
)  # WHATWG, 4.10.5.1.5
LABEL = set(string.ascii_letters + string.digits + "-")


# --- The head of a request ---------------------------------------------------------------------


class Reading:
    """A head, read byte by byte. `faults` are the statuses that it deserves, `end` is where it
    ends, 0 if it has not come that far; of one that is not whole only the size is judged."""

    def __init__(self, data: bytes) -> None:
        self.faults, self.end = set[int](), 0
        self.method = self.path = self.query = ""
        self.version, self.length = 1, 0
        self.headers: dict[str, list[str]] = {}
        lines = self.split(data)
        if len(lines[0][0]) > LIMITS["MAX_LINE"]:
            self.faults.add(414)
        if (self.end or len(data)) > LIMITS["MAX_HEAD"]:
            self.faults.add(431)
        if not self.end:
            return
        if any(end != b"\r\n" for _, end in lines):
            self.faults.add(400)
        self.read_line(lines[0][0])
        for line, _ in lines[1:-1]:
            self.read_field(line)
        if self.version == 1 and "host" not in self.headers:
            self.faults.add(400)
        if "transfer-encoding" in self.headers:
            self.faults.add(501)

    def split(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The lines up to the first empty one, each with what ends it."""
        lines, start, at = list[tuple[bytes, bytes]](), 0, 0
        while at < len(data):
            if data[at] not in b"\r\n":
                at += 1
                continue
            end = data[at : at + 2] if data[at : at + 2] == b"\r\n" else data[at : at + 1]
            last = at + len(end) == len(data)
            if end == b"\r" and last and at > start:
                break  # half of CR LF, it may be
            if end == b"\r" and last and not (lines and lines[-1][1] == b"\r"):
                break
            lines.append((data[start:at], end))
            start = at = at + len(end)
            if not lines[-1][0]:
                self.end = start
                if len(lines) > 1 and lines[-2][1] == b"\r":
                    self.end -= len(end)  # it is known at the CR before it
                return lines
        return [*lines, (data[start:].removesuffix(b"\r"), b"")]

    def read_line(self, line: bytes) -> None:
        parts = line.split(b" ")
        if len(parts) != 3 or not parts[0]:
            self.faults.add(400)
            return
        method, target, version = parts
        characters = set(method) <= TCHAR and set(target) <= VISIBLE
        if not characters or target[:1] != b"/" or version not in (b"HTTP/1.0", b"HTTP/1.1"):
            self.faults.add(400)
        else:
            self.method, self.version = method.decode(), version[-1] - ord("0")
            self.path, *rest = target.decode().split("?")
            self.query = "?".join(rest)

    def read_field(self, line: bytes) -> None:
        token, colon, rest = line.partition(b":")
        if not token or not set(token) <= TCHAR or not colon or b"\0" in rest:
            self.faults.add(400)
            return
        name, value = token.decode().lower(), rest.strip(b" \t").decode("latin-1")
        if name in ("host", "content-length") and name in self.headers:
            self.faults.add(400)
        if name == "content-length":
            if 1 <= len(value) <= 10 and set(value) <= set(string.digits):
                self.length = int(value)
            else:
                self.faults.add(400)
        self.headers.setdefault(name, []).append(value)


def fuzz_head(data: bytes) -> None:
    reading = Reading(data)
    cut = zlib.crc32(data) % (len(data) + 1)
    for pieces in ((data,), (data[:cut], data)):  # what a head says does not hang on how it arrives
        head, size, status, searched = main.Head(), 0, 0, 0
        try:
            for piece in pieces:
                size = size or main.head_size(piece, searched)
                searched = len(piece)
            if size:
                head.read(data[:size].decode("latin-1"))
        except main.Error as error:
            status = error.status
        if reading.faults or status:
            assert status in reading.faults, f"{status}, not {reading.faults or 'none'}"
            continue
        assert size == reading.end
        if not size:
            continue
        said = (head.method, head.path, head.query, head.version, head.length)
        assert said == (
            reading.method,
            reading.path,
            reading.query,
            reading.version,
            reading.length,
        )
        assert head.headers == {name: ", ".join(values) for name, values in reading.headers.items()}
        options = head.headers.get("connection", "")
        if options.isascii() and options.isprintable():  # else it is no list of tokens
            close = "close" in [option.strip(" ") for option in options.lower().split(",")]
            assert head.keep_alive == (reading.version == 1 and not close)


# --- The body of /validate, and the query of /user-info ----------------------------------------


def allowed(username: str) -> bool:
    """Whether this is a username, the white space around it taken off."""
    categories = {unicodedata.category(character) for character in username}
    if not username or categories & {"Cc", "Cs"} or ":" in username or "/" in username:
        return False
    return len(username.encode()) <= 256


def fields_of(body: bytes) -> Any:
    """What JSON says, every object as a dict; ValueError where it is none, or an object has a key
    twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if any(
            name == after for name, after in itertools.pairwise(sorted(name for name, _ in pairs))
        ):
            raise ValueError("twice")
        return dict(pairs)

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(str(body, "utf-8", "strict"), object_pairs_hook=unique, parse_constant=refuse)


def fuzz_body(data: bytes) -> None:
    expected, names = ("", ""), set[str]()  # one of `names` has to be in the text of an error
    try:
        fields = fields_of(data)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        names = {"JSON"}
    else:
        username, password = fields.get("username", ""), fields.get("password", "")
        if not isinstance(username, str):
            names.add("string")
        elif not allowed(username.strip()):
            names.add("Username")
        if not isinstance(password, str):
            names.add("string")
        elif not password or any(c == "\0" or unicodedata.category(c) == "Cs" for c in password):
            names.add("Password")
        expected = username, password
    try:
        got = main.read_credentials(data)
    except main.Error as error:
        assert names, f"{error.text}, though it is allowed"
        assert error.status == 400
        assert any(name in error.text for name in names), f"{error.text!r} names none of {names}"
    else:
        assert not names
        assert got == (expected[0].strip(), expected[1])


def fuzz_query(data: bytes) -> None:
    query = bytes(byte for byte in data if byte in VISIBLE).decode()  # what a target may hold
    expected = None
    try:
        pairs = [
            [unquote_to_bytes(part.replace("+", " ")).decode() for part in field.split("=", 1)]
            for field in query.split("&")
        ]
    except UnicodeDecodeError:
        pass
    else:
        values = ["".join(value).strip() for name, *value in pairs if name == "username"]
        expected = values[0] if len(values) == 1 and allowed(values[0]) else None
    try:
        got = main.read_query(query)
    except main.Error as error:
        assert expected is None, f"{error.text}, though it is allowed"
        assert error.status == 400
    else:
        assert got == expected
        assert main.read_query("username=" + quote(got, safe="")) == got


# --- GECOS -------------------------------------------------------------------------------------


def is_email(text: str) -> bool:
    local, at, domain = text.partition("@")
    labels = domain.split(".")
    return (
        bool(at and local and all(labels))
        and set(local) <= LOCAL_PART
        and all(set(label) <= LABEL for label in labels)
        and len(text) <= 254
    )


def first_email(gecos: str) -> str:
    for field in gecos.replace(";", ",").split(","):
        text = field.strip()
        if text.endswith(">") and text.count("<") == text.count(">") == 1:
            text = text[text.index("<") + 1 : -1].strip()
        if is_email(text):
            return text
    return ""


def fuzz_gecos(data: bytes) -> None:
    """The data is as the row of passwd: the name, a colon, GECOS."""
    username, _, gecos = re.sub("[\n\0]", "", data.decode("utf-8", "replace")).partition(":")
    gecos = gecos.replace(":", "")
    if not username:
        return
    field = gecos.split(",")[0].strip()
    login = username[0].upper() + username[1:]
    expected = username if field in ("", "UGREEN USER") else login.join(field.split("&"))
    assert main.full_name(gecos, username) == expected
    assert expected
    assert main.email(gecos) == first_email(gecos)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "head": fuzz_head,
    "body": fuzz_body,
    "query": fuzz_query,
    "gecos": fuzz_gecos,
}
