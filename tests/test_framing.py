"""HTTP as it arrives: what is no proper request, sizes, the order of judgement, and what every
answer has."""

import contextlib
import itertools
import re
import select
import socket

import pytest
from etc import right
from secrecy import TOKEN, WRONG
from service import Service, Start
from wire import HEALTH, Wire, login, post

import main

REFUSALS: dict[bytes, dict[str, bool]] = {
    b"POST /validate": {"valid": False},
    b"GET /user-info?username=des": {"exists": False},
    b"GET /health": {},
    b"GET /ready": {},
    b"GET /nowhere": {},
}

# header lines, the last of them bad or with a line end that is
BAD_HEADERS = {
    "a bare CR as line end": b"Host: nas\rX",
    "a bare LF as line end": b"Host: nas\n",
    "a bare LF at the end of the head": b"Host: nas\r\n\n",
    "a NUL in a name": b"Ho\0",
    "a NUL in a value": b"Host: nas\r\nX: y\0",
    "a folded line": b"Host: nas\r\nX: y\r\n ",
    "a line folded by a tab": b"Host: nas\r\nX: y\r\n\t",
    "a folded first line": b" ",
    "white space before the colon": b"Host :",
    "a tab before the colon": b"Host: nas\r\nX\t:",
    "no colon": b"Host: nas\r\nX\r\n",
    "two Content-Length": b"Host: nas\r\nContent-Length: 2\r\ncontent-length: 2\r\n",
    "two Host": b"Host: nas\r\nhost: nas\r\n",
}
BAD_LENGTHS = [
    "",
    "+2",
    "-1",
    "0_2",
    "2a",
    "0x2",
    "1 2",
    "2, 2",
    "2.0",
    "12345678901",
    "\u0662",
    "\xb2",
]

BAD_LINES = [
    b"",
    b"GET",
    b"GET /health",
    b"GET  /health HTTP/1.1",
    b"GET /health  HTTP/1.1",
    b" GET /health HTTP/1.1",
    b"GET /health HTTP/1.1 ",
    b"GET\t/health HTTP/1.1",
    b"GET /health HTTP/0.9",
    b"GET /health HTTP/1.2",
    b"GET /health HTTP/1.10",
    b"GET /health HTTP/2.0",
    b"GET /health http/1.1",
    b"GET /health HTTP/1.1\rX",
    b"GET /health HTTP/1.1\0",
    b"GET /hea lth HTTP/1.1",
    b"GET /h\xc3\xa4lth HTTP/1.1",
    b"GET health HTTP/1.1",
    b"GET http://nas/health HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT nas:80 HTTP/1.1",
    b"G(T /health HTTP/1.1",
]


