"""A NAS that lies, drips or breaks: what the real ugos-auth-proxy never does. Nothing of it is a
verdict: nobody comes in, no user is made, no refusal is counted, and it has an end."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from authserver.accounts.models import Refusal, User
from tests.processes import keep_secret
from tests.server import Server

PASSWORD = keep_secret("right at the NAS")
INFO: dict[str, Any] = {
    "exists": True,
    "username": "bob",
    "uid": 1234,
    "gid": 100,
    "full_name": "Bob",
    "email": "bob@nas.example",
    "home": "/home/bob",
    "shell": "/bin/sh",
    "groups": ["users", "family"],
    "active": True,
}
RIGHT: dict[str, Any] = {"valid": True, "username": "bob"}


def http(body: Any, status: str = "200 OK", headers: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{headers}Connection: close\r\n\r\n"
    return head.encode() + raw


class FakeNas:
    """Answers `/validate` and `/user-info` with the bytes, or by the function, that are set."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.validate: Any = http(RIGHT)
        self.user_info: Any = http(INFO)
        self.requests: list[bytes] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(
                    target=self.answer, args=(self.listener.accept()[0],), daemon=True
                ).start()

    def answer(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += peer.recv(65_536)
            self.requests.append(request)
            found = self.validate if b" /validate " in request else self.user_info
            if isinstance(found, bytes):
                peer.sendall(found)
            else:
                found(peer)


@pytest.fixture(scope="module")
def nas() -> Iterator[FakeNas]:
    fake = FakeNas()
    yield fake
    fake.listener.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, nas: FakeNas) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("server"),
        UGOS_AUTH_PROXY_URL=nas.url,
        UGOS_AUTH_PROXY_TOKEN="a-token-of-the-fake-nas",
        MAX_FAILURES=2,
    )
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def honest(nas: FakeNas, server: Server) -> None:
    """Before each test the NAS is honest, and nobody is known."""
    nas.validate, nas.user_info = http(RIGHT), http(INFO)
    with server.database():
        User.objects.all().delete()
        Refusal.objects.all().delete()


def test_an_honest_one_lets_in(server: Server, nas: FakeNas) -> None:
    server.browser().signed_in("bob", PASSWORD)
    head = nas.requests[-2].partition(b"\r\n\r\n")[0].lower()
    assert head.count(b"x-forwarded-for:") == 1
    assert b"authorization: bearer a-token-of-the-fake-nas" in head


def drip(peer: socket.socket) -> None:
    for byte in http(RIGHT, headers="X-Filler: " + "x" * 500 + "\r\n"):
        peer.sendall(bytes([byte]))
        time.sleep(0.05)


