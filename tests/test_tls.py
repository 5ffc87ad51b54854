"""HTTPS: versions, handshakes that go wrong, and the same service behind it."""

import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from etc import right
from load import await_that, threads
from secrecy import WRONG
from service import Service, Start, parallel
from test_connections import until_cut
from wire import HEALTH, Wire, login


class Pair(NamedTuple):
    cert: Path
    key: Path


def make_pair(folder: Path) -> Pair:
    """A certificate for 127.0.0.1, and its key."""
    pair = Pair(folder / "cert.pem", folder / "key.pem")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=nas"
    )
    options = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-out",
        str(pair.cert),
        "-keyout",
        str(pair.key),
    ]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    return pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def start_tls(start: Start, pair: Pair) -> Start:
    return lambda **options: start(TLS_CERT=pair.cert, TLS_KEY=pair.key, **options)


Connect = Callable[..., Wire]


@pytest.fixture
def connect(pair: Pair) -> Connect:
    """A connection by TLS, of just this version if one is given."""

    def connect(service: Service, version: ssl.TLSVersion | None = None) -> Wire:
        context = ssl.create_default_context(cafile=str(pair.cert))
        if version:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        return Wire(context.wrap_socket(service.connect(), server_hostname="127.0.0.1"))

    return connect


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_log_in(
    start_tls: Start, connect: Connect, version: ssl.TLSVersion
) -> None:
    with connect(start_tls(), version) as wire:
        assert wire.send(login("des", right("des"))).answer().json == {
            "valid": True,
            "username": "des",
        }
        assert wire.send(login("des", WRONG)).answer().json["valid"] is False
        assert wire.send(HEALTH[:-2] + b"Connection: close\r\n\r\n").last().status == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_tls_is_refused(start_tls: Start, connect: Connect, version: ssl.TLSVersion) -> None:
    service = start_tls()
    with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
        connect(service, version)
    with connect(service) as wire:
        assert wire.send(HEALTH).answer().status == 200


@pytest.mark.parametrize(
    "sent", [b"", b"\x16\x03\x01\x02\0\1"], ids=["nothing", "the start of a hello"]
)
def test_a_client_that_says_nothing_blocks_no_other_and_is_cut(
    start_tls: Start, connect: Connect, sent: bytes
) -> None:
    service = start_tls(REQUEST_TIMEOUT=1.5)
    with Wire(service).send(sent) as silent:
        with connect(service) as wire:
            assert wire.send(login("des", right("des"))).answer().json["valid"] is True
        assert until_cut(silent) < 20


def test_a_request_that_drips_in_tls_is_cut(start_tls: Start, connect: Connect) -> None:
    service = start_tls(REQUEST_TIMEOUT=1)
    began = time.monotonic()
    with connect(service) as wire:
        until_cut(wire.send(b"GET /health HTTP/1.1\r\nX: "), b"y")
        assert time.monotonic() - began > 0.9


def test_a_connection_that_is_kept_alive_and_idle_is_cut(
    start_tls: Start, connect: Connect
) -> None:
    with connect(start_tls(REQUEST_TIMEOUT=1)) as wire:
        wire.send(HEALTH).answer()
        assert wire.closed()


def test_plain_http_gets_no_http_answer(start_tls: Start, connect: Connect) -> None:
    service = start_tls()
    with service.connect() as plain, contextlib.suppress(ConnectionResetError):
        plain.sendall(login("des", right("des")))
        plain.shutdown(socket.SHUT_WR)
        assert b"HTTP" not in plain.recv(4096)
    with connect(service) as wire:
        assert wire.send(HEALTH).answer().status == 200
    assert not any("event=verdict" in line or "ERROR" in line for line in service.log_lines())


def test_a_bad_request_in_tls_gets_its_answer(start_tls: Start, connect: Connect) -> None:
    with connect(start_tls()) as wire:
        assert wire.send(b"POST /validate HTTP/1.1\r\nX : y\r\n\r\n").last().json["valid"] is False


def test_the_end_of_a_connection_is_said_in_tls(start_tls: Start, pair: Pair) -> None:
    """RFC 8446, 6.1: without close_notify, a peer cannot tell an end from a cut."""
    context = ssl.create_default_context(cafile=str(pair.cert))
    with context.wrap_socket(
        start_tls().connect(), server_hostname="127.0.0.1", suppress_ragged_eofs=False
    ) as connection:
        connection.sendall(HEALTH[:-2] + b"Connection: close\r\n\r\n")
        while connection.recv(4096):  # raises SSLEOFError where it is not said
            pass


def test_a_full_service_closes_without_an_answer(start_tls: Start, connect: Connect) -> None:
    service = start_tls(MAX_CONNECTIONS=1, FAIL_DELAY=3)
    with connect(service) as busy:
        busy.send(login("nobody0", WRONG))
        service.wait_for_log("event=verdict user=nobody0 ")
        with Wire(service) as wire:
            assert wire.closed()
        with pytest.raises((ssl.SSLError, OSError)):
            connect(service)
        assert busy.answer().json["valid"] is False


def test_a_silent_client_makes_room(start_tls: Start, connect: Connect) -> None:
    service = start_tls(MAX_CONNECTIONS=1, REQUEST_TIMEOUT=60)
    with Wire(service) as silent, connect(service) as wire:
        assert wire.send(HEALTH).answer().status == 200
        assert silent.closed()


def test_one_of_the_two_files_alone_is_an_error(start: Start, pair: Pair) -> None:
    for options, missing in (
        ({"TLS_CERT": pair.cert}, "TLS_KEY"),
        ({"TLS_KEY": pair.key}, "TLS_CERT"),
    ):
        service = start(**options)
        assert service.process.poll() == 2
        (line,) = service.log_lines()
        assert missing in line


def test_connections_cut_during_the_handshake_leave_no_thread_behind(start_tls: Start) -> None:
    service = start_tls(MAX_CONNECTIONS=2, REQUEST_TIMEOUT=1)
    before = threads(service)
    with contextlib.ExitStack() as stack:
        for connection in parallel(lambda _: service.connect(), range(900)):
            stack.enter_context(connection)
        # the two are those that are let in
        await_that(
            lambda: threads(service) <= before + 2, "threads are kept as long as their peers like"
        )