@pytest.mark.parametrize("start", REFUSALS, ids=bytes.decode)
@pytest.mark.parametrize("bad", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_bad_head_gets_400_and_a_closed_connection(
    service: Service, bad: bytes, start: bytes
) -> None:
    with Wire(service) as wire:
        response = wire.send(start + b" HTTP/1.1\r\n" + bad + b"\r\nX: y\r\n\r\n").last()
    assert response.status == 400
    assert response.json == {**REFUSALS[start], "error": response.json["error"]}
    assert isinstance(response.json["error"], str)
    assert "Bad request" in response.json["error"]


@pytest.mark.parametrize("bad", [b"X : y", b"X: y\0", b"X: a\nY: b", b"X: a\rY: b", b"Host: nas"])
def test_a_head_is_judged_when_it_is_whole(service: Service, bad: bytes) -> None:
    with Wire(service) as wire, Wire(service) as other:
        wire.send(b"GET /health HTTP/1.1\r\nHost: nas\r\n" + bad + b"\r\n")
        for _ in range(20):  # the service has had the time to judge it
            assert other.send(HEALTH).answer().status == 200
        assert not select.select([wire.socket], [], [], 0)[0], "judged before its empty line"
        assert wire.send(b"\r\n").last().status == 400


ENDS = [b"\r\n\r\n", b"\n\n", b"\r\r", b"\n\r\n", b"\r\n\n", b"\r\n\rX", b"\r\r\n"]


@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_a_head_is_whole_at_its_first_empty_line_however_its_lines_end(
    service: Service, end: bytes
) -> None:
    for line in (b"GET /health HTTP/1.1\r\nHost: nas", b"GET /health HTTP/1.1\nHost: nas", b""):
        good = line.count(b"\r\n") == 1 and end == ENDS[0]
        with Wire(service) as wire:
            assert wire.send(line + end).answer().status == (200 if good else 400)


def test_a_head_that_comes_byte_by_byte_is_whole_no_earlier(service: Service) -> None:
    with Wire(service) as wire, Wire(service) as other:
        for end in (0, 1, 2):
            wire.send(HEALTH[: len(HEALTH) - 3] if not end else HEALTH[end - 4 :][:1])
            assert other.send(HEALTH).answer().status == 200
            assert not select.select([wire.socket], [], [], 0)[0]
        assert wire.send(b"\n").answer().status == 200


@pytest.mark.parametrize("start", REFUSALS, ids=bytes.decode)
def test_a_content_length_that_is_not_1_to_10_digits_gets_400(
    service: Service, start: bytes
) -> None:
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(service)) for _ in BAD_LENGTHS]
        for wire, length in zip(wires, BAD_LENGTHS, strict=True):
            head = f" HTTP/1.1\r\nHost: nas\r\nContent-Length: {length}\r\n\r\n"
            wire.send(start + head.encode())
        for wire in wires:
            response = wire.last()
            assert response.status == 400
            assert response.json == {**REFUSALS[start], "error": response.json["error"]}


@pytest.mark.parametrize("line", BAD_LINES, ids=repr)
def test_a_bad_request_line_gets_400_and_a_closed_connection(service: Service, line: bytes) -> None:
    with Wire(service) as wire:
        response = wire.send(line + b"\r\nHost: nas\r\n\r\n").last()
    assert response.status == 400
    assert response.json == {"error": response.json["error"]}


def test_a_request_line_that_ends_in_a_bare_lf_gets_400(service: Service) -> None:
    with Wire(service) as wire:
        assert wire.send(b"GET /health HTTP/1.1\nHost: nas\r\n\r\n").last().status == 400


def test_a_target_that_is_not_ascii_is_told_how_to_send_it(service: Service) -> None:
    for name in ("jürgen".encode(), "jürgen".encode("latin-1")):
        with Wire(service) as wire:
            target = b"GET /user-info?username=" + name
            response = wire.send(target + b" HTTP/1.1\r\nHost: nas\r\n\r\n").last()
        assert response.status == 400
        assert response.json == {"exists": False, "error": response.json["error"]}
        assert "percent-encoded" in response.json["error"]
        assert "?username=j%C3%BCrgen" in response.json["error"]


@pytest.mark.parametrize("start", REFUSALS, ids=bytes.decode)
def test_http_1_1_without_host_gets_400(service: Service, start: bytes) -> None:
    with Wire(service) as wire:
        response = wire.send(start + b" HTTP/1.1\r\nX: y\r\n\r\n").last()
    assert response.status == 400
    assert response.json == {**REFUSALS[start], "error": response.json["error"]}


@pytest.mark.parametrize("coding", ["chunked", "identity", "gzip, chunked", ""])
@pytest.mark.parametrize(
    "length", ["", "Content-Length: 5\r\n"], ids=["alone", "with Content-Length"]
)
def test_any_transfer_encoding_gets_501(service: Service, coding: str, length: str) -> None:
    with Wire(service) as wire:
        head = (
            f"POST /validate HTTP/1.1\r\nHost: nas\r\n{length}transfer-encoding: {coding}\r\n\r\n"
        )
        response = wire.send(head.encode() + b"0\r\n\r\n").last()
    assert response.status == 501
    assert list(response.json) == ["error"]


