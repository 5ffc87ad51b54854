"""authentik-policy.py against proxies that fail, lie, hang or are not there: nobody gets in,
nothing gets out."""

import gzip
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from authentik.core.models import User
from django.db import connections
from etc import right
from hostile import ACCOUNT, KNOWN, RIGHT, WRONG, Answer, Hostile, answer, dripping, endless, silent
from logins import AKADMINS, INVALID, UNREACHABLE, Site, groups, link, user
from secrecy import TOKEN, keep_secret
from service import BOUND, Service, Start, free_port

import main

Ask = Callable[..., Hostile]
PASSWORD = "the-typed-password"


@pytest.fixture
def proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Starts a proxy that answers as told, and makes it the one that the policy asks."""
    started: list[Hostile] = []

    def start(validate: Answer = RIGHT, user_info: Answer = KNOWN) -> Hostile:
        started.append(Hostile(validate, user_info).__enter__())
        monkeypatch.setenv("UGOS_AUTH_PROXY_URL", started[-1].url)
        return started[-1]

    monkeypatch.setenv("UGOS_AUTH_PROXY_TOKEN", TOKEN)
    yield start
    for each in started:
        each.__exit__()


def test_the_stub_lets_in_when_it_answers_as_the_service_does(site: Site, proxy: Ask) -> None:
    """Without this the refusals below would show nothing."""
    proxy()
    assert site.lets_in("alice", PASSWORD) == "alice"
    assert User.objects.get(username="alice").email == "alice@home.arpa"


def test_what_is_sent(site: Site, proxy: Ask) -> None:
    asked = proxy().asked
    site.try_login("alice", PASSWORD, ip="2001:db8::1")
    assert [(each.method, each.path) for each in asked] == [
        ("POST", "/validate"),
        ("GET", "/user-info?username=alice"),
    ]
    assert json.loads(asked[0].body) == {"username": "alice", "password": PASSWORD}
    for each in asked:
        assert each.headers["Authorization"] == f"Bearer {TOKEN}"
        assert each.headers.get_all("X-Forwarded-For") == ["2001:db8::1"]
        assert each.headers["Accept-Encoding"] == "identity"
        assert each.headers["User-Agent"] == f"ugos-auth-proxy-policy/{main.__version__}"
    assert asked[0].headers["Content-Type"] == "application/json"
    assert not asked[1].body


def test_without_a_token_none_is_sent(
    site: Site, proxy: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UGOS_AUTH_PROXY_TOKEN")
    asked = proxy().asked
    assert site.lets_in("alice", PASSWORD) == "alice"
    assert "Authorization" not in asked[0].headers


def test_a_user_that_authentik_knows_is_asked_for_by_its_own_name(site: Site, proxy: Ask) -> None:
    asked = proxy().asked
    link("alice")
    assert site.lets_in("ALICE", PASSWORD) == "alice"
    assert json.loads(asked[0].body)["username"] == "alice"


def test_an_unknown_user_is_created_as_the_answer_spells_it(site: Site, proxy: Ask) -> None:
    proxy()
    assert site.lets_in("ALICE", PASSWORD) == "alice"
    assert set(User.objects.values_list("username", flat=True)) == {"akadmin", "alice"}


def test_a_local_user_s_password_is_not_sent(site: Site, proxy: Ask) -> None:
    asked = proxy().asked
    User.objects.create_user("alice", "alice@example.com", keep_secret(PASSWORD))
    assert site.refusal("alice", PASSWORD) == INVALID
    assert site.refusal("akadmin", "password-of-akadmin") == INVALID
    assert [each.path for each in asked] == ["/validate"] * 2
    assert all(len(json.loads(each.body)["password"]) > 40 for each in asked)


HUGE = b"{" + b'"a": 1, ' * 9000 + b'"valid": true, "username": "alice"}'
BAD_VERDICTS: dict[str, Answer] = {
    "500": answer(500, {"error": "Internal server error"}),
    "a verdict with 500": answer(500, {"valid": True, "username": "alice"}),
    "a verdict with 201": answer(201, {"valid": True, "username": "alice"}),
    "401": answer(401, {"valid": False, "error": "Unauthorized"}),
    "a verdict with 401": answer(401, {"valid": True, "username": "alice"}),
    "404": answer(404, {"error": "Not found"}),
    "503": answer(503, {"valid": False, "error": "PAM cannot be used"}, ["Retry-After: 5"]),
    "no JSON": answer(200, b"<html>valid: true</html>"),
    "nothing": answer(200, b""),
    "a list": answer(200, [{"valid": True, "username": "alice"}]),
    "true": answer(200, b"true"),
    "a string": answer(200, b'"valid"'),
    "valid as a string": answer(200, {"valid": "true", "username": "alice"}),
    "valid as a number": answer(200, {"valid": 1, "username": "alice"}),
    "valid as a list": answer(200, {"valid": [True], "username": "alice"}),
    "no valid": answer(200, {"username": "alice"}),
    "null": answer(200, {"valid": None, "username": "alice"}),
    "no username": answer(200, {"valid": True}),
    "a username that is a list": answer(200, {"valid": True, "username": ["alice"]}),
    "deep": answer(200, b"[" * 60000),
    "not UTF-8": answer(200, b'{"valid": true, "username": "alice", "x": "\xff\xfe"}'),
    "gzip": answer(
        200, gzip.compress(b'{"valid": true, "username": "alice"}'), ["Content-Encoding: gzip"]
    ),
    "too large": answer(200, HUGE),
    "too large, in two parts": answer(
        200, b" " * 60000 + RIGHT.split(b"\r\n\r\n")[1], ["X-A: " + "a" * 6000]
    ),
    "a head that is too large": answer(
        200, {"valid": True, "username": "alice"}, ["X-A: " + "a" * 40000] * 2
    ),
    "cut": answer(200, {"valid": True, "username": "alice"}).replace(b"Length: 36", b"Length: 37"),
    "cut in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'24\r\n{"valid": true, "username": "alice"}\r\n',
    "no HTTP": b"valid: true\r\n\r\n",
    "closed": b"",
    "a redirect": answer(302, {"valid": True, "username": "alice"}, ["Location: /health"]),
    "a permanent redirect": answer(
        308, {"valid": True, "username": "alice"}, ["Location: /validate"]
    ),
    "silence": silent,
    "a drip": dripping(answer(200, {"valid": True, "username": "alice"}, ["X-Slow: " + "z" * 600])),
    "a dripping body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 900),
    "a redirect without end": endless(b"HTTP/1.1 302 Found\r\nLocation: /health\r\n\r\n"),
    "a body without end": endless(b"HTTP/1.1 200 OK\r\n\r\n"),
    "a head without end": endless(b"HTTP/1.1 200 OK\r\nX-A:"),
    "continue without end": dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}


@pytest.mark.parametrize("case", BAD_VERDICTS)
def test_a_verdict_that_is_not_one_lets_nobody_in(site: Site, proxy: Ask, case: str) -> None:
    asked = proxy(BAD_VERDICTS[case]).asked
    link("alice")
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert site.refusal("bob", PASSWORD) == UNREACHABLE
    assert [each.path for each in asked] == ["/validate"] * 2  # no redirect was followed either
    assert not site.signals  # authentik must not count it against the user
    assert any(line.startswith("error") and "/validate" in line for line in site.log)
    assert set(User.objects.values_list("username", flat=True)) == {"akadmin", "alice"}


@pytest.mark.parametrize("head", ["302 Found\r\nLocation: /health", "200 OK"])
def test_an_answer_is_not_read_beyond_the_bound(site: Site, proxy: Ask, head: str) -> None:
    sent: list[int] = []

    def flow(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode())
        while len(sent) < 4000 and not over.is_set():
            connection.sendall(b" " * 65536)
            sent.append(65536)

    proxy(flow)
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert sum(sent) < 100 * 65536  # what the buffers of the sockets hold


REASONS: list[tuple[Answer, str]] = [
    (answer(500, {"valid": True}), "/validate: status 500"),
    (answer(200, [ACCOUNT]), "/validate at {url}: status 200, not a JSON object"),
    (answer(200, b'{"valid": true'), "/validate at {url}: JSONDecodeError"),
    (answer(200, HUGE), "/validate at {url}: an answer of more than 65536 bytes"),
    (b"", "/validate at {url}: ConnectionError < ProtocolError < RemoteDisconnected"),
    (
        dripping(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 900),
        "/validate at {url}: no whole answer within 5 seconds",
    ),
]


@pytest.mark.parametrize(("told", "reason"), REASONS, ids=[reason for _, reason in REASONS])
def test_the_log_says_what_is_wrong_with_an_answer(
    site: Site, proxy: Ask, told: Answer, reason: str
) -> None:
    url = proxy(told).url
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert any(f"no verdict: {reason.format(url=url)} logger=" in line for line in site.log)


REFUSED: list[tuple[str, Answer, str]] = [
    ("alice", WRONG, "the NAS says Invalid credentials"),
    (
        "alice",
        answer(200, {"valid": False, "error": "Account expired"}),
        "the NAS says Account expired",
    ),
    ("alice", answer(200, {"valid": False, "error": "Out of order"}), "the NAS says no"),
    ("alice", answer(400, {"valid": False}), "the proxy answers 400"),
    ("alice", answer(429, {"valid": False}), "too many failed logins"),
    ("alice", answer(200, {"valid": True, "username": "bob"}), "the NAS answers for another name"),
    (
        "local",
        RIGHT,
        "the user is authentik's, not the NAS's: the attribute ugos_user: true links it",
    ),
    (
        "local",
        b"",
        "the user is authentik's, not the NAS's: the attribute ugos_user: true links it; "
        "/validate at http",
    ),
    ("inactive", RIGHT, "the user is inactive"),
    ("akadmin", RIGHT, "akadmin does not log in here"),
    ("x" * 151, RIGHT, "no user has so long a name"),
]


@pytest.mark.parametrize(
    ("name", "told", "reason"), REFUSED, ids=[reason for _, _, reason in REFUSED]
)
def test_the_log_says_why_a_login_is_refused(
    site: Site, proxy: Ask, name: str, told: Answer, reason: str
) -> None:
    proxy(told)
    User.objects.create_user("local", "local@example.com", None)
    site.stages["ugos-find-user-stage"].user_fields[:] = ["email"]  # type: ignore[attr-defined]
    link("inactive")
    User.objects.filter(username="inactive").update(is_active=False)
    site.refusal(name, PASSWORD)
    assert (
        len([line for line in site.log if f"{name!r} from 192.0.2.7 is refused: {reason}" in line])
        == 1
    )


@pytest.mark.parametrize("secret", ["user-info-secret", "user-info/secret", "user-info@secret"])
@pytest.mark.parametrize("path", ["/validate", "/user-info"])
def test_user_info_in_the_url_is_not_logged(
    site: Site, proxy: Ask, monkeypatch: pytest.MonkeyPatch, secret: str, path: str
) -> None:
    link("alice")
    stub = proxy(**{"validate" if path == "/validate" else "user_info": b""})
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", stub.url.replace("//", f"//nas-user:{secret}@"))
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert any("no verdict: /" in line for line in site.log)
    assert not [line for line in site.log if "nas-user" in line or "secret" in line]


@pytest.mark.parametrize("path", ["/", "//", "/a/..", "?x=1", "#f"])
def test_however_the_url_is_written_the_connection_is_cut(
    site: Site, proxy: Ask, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    drip = dripping(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000)
    stub = proxy()
    stub.answers = dict.fromkeys(
        ("/validate", "//validate", "///validate", "/a/../validate", "/"), drip
    )
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", stub.url + path)
    before = set(threading.enumerate())
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    none_is_left(before)


def none_is_left(before: set[threading.Thread]) -> None:
    """Of the threads that ask the proxy."""
    for thread in set(threading.enumerate()) - before:
        if thread.name.endswith("(run)"):
            thread.join(BOUND)
            assert not thread.is_alive()


@pytest.mark.parametrize("told", ["error", "username"])
def test_what_the_proxy_echoes_is_not_logged(site: Site, proxy: Ask, told: str) -> None:
    echo = {"valid": False, "error": f"no account takes {PASSWORD}"}
    proxy(answer(200, echo if told == "error" else {"valid": True, "username": PASSWORD}))
    assert (
        site.refusal("alice", PASSWORD) == INVALID
    )  # the fixture looks for the password in the log


def test_a_long_name_is_refused_before_anything_is_done_with_it(site: Site, proxy: Ask) -> None:
    asked = proxy().asked
    assert site.refusal("a" + "\u0301\u0316" * 75, PASSWORD) == INVALID
    assert not asked
    site.refusal("a" * 150, PASSWORD)
    assert len(asked) == 1


@pytest.mark.parametrize("password", ["x" * 5000, "\u20ac" * 700, "short", '"' * 3000])
def test_for_a_local_user_a_password_of_the_same_size_is_sent(
    site: Site, proxy: Ask, password: str
) -> None:
    """A body over 4096 bytes is answered at once: that must not tell local users from the
    others."""
    asked = proxy(WRONG).asked
    User.objects.create_user("alice", "alice@example.com", None)
    for name in ("alice", "carol"):
        site.refusal(name, password)
    local, other = (len(each.body) for each in asked)
    least = len(
        json.dumps({"username": "alice", "password": "x" * 43})
    )  # what cannot be guessed is so long
    assert local == max(other, least)


def test_guesses_at_local_passwords_count_while_the_nas_is_down(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALLOW_LOCAL_USERS", "true")
    User.objects.create_user("alice", "alice@example.com", keep_secret("local-password"))
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert site.signals == [{"username": "alice"}]
    assert site.lets_in("alice", "local-password") == "alice"


@pytest.mark.parametrize("name", ["bob", "Alice ", "alicе", "", "akadmin", "root"])
def test_a_verdict_about_another_account_lets_nobody_in(site: Site, proxy: Ask, name: str) -> None:
    proxy(
        answer(200, {"valid": True, "username": name}), answer(200, {**ACCOUNT, "username": name})
    )
    assert site.refusal("alice", PASSWORD) == INVALID  # not known yet
    link("alice")
    assert site.refusal("alice", PASSWORD) == INVALID
    assert set(User.objects.values_list("username", flat=True)) == {"akadmin", "alice"}


def test_a_known_user_needs_the_very_spelling(site: Site, proxy: Ask) -> None:
    proxy(answer(200, {"valid": True, "username": "ALICE"}))
    link("alice")
    assert site.refusal("alice", PASSWORD) == INVALID


def test_a_proxy_that_says_yes_to_everything_does_not_open_a_local_account(
    site: Site, proxy: Ask
) -> None:
    proxy(answer(200, {"valid": True, "username": "akadmin"}))
    assert site.refusal("akadmin", PASSWORD) == INVALID
    proxy()
    User.objects.create_user("alice", "alice@example.com", None)
    assert site.refusal("alice", PASSWORD) == INVALID


@pytest.mark.parametrize("name", AKADMINS)
def test_akadmin_is_not_created_however_the_nas_spells_it(
    site: Site, proxy: Ask, name: str
) -> None:
    proxy(
        answer(200, {"valid": True, "username": name}), answer(200, {**ACCOUNT, "username": name})
    )
    site.admin.delete()
    assert site.refusal(name, PASSWORD) == INVALID
    assert not User.objects.exists()


@pytest.mark.parametrize("status", [400, 413])
def test_what_the_service_calls_malformed_is_a_wrong_login(
    site: Site, proxy: Ask, status: int
) -> None:
    proxy(answer(status, {"valid": False, "error": "Username has a colon"}))
    assert site.refusal("alice", PASSWORD) == INVALID


@pytest.mark.parametrize(
    ("header", "minutes"),
    [
        ("Retry-After: 1", 1),
        ("Retry-After: 60", 1),
        ("Retry-After: 61", 2),
        ("Retry-After: 300", 5),
        ("X-No: 1", 5),
    ]
    + [
        ("Retry-After: 0", 1),
        ("Retry-After: -5", 5),
        ("Retry-After: Thu, 01 Jan 1970", 5),
        ("Retry-After: " + "9" * 99, 5),
    ],
)
def test_too_many_failed_logins(site: Site, proxy: Ask, header: str, minutes: int) -> None:
    proxy(answer(429, {"valid": False, "error": "Too many failed logins"}, [header]))
    assert (
        site.refusal("alice", PASSWORD)
        == f"Too many failed logins. Try again in {minutes} minutes."
    )
    assert site.signals == [{"username": "alice"}]


BAD_FIELDS: list[tuple[str, object]] = [
    *(("uid", value) for value in ("1005", True, None, 1.5)),
    *(("gid", value) for value in ("100", False)),
    *(("groups", value) for value in ("users", None, [1], {"users": 1})),
    *(("full_name", value) for value in (None, 1)),
    *(("email", value) for value in (None, ["a@b.c"])),
    *(("active", value) for value in (None, 0, 1, "false", "", ["true"])),
    ("home", None),
]
BAD_ACCOUNTS: dict[str, Answer] = {
    "503": answer(503, {"exists": False, "error": "group cannot be read"}),
    "401": answer(401, {"exists": False, "error": "Unauthorized"}),
    "429": answer(429, {"exists": False}),
    "an account with 404": answer(404, ACCOUNT),
    "no JSON": answer(200, b"?"),
    "a list": answer(200, [ACCOUNT]),
    "silence": silent,
    "closed": b"",
    "exists as a string": answer(200, {**ACCOUNT, "exists": "true"}),
    "another account": answer(200, {**ACCOUNT, "username": "bob"}),
    "another spelling": answer(200, {**ACCOUNT, "username": "Alice"}),
    **{f"{key} {value!r}": answer(200, {**ACCOUNT, key: value}) for key, value in BAD_FIELDS},
    **{
        f"no {key}": answer(200, {k: v for k, v in ACCOUNT.items() if k != key})
        for key in ("uid", "groups", "email")
    },
}


@pytest.mark.parametrize("case", BAD_ACCOUNTS)
def test_an_account_that_is_not_one_lets_nobody_in(site: Site, proxy: Ask, case: str) -> None:
    proxy(user_info=BAD_ACCOUNTS[case])
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert not User.objects.filter(username="alice").exists()
    link("alice")
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert all("no verdict: /user-info" in line for line in site.log)


@pytest.mark.parametrize(
    "change", [{"is_active": False}, {"attributes": {}}, {"username": "akadmin"}], ids=str
)
def test_a_user_that_changes_while_the_nas_is_asked_is_refused(
    site: Site, proxy: Ask, change: dict[str, object]
) -> None:
    site.admin.delete()
    link("alice")

    def tell(connection: socket.socket, over: threading.Event) -> None:
        User.objects.filter(username="alice").update(**change)
        connections.close_all()
        connection.sendall(KNOWN)

    proxy(user_info=tell)
    assert site.refusal("alice", PASSWORD) == INVALID


@pytest.mark.parametrize(
    ("name", "full_name", "shown"),
    [
        ("alice", "Dr. A. Liddell", "Dr. A. Liddell"),
        ("alice", "alice", "Alice"),
        ("alice", "", "Alice"),
    ]
    + [("al-ice", "", "Al Ice"), ("_", "", "_")],
)
def test_the_full_name_is_that_of_the_nas_or_else_the_name_made_readable(
    site: Site, proxy: Ask, name: str, full_name: str, shown: str
) -> None:
    account = {**ACCOUNT, "username": name, "full_name": full_name}
    proxy(answer(200, {"valid": True, "username": name}), answer(200, account))
    assert site.lets_in(name, PASSWORD) == name
    assert user(name).name == shown


def test_an_account_that_is_locked_or_expired_is_refused(site: Site, proxy: Ask) -> None:
    proxy(user_info=answer(200, {**ACCOUNT, "active": False}))
    for known in (False, True):
        if known:
            link("alice")
        assert site.refusal("alice", PASSWORD) == INVALID
        assert User.objects.filter(username="alice").exists() is known
    assert (
        len([line for line in site.log if "the NAS account is locked or has expired" in line]) == 2
    )
    assert site.signals == [{"username": "alice"}] * 2
    proxy(user_info=answer(200, {**ACCOUNT, "active": True}))
    assert site.lets_in("alice", PASSWORD) == "alice"


def test_a_service_that_does_not_say_whether_an_account_is_active_is_believed(
    site: Site, proxy: Ask
) -> None:
    assert "active" not in ACCOUNT
    proxy()
    assert site.lets_in("alice", PASSWORD) == "alice"


def test_an_account_that_is_removed_between_both_questions_is_refused(
    site: Site, proxy: Ask
) -> None:
    proxy(user_info=answer(200, {"exists": False, "error": "User not found"}))
    assert site.refusal("alice", PASSWORD) == INVALID
    assert not User.objects.filter(username="alice").exists()


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1:{port}", "ConnectionRefusedError"),
        ("http://no-such-host.invalid", "gaierror"),
        ("https://127.0.0.1:{port}", "ConnectionRefusedError"),
    ],
)
def test_a_proxy_that_is_not_there_lets_nobody_in(
    site: Site, monkeypatch: pytest.MonkeyPatch, url: str, cause: str
) -> None:
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", url.format(port=free_port()))
    link("alice")
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert any(line.startswith("error") and f" < {cause}" in line for line in site.log)


def test_a_connection_made_after_the_deadline_carries_nothing(
    site: Site, proxy: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = proxy().asked
    resolve, refused = socket.getaddrinfo, threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        assert refused.wait(BOUND)
        return resolve(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    before = set(threading.enumerate())
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    refused.set()
    none_is_left(before)
    assert not asked


def test_plain_http_where_tls_was_set_up_lets_nobody_in(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", f"https://127.0.0.1:{nas.port}")
    assert site.refusal("jane.doe", right("jane.doe")) == UNREACHABLE
    # it waits for the end of what it takes for a head; few handshakes have an empty line by chance
    assert any(
        re.search("^error.*/validate at https:.*(no whole answer within|SSLError)", line)
        for line in site.log
    )


HANDSHAKES: dict[str, Answer] = {
    "silence": silent,
    "a drip": dripping(
        b"\x16\x03\x03\x40\x00" + b"\x02" * 900
    ),  # a record of TLS that goes on and on
}


@pytest.mark.parametrize("case", HANDSHAKES)
def test_a_handshake_that_never_ends_lets_nobody_in(
    site: Site, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    before = set(threading.enumerate())
    with Hostile(greeting=HANDSHAKES[case]) as stub:
        monkeypatch.setenv("UGOS_AUTH_PROXY_URL", stub.url.replace("http:", "https:"))
        assert site.refusal("alice", PASSWORD) == UNREACHABLE
        none_is_left(before)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_private_certificate_is_trusted_where_it_is_named_and_nowhere_else(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trusted: bool
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=nas"
    )
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    running = start(AUTH_TOKEN=TOKEN, TLS_CERT=cert, TLS_KEY=key)
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", f"https://127.0.0.1:{running.port}")
    monkeypatch.setenv("UGOS_AUTH_PROXY_TOKEN", TOKEN)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))  # must not count
    if trusted:
        monkeypatch.setenv("UGOS_AUTH_PROXY_CA", str(cert))
        assert site.lets_in("des", right("des")) == "des"
    else:
        assert site.refusal("des", right("des")) == UNREACHABLE
        assert not any("event=request" in line for line in running.log_lines())


BAD_SETTINGS = {
    "UGOS_AUTH_PROXY_URL": ["ftp://nas", "nas:8080", "file:///etc/passwd"],
    "UGOS_AUTH_PROXY_TOKEN": ["a token\nX-Other: b", "t\u00f6ken-of-some-length \u20ac"],
    "UGOS_AUTH_PROXY_CA": ["/no/such/file.pem"],
    "GROUP_MAP": ["admin:admins", "[]", '{"admin": 5}', '{"admin": ["admins"]}', "null"],
    "ALLOW_LOCAL_USERS": ["yes", "2", '"true"', "null"],
    "ALLOW_SUPERUSER_GROUPS": ["on", "{}"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_SETTINGS.items() for value in values]
)
def test_a_bad_setting_lets_nobody_in(
    site: Site, proxy: Ask, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    proxy()
    if name == "UGOS_AUTH_PROXY_CA":
        monkeypatch.setenv("UGOS_AUTH_PROXY_URL", f"https://127.0.0.1:{free_port()}")
    monkeypatch.setenv(name, value)
    keep_secret(value if name == "UGOS_AUTH_PROXY_TOKEN" else PASSWORD)
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    named = (
        name if name not in {"UGOS_AUTH_PROXY_TOKEN", "UGOS_AUTH_PROXY_CA"} else "/validate at "
    )  # as they are used
    assert any(line.startswith("error") and f"no verdict: {named}" in line for line in site.log)


def edit(site: Site, setting: str) -> None:
    """Write it into the policy, in place of the one of that name."""
    policy: Any = site.policies["ugos-password-validation-policy"]
    name = setting.partition(" ")[0]
    policy.expression, found = re.subn(
        f"^{name} = .*$", setting, policy.expression, flags=re.MULTILINE
    )
    assert found == 1


def test_without_settings_the_service_of_the_compose_file_is_asked(site: Site) -> None:
    assert site.refusal("alice", PASSWORD) == UNREACHABLE  # it is not there
    assert any(" /validate at http://ugos-auth-proxy:8080: " in line for line in site.log)


def test_without_a_default_domain_and_a_group_of_all_there_are_none(site: Site, proxy: Ask) -> None:
    proxy()
    edit(site, 'DEFAULT_EMAIL_DOMAIN = ""')
    edit(site, 'UGOS_USERS_GROUP = ""')
    assert site.lets_in("alice", PASSWORD) == "alice"
    assert user("alice").email == ""
    assert groups("alice") == set()
    assert not any(line.startswith("warning") for line in site.log)


def test_a_setting_edited_to_a_wrong_type_lets_nobody_in(site: Site, proxy: Ask) -> None:
    proxy()
    policy: Any = site.policies["ugos-password-validation-policy"]
    before = policy.expression
    for edited in ('ALLOW_LOCAL_USERS = "False"', "GROUP_MAP = []", "UGOS_AUTH_PROXY_URL = None"):
        policy.expression = before
        edit(site, edited)
        User.objects.filter(username="alice").delete()
        User.objects.create_user("alice", "alice@example.com", keep_secret(PASSWORD))
        assert site.refusal("alice", PASSWORD)


def test_no_proxy_variable_and_no_netrc_is_followed(
    site: Site, proxy: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = Hostile(RIGHT)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, elsewhere.url)
    netrc = tmp_path / "netrc"
    netrc.write_text("default login thief password thief-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with elsewhere:
        asked = proxy().asked
        assert site.lets_in("alice", PASSWORD) == "alice"
        assert not elsewhere.asked
    assert {each.headers["Authorization"] for each in asked} == {f"Bearer {TOKEN}"}


def test_an_authentik_that_the_policy_does_not_know_lets_nobody_in(
    site: Site, proxy: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = proxy().asked
    monkeypatch.setitem(sys.modules, "authentik.core.signals", None)
    assert site.refusal("alice", PASSWORD) == UNREACHABLE
    assert any(
        line.startswith("error") and line.count("not one that it knows: ModuleNotFound")
        for line in site.log
    )
    assert not asked


def test_where_nobody_has_been_identified_nobody_gets_in(site: Site, proxy: Ask) -> None:
    asked = proxy().asked
    site.store.rows.remove(site.bindings("ugos-authentication")[0])
    browser = site.browser()
    browser.start("ugos-authentication")
    assert browser.submit(password=keep_secret(PASSWORD)).errors == [UNREACHABLE]
    assert any("no verdict: no user has been identified" in line for line in site.log)
    assert not asked


def test_an_answer_that_is_late_leaves_no_thread_behind(site: Site, proxy: Ask) -> None:
    before = set(threading.enumerate())
    for told in (silent, dripping(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 900)):
        proxy(told)
        assert site.refusal("alice", PASSWORD) == UNREACHABLE
    none_is_left(before)