def drip_the_body(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n")
    for byte in json.dumps(RIGHT).encode():
        peer.sendall(bytes([byte]))
        time.sleep(0.5)


def flood(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        peer.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")


def silence(peer: socket.socket) -> None:
    while peer.recv(65_536):  # until the server has given up
        pass


def hang_up(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_RDWR)


FAULTS: dict[str, Any] = {
    "says true as text": http({"valid": "true", "username": "bob"}),
    "says one": http({"valid": 1, "username": "bob"}),
    "says yes": http({"valid": "yes", "username": "bob"}),
    "says nothing": http({}),
    "says null": http({"valid": None}),
    "says false without why": http({"valid": False}),
    "says false with a number": http({"valid": False, "error": 5}),
    "says true without a name": http({"valid": True}),
    "says true with an empty name": http({"valid": True, "username": ""}),
    "says true with a number for a name": http({"valid": True, "username": 5}),
    "says true with a list for a name": http({"valid": True, "username": ["bob"]}),
    "says true with half a character": http(b'{"valid": true, "username": "bob\\ud800"}'),
    "says true with a NUL": http({"valid": True, "username": "bob\0"}),
    "says both": http({"valid": True, "username": "bob", "error": "Invalid credentials"}),
    "says it twice": http(b'{"valid": false, "valid": true, "username": "bob"}'),
    "is a list": http([RIGHT]),
    "is a text": http("valid"),
    "is no JSON": http(b"<html>valid: true</html>"),
    "is deep": http(b"[" * 60_000),
    "is empty": http(b""),
    "is not UTF-8": http(b'{"valid": true, "username": "\xff"}'),
    "is UTF-16": http(json.dumps(RIGHT).encode("utf-16")),
    "is 201": http(RIGHT, "201 Created"),
    "is 400": http({"valid": False, "error": "bad"}, "400 Bad Request"),
    "is 401": http({"valid": False, "error": "token"}, "401 Unauthorized"),
    "is 404": http(RIGHT, "404 Not Found"),
    "is 500": http(RIGHT, "500 Internal Server Error"),
    "is 503": http(RIGHT, "503 Service Unavailable"),
    "is no HTTP": b"220 mail.example ESMTP\r\n",
    "ends too soon": b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"valid": true',
    "hangs up": hang_up,
}
SLOW: dict[str, Callable[[socket.socket], None]] = {
    "drips its head": drip,
    "drips its body": drip_the_body,
    "never ends": flood,
    "says nothing at all": silence,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_login_without_a_verdict_is_503(server: Server, nas: FakeNas, fault: str) -> None:
    nas.validate = FAULTS[fault]
    no_verdict(server)


@pytest.mark.once
@pytest.mark.parametrize("fault", SLOW)
def test_five_seconds_are_for_a_whole_answer(server: Server, nas: FakeNas, fault: str) -> None:
    nas.validate = SLOW[fault]
    began = time.monotonic()
    no_verdict(server)
    if fault != "never ends":  # that one is cut off by its size
        assert time.monotonic() - began >= 4.9


def no_verdict(server: Server) -> None:
    answer = server.browser().sign_in("bob", PASSWORD)
    assert answer.status_code == 503, answer.text
    assert "The NAS cannot be reached. Try again later." in answer.text
    assert answer.headers["retry-after"]
    with server.database():
        assert not User.objects.exists()
        assert not Refusal.objects.exists()


def test_a_redirect_is_not_followed(server: Server, nas: FakeNas) -> None:
    for status in ("301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Too"):
        nas.validate = http(RIGHT, status, f"Location: {nas.url}/user-info\r\n")
        before = len(nas.requests)
        no_verdict(server)
        assert len(nas.requests) == before + 1


def changed(**fields: Any) -> bytes:
    return http({**INFO, **fields})


LIES: dict[str, bytes] = {
    "there is none": http({"exists": False, "error": "User not found"}),
    "exists is text": changed(exists="true"),
    "exists is one": changed(exists=1),
    "another name": changed(username="alice"),
    "another case": changed(username="BOB"),
    "no name": changed(username=""),
    "uid is text": changed(uid="1234"),
    "uid is a float": changed(uid=1234.0),
    "uid is true": changed(uid=True),
    "uid is zero": changed(uid=0),
    "uid is negative": changed(uid=-5),
    "uid is huge": changed(uid=2**80),
    "uid is null": changed(uid=None),
    "groups is text": changed(groups="admin"),
    "groups is null": changed(groups=None),
    "groups has a number": changed(groups=[5]),
    "groups is an object": changed(groups={"admin": True}),
    "name is a number": changed(full_name=5),
    "name has a NUL": changed(full_name="B\0b"),
    "name has half a character": http(json.dumps(INFO).replace("Bob", "\\ud800").encode()),
    "email is a list": changed(email=["a@b"]),
    "active is text": changed(active="yes"),
    "active is one": changed(active=1),
    "active is null": changed(active=None),
    "500": http(INFO, "500 Oops"),
    "not JSON": http(b"bob"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_user_info_at_the_first_login_makes_no_user(
    server: Server, nas: FakeNas, lie: str
) -> None:
    nas.user_info = LIES[lie]
    no_verdict(server)


def test_an_account_that_is_not_active_is_refused_and_no_user_is_made(
    server: Server, nas: FakeNas
) -> None:
    nas.user_info = changed(active=False)
    answer = server.browser().sign_in("bob", PASSWORD)
    assert (answer.status_code, "Wrong name or password." in answer.text) == (200, True)
    with server.database():
        assert not User.objects.exists()


def test_a_name_that_cannot_be_one_here_is_refused(server: Server, nas: FakeNas) -> None:
    for name in ("a b", "x" * 200, "a@b", "a,b"):
        nas.validate = http({"valid": True, "username": name})
        nas.user_info = changed(username=name)
        answer = server.browser().sign_in(f"who-{len(name)}-{name[:1]}{name[1:2] == ' '}", PASSWORD)
        assert (answer.status_code, "Wrong name or password." in answer.text) == (200, True)
    with server.database():
        assert not User.objects.exists()


def test_an_old_proxy_that_does_not_say_active_is_believed(server: Server, nas: FakeNas) -> None:
    old = {name: value for name, value in INFO.items() if name != "active"}
    nas.user_info = http(old)
    server.browser().signed_in("bob", PASSWORD)


def test_a_429_without_a_time_is_one_minute(server: Server, nas: FakeNas) -> None:
    for header in ("", "Retry-After: soon\r\n", "Retry-After: -1\r\n", "Retry-After: 99999999\r\n"):
        nas.validate = http({"valid": False, "error": "x"}, "429 Too Many", header)
        answer = server.browser().sign_in("bob", PASSWORD)
        assert answer.status_code == 429
        assert "Try again in 1 minute." in answer.text
        assert answer.headers["retry-after"] == "60"


def test_another_account_s_name_in_the_answer_does_not_come_in_as_it(
    server: Server, nas: FakeNas
) -> None:
    server.browser().signed_in("bob", PASSWORD)
    nas.validate = http({"valid": True, "username": "alice"})
    nas.user_info = changed(username="alice", uid=4321)
    answer = server.browser().sign_in("bob", PASSWORD)
    assert (answer.status_code, "Wrong name or password." in answer.text) == (200, True)


def test_an_answer_no_longer_counts_where_it_lies_about_an_open_session(
    server: Server, nas: FakeNas
) -> None:
    from tests.test_nas_standing import make_older

    browser = server.browser().signed_in("bob", PASSWORD)
    for lie in ("uid is text", "active is one", "groups is null", "exists is text"):
        nas.user_info = LIES[lie]
        make_older(server, "bob", 61)
        assert browser.is_signed_in()  # no verdict: the last answer counts
        make_older(server, "bob", 901)
        assert not browser.is_signed_in()
    nas.user_info = http(INFO)
    make_older(server, "bob", 61)
    assert browser.is_signed_in()
    nas.user_info = changed(active=False)
    make_older(server, "bob", 61)
    assert not browser.is_signed_in()
    with server.database():
        assert not User.objects.get(identifier="bob").sessions.exists()


def test_a_proxy_of_the_environment_is_not_used(
    tmp_path_factory: pytest.TempPathFactory, nas: FakeNas
) -> None:
    nowhere: dict[str, Any] = dict.fromkeys(("HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    server = Server(
        tmp_path_factory.mktemp("server"),
        UGOS_AUTH_PROXY_URL=nas.url,
        UGOS_AUTH_PROXY_TOKEN="a-token-of-the-fake-nas",
        **nowhere,
        **{name.lower(): value for name, value in nowhere.items()},
    )
    try:
        server.browser().signed_in("bob", PASSWORD)
    finally:
        server.stop()