def test_a_request_line_may_have_8192_bytes(service: Service) -> None:
    line = b"GET /" + b"x" * (8192 - 14) + b" HTTP/1.1"
    with Wire(service) as wire:
        assert wire.send(line + b"\r\nHost: nas\r\n\r\n").answer().status == 404
    for longer in (line.replace(b"/", b"/x", 1) + b"\r\n\r\n", b"GET /" + b"x" * (8193 - 5)):
        with Wire(service) as wire:
            response = wire.send(longer).last()
        assert response.status == 414
        assert list(response.json) == ["error"]


@pytest.mark.parametrize("start", [b"GET /health", b"POST /validate"], ids=bytes.decode)
def test_a_head_may_have_32768_bytes(service: Service, start: bytes) -> None:
    head = start + b" HTTP/1.1\r\nHost: nas\r\n" + b"X: y\r\n" * 5000
    head += b"X: " + b"y" * (32_768 - len(head) - 7) + b"\r\n\r\n"
    with Wire(service) as wire:
        assert wire.send(head).answer().status == (200 if b"GET" in start else 415)
    for larger in (head.replace(b"nas", b"nas1"), head.removesuffix(b"\r\n\r\n") + b"y" * 5):
        with Wire(service) as wire:
            response = wire.send(larger).answer()
        assert response.status == 431
        assert list(response.json) == ["error"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post"])
def test_a_known_path_with_a_wrong_method_gets_405_and_allow(service: Service, method: str) -> None:
    for path, allowed in {
        "/validate": "POST",
        "/health": "GET, HEAD",
        "/user-info": "GET, HEAD",
    }.items():
        if method in allowed:
            continue
        with Wire(service) as wire:
            response = wire.send(f"{method} {path} HTTP/1.1\r\nHost: nas\r\n\r\n".encode()).answer(
                method == "HEAD"
            )
        assert response.status == 405
        assert response.headers["Allow"] == allowed
        assert response.json in (None, {"error": "Method not allowed"})


@pytest.mark.parametrize(
    "path", ["/", "/validate/", "//health", "/Health", "/health%20", "/user-info/des", "/%68ealth"]
)
def test_an_unknown_path_gets_404(service: Service, path: str) -> None:
    for method in ("GET", "POST", "BREW"):
        response = service.request(method, path)
        assert response.status == 404
        assert response.json == {"error": response.json["error"]}
        assert response.json["error"].startswith("Not found")
        assert all(name in response.json["error"] for name in main.ROUTES)


def test_requests_are_judged_in_the_order_of_the_contract(start: Start) -> None:
    service = start(AUTH_TOKEN=TOKEN)
    token = f"Authorization: Bearer {TOKEN}\r\n"
    large, json = "Content-Length: 4097\r\n", "Content-Type: application/json\r\n"
    for line, headers, status in (
        ("POST /validate", large + "X : y\r\n", 400),
        ("POST /nowhere", large, 404),
        ("PUT /validate", large, 405),
        ("POST /user-info", large, 405),
        ("POST /validate", large, 401),
        ("GET /user-info", large, 401),
        ("POST /validate", token + large, 413),
        ("GET /user-info", token + large, 413),
        ("GET /health", large, 413),
        ("POST /validate", token, 415),
        ("POST /validate", token + json, 400),
        ("GET /user-info", token, 400),
    ):
        with Wire(service) as wire:
            response = wire.send(f"{line} HTTP/1.1\r\nHost: nas\r\n{headers}\r\n".encode()).answer()
        assert response.status == status, (line, headers)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/jsonx", "application/x-www-form-urlencoded", "json", ""]
)
def test_another_content_type_gets_415(service: Service, kind: str) -> None:
    response = service.request("POST", "/validate", b"{}", {"Content-Type": kind})
    assert response.status == 415
    assert response.json["valid"] is False


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"]
)
def test_parameters_of_the_content_type_are_fine(service: Service, kind: str) -> None:
    assert service.request("POST", "/validate", b"{}", {"Content-Type": kind}).status == 400


@pytest.mark.parametrize("path", ["/validate", "/user-info", "/health"])
def test_a_body_over_4096_bytes_gets_413_before_it_is_read(service: Service, path: str) -> None:
    method = "POST" if path == "/validate" else "GET"
    for length in (4097, 9_999_999_999):
        with Wire(service) as wire:
            headers = f"Expect: 100-continue\r\nContent-Length: {length}\r\n"
            head = f"{method} {path} HTTP/1.1\r\nHost: nas\r\n{headers}\r\n"
            response = wire.send(head.encode()).last()
        assert response.status == 413
        assert "too large" in response.json["error"]
        refusal = {"/validate": {"valid": False}, "/user-info": {"exists": False}}.get(path, {})
        assert response.json == {**refusal, "error": response.json["error"]}


def test_a_body_of_4096_bytes_is_read(service: Service) -> None:
    with Wire(service) as wire:
        body = b'{"username": "des", "password": "%s"}' % right("des").encode()
        assert wire.send(post(body.ljust(4096))).answer().json == {"valid": True, "username": "des"}
        assert wire.send(HEALTH).answer().status == 200


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("POST /validate", "Content-Type: application/json\r\n", 413),
        ("POST /nowhere", "", 404),
        ("POST /health", "", 405),
        ("POST /validate", "Transfer-Encoding: chunked\r\n", 501),
        ("POST /validate", "X : y\r\n", 400),
        ("POST validate", "", 400),
    ],
)
def test_the_answer_arrives_while_a_large_body_is_in_flight(
    service: Service, request_line: str, headers: str, status: int
) -> None:
    with Wire(service) as wire:
        head = f"Host: nas\r\n{headers}Content-Length: 8000000\r\n\r\n"
        wire.send(f"{request_line} HTTP/1.1\r\n{head}".encode())
        wire.send(b"x" * 8_000_000)
        assert wire.last().status == status


def test_a_connection_is_kept_alive_over_answers_and_errors(service: Service) -> None:
    with Wire(service) as wire:
        for _ in range(3):
            assert wire.send(HEALTH).answer().status == 200
            assert wire.send(login("des", right("des"))).answer().json["valid"] is True
            assert wire.send(login("des", WRONG)).answer().json["valid"] is False
            assert wire.send(post(b"not JSON")).answer().status == 400
            assert wire.send(post(b"{}", headers="")).answer().status == 415
            response = wire.send(post(b"some body", "/nowhere")).answer()
            assert response.status == 404
            assert "Connection" not in response.headers


def test_an_answer_leaves_in_one_piece(service: Service) -> None:
    with service.connect() as connection:
        for _ in range(50):
            connection.sendall(HEALTH)
            head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
            assert body.endswith(b"}\n")
            assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"


def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    requests = [
        HEALTH,
        login("des", right("des")),
        login("des", WRONG),
        HEALTH.replace(b"health", b"x"),
        post(b"{"),
    ]
    with Wire(service) as wire:
        wire.send(b"".join(requests * 3) + HEALTH[:-3])
        statuses = [wire.answer().status for _ in requests * 3]
        assert statuses == [200, 200, 200, 404, 400] * 3
        assert wire.send(HEALTH[-3:]).answer().status == 200


def test_what_follows_bad_framing_is_not_taken_for_a_request(service: Service) -> None:
    with Wire(service) as wire:
        response = wire.send(
            b"GET /health HTTP/1.1\r\nHost: nas\r\nContent-Length: 0\r\nX : y\r\n\r\n" + HEALTH
        ).last()
    assert response.status == 400


def test_http_1_0_needs_no_host_and_is_closed_after_the_answer(service: Service) -> None:
    with Wire(service) as wire:
        assert wire.send(b"GET /health HTTP/1.0\r\n\r\n").last().json["status"] == "healthy"


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, CLOSE", "x ,close"])
def test_connection_close_is_honoured(service: Service, value: str) -> None:
    with Wire(service) as wire:
        wire.send(HEALTH[:-2] + f"Connection: {value}\r\n\r\n".encode() + HEALTH)
        assert wire.last().status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/ready",
        "/user-info?username=des",
        "/user-info?username=no",
        "/user-info",
        "/nowhere",
        "/validate",
    ],
)
def test_head_gives_the_headers_of_get_and_no_body(service: Service, path: str) -> None:
    with Wire(service) as wire:
        got = wire.send(f"GET {path} HTTP/1.1\r\nHost: nas\r\n\r\n".encode()).answer()
        asked = wire.send(f"HEAD {path} HTTP/1.1\r\nHost: nas\r\n\r\n".encode()).answer(
            head_only=True
        )
        assert wire.send(HEALTH).answer().status == 200, "the body came all the same"
    assert asked.status == got.status
    assert [i for i in asked.headers.items() if i[0] != "Date"] == [
        i for i in got.headers.items() if i[0] != "Date"
    ]
    assert int(asked.headers["Content-Length"]) == len(got.raw)


def test_a_bad_head_of_a_head_request_gets_no_body_either(service: Service) -> None:
    with Wire(service) as wire:
        assert (
            wire.send(b"HEAD /health HTTP/1.1\r\nX : y\r\n\r\n").last(head_only=True).status == 400
        )


def test_a_body_that_waits_for_100_continue_is_asked_for(service: Service) -> None:
    head, _, body = login("des", right("des")).partition(b"\r\n\r\n")
    with Wire(service) as wire:
        wire.send(head + b"\r\nExpect: 100-Continue\r\n\r\n")
        assert [wire.file.readline() for _ in range(2)] == [b"HTTP/1.1 100 Continue\r\n", b"\r\n"]
        assert wire.send(body).answer().json["valid"] is True
        assert wire.send(HEALTH).answer().status == 200


def test_http_1_0_gets_no_100_continue(service: Service) -> None:
    head, _, body = (
        login("des", right("des")).replace(b"HTTP/1.1", b"HTTP/1.0").partition(b"\r\n\r\n")
    )
    with Wire(service) as wire:
        assert (
            wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n" + body).last().json["valid"]
            is True
        )


def test_single_byte_segments_make_a_request(service: Service) -> None:
    with Wire(service) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in (
            login("des", right("des")),
            HEALTH,
            b"GET /user-info?username=des HTTP/1.1\r\nhost:nas\r\n\r\n",
        ):
            for byte in request:
                wire.send(bytes([byte]))
            assert wire.answer().status == 200


@pytest.mark.parametrize(
    "part", [b"", b"GET /heal", HEALTH[:-2], login("des", WRONG)[:-1], HEALTH + HEALTH[:9]]
)
def test_the_end_of_the_stream_in_mid_request_is_no_request(service: Service, part: bytes) -> None:
    seen = len(service.log_lines())
    with Wire(service) as wire:
        wire.send(part)
        wire.socket.shutdown(socket.SHUT_WR)
        if part.startswith(HEALTH):
            assert wire.answer().status == 200
        assert wire.closed()
    assert service.request("GET", "/health").status == 200
    assert not any(
        re.search("level=(WARNING|ERROR)|verdict", line) for line in service.log_lines()[seen:]
    )


def test_the_client_may_end_its_stream_after_the_request(service: Service) -> None:
    with Wire(service) as wire:
        wire.send(login("des", right("des")))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().json["valid"] is True
        assert wire.closed()


def test_names_of_headers_are_case_insensitive_and_values_may_be_padded(service: Service) -> None:
    body = login("des", right("des")).partition(b"\r\n\r\n")[2]
    for type_name, length_name, pad in itertools.product(
        ("content-type", "CONTENT-TYPE"), ("content-length", "Content-LENGTH"), ("", " ", "\t \t")
    ):
        head = (
            f"POST /validate HTTP/1.1\r\nhOST:{pad}\r\n{type_name}:{pad}application/json{pad}\r\n"
        )
        with Wire(service) as wire:
            wire.send(f"{head}{length_name}:{pad}00{len(body)}{pad}\r\n\r\n".encode() + body)
            assert wire.answer().json["valid"] is True
