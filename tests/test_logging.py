"""The log: one line per request and per verdict, which no caller can forge, and no secret in any of
them.

That no secret and no trace of a bug is in any line is checked over the whole suite: see `leaks` in
secrecy.py.
"""

import http.client
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import secrecy
from etc import Etc, right
from secrecy import TOKEN, WRONG
from service import MAIN, Service, Start, free_port, parallel

LINE = re.compile(
    r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ level=[A-Z]+ event=[a-z-]+"
    r'( [a-z]+=([!#-\[\]-~]+|"([^"\\]|\\.)*"))*'
)


def lines_of(service: Service, event: str, after: int = 0) -> list[str]:
    return [line for line in service.log_lines()[after:] if f" event={event} " in line]


def fields(line: str) -> dict[str, str]:
    """The keys and values of a line, as a parser of logs would read it."""
    pairs = re.findall(r'([a-z]+)=("(?:[^"\\]|\\.)*"|[^ ]*)(?: |$)', line)
    assert " ".join("=".join(pair) for pair in pairs) == line
    assert len(dict(pairs)) == len(pairs), "a key twice"
    return dict(pairs)


def value(line: str, key: str) -> str:
    return fields(line)[key]


def test_a_login_is_one_request_line_and_one_verdict_line(start: Start) -> None:
    service = start(LOG_LEVEL="INFO")
    before = len(service.log_lines())
    service.validate("des", right("des"))
    service.wait_for_log("event=request ", before)
    verdict, request = service.log_lines()[before:]
    for pair in ("user=des", "client=127.0.0.1", "result=valid", "reason=PAM_SUCCESS"):
        assert f" {pair} " in verdict
    assert re.search(r" ms=\d+(\.\d+)?$", verdict)
    for pair in ("method=POST", "path=/validate", "status=200", "client=127.0.0.1"):
        assert f" {pair}" in request


@pytest.mark.parametrize(
    ("name", "password", "result", "reason"),
    [
        ("des", WRONG, "invalid", "PAM_AUTH_ERR"),
        ("no.such.user", WRONG, "invalid", "NO_SUCH_ACCOUNT"),
        ("system", right("system"), "invalid", "UID_NOT_SERVED"),
        ("des.expired", right("des.expired"), "invalid", "PAM_ACCT_EXPIRED"),
        ("des.agedout", right("des.agedout"), "invalid", "PAM_AUTHTOK_EXPIRED"),
        ("des.mustchange", right("des.mustchange"), "invalid", "PAM_NEW_AUTHTOK_REQD"),
    ],
)
def test_a_verdict_says_the_true_reason(
    service: Service, name: str, password: str, result: str, reason: str
) -> None:
    before = len(service.log_lines())
    service.validate(name, password)
    service.wait_for_log("event=request ", before)
    (line,) = lines_of(service, "verdict", before)
    assert (value(line, "user"), value(line, "result"), value(line, "reason")) == (
        name,
        result,
        reason,
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/ready", 200),
        ("GET", "/user-info?username=jane.doe&note=a-query-part", 200),
        ("GET", "/user-info", 400),
        ("GET", "/nowhere?username=jane.doe&note=a-query-part", 404),
        ("POST", "/health", 405),
        ("POST", "/validate", 415),
    ],
)
def test_each_request_is_one_line_without_its_query(
    service: Service, method: str, path: str, status: int
) -> None:
    before = len(service.log_lines())
    service.request(method, path)
    line = service.wait_for_log("event=request ", before)
    assert len(lines_of(service, "request", before)) == 1
    assert not lines_of(service, "verdict", before)
    assert (value(line, "method"), value(line, "path"), value(line, "status")) == (
        method,
        path.partition("?")[0],
        str(status),
    )
    assert "a-query-part" not in line
    assert "jane.doe" not in line


def test_every_request_on_a_kept_connection_is_a_line(service: Service) -> None:
    before = len(service.log_lines())
    with service.connect() as connection:
        for number in range(5):
            connection.sendall(f"GET /nowhere/{number} HTTP/1.1\r\nHost: nas\r\n\r\n".encode())
            assert b" 404 " in connection.recv(4096)
    service.wait_for_log("path=/nowhere/4 ", before)
    assert [value(line, "path") for line in lines_of(service, "request", before)] == [
        f"/nowhere/{n}" for n in range(5)
    ]


@pytest.mark.parametrize(
    "name",
    [
        "x result=valid reason=PAM_SUCCESS",
        'x" result="valid',
        "x\\",
        'x\\" result=valid user="y',
        "x=y",
        "two  words",
        "x\u2028time=2026-01-01T00",
        "x\u200b\u202eevil\u00ad",
        "x\U000e0001y",
        "j\u00f6rg",
        "u" * 256,
        '"' * 256,
    ],
    ids=lambda name: ascii(name)[:40],
)
def test_no_username_forges_a_field_or_a_line(service: Service, name: str) -> None:
    before = len(service.log_lines())
    assert service.validate(name, WRONG).status == 200
    service.wait_for_log("event=request ", before)
    (line,) = lines_of(service, "verdict", before)
    assert LINE.fullmatch(line) or not line.isascii()
    assert (value(line, "result"), value(line, "reason")) == ("invalid", "NO_SUCH_ACCOUNT")
    assert list(fields(line)) == [
        "time",
        "level",
        "event",
        "user",
        "client",
        "result",
        "reason",
        "ms",
    ]
    assert all(character.isprintable() for character in line)
    assert len(line) < 4096


@pytest.mark.parametrize(
    "name", ["x\nevent=verdict", "x\rX", "x\x1b[2J", "x\x00y", "x\x85y", "x\x9by"], ids=ascii
)
def test_a_control_character_in_a_username_is_refused_and_not_logged_raw(
    service: Service, name: str
) -> None:
    before = len(service.log_lines())
    assert service.validate(name, WRONG).status == 400
    line = service.wait_for_log("event=request ", before)
    assert not lines_of(service, "verdict", before)
    assert LINE.fullmatch(line)


@pytest.mark.parametrize(
    "path",
    [
        "/x%0Aevent=verdict",
        '/x"status=200',
        "/x\\",
        "/x=y;status=200",
        "/" + "p" * 5000,
        "/" + '"' * 5000,
    ],
)
def test_no_path_forges_a_field_or_a_line(service: Service, path: str) -> None:
    before = len(service.log_lines())
    with service.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: nas\r\n\r\n".encode())
        assert b" 404 " in connection.recv(4096)
    line = service.wait_for_log("event=request ", before)
    assert LINE.fullmatch(line)
    assert value(line, "status") == "404"
    assert len(line) < 4096


def test_a_request_line_that_cannot_be_read_is_logged_without_its_bytes(service: Service) -> None:
    before = len(service.log_lines())
    with service.connect() as connection:
        connection.sendall(b"GET /\x1b[31m\xff event=verdict HTTP/1.1\r\nHost: nas\r\n\r\n")
        assert b" 400 " in connection.recv(4096)
    line = service.wait_for_log("event=request ", before)
    assert LINE.fullmatch(line)
    assert value(line, "status") == "400"


def test_every_line_of_a_busy_service_has_the_form(service: Service) -> None:
    parallel(lambda n: service.validate(f"name {n}", WRONG), range(40))
    parallel(lambda n: service.request("GET", f"/{n}"), range(40))
    assert len(lines_of(service, "request")) >= 80
    assert [
        line for line in service.log_lines() if not LINE.fullmatch(line) and line.isascii()
    ] == []


def test_the_levels_leave_out_what_is_below_them(start: Start) -> None:
    def levels(least: str) -> set[str]:
        service = start(LOG_LEVEL=least, PAM_SERVICE="not-there")  # which is warned of
        service.validate("des", WRONG)
        service.stop()
        return {value(line, "level") for line in service.log_lines()}

    assert {"INFO", "WARNING"} <= levels("DEBUG")
    assert levels("INFO") == {"INFO", "WARNING"}
    assert levels("WARNING") == {"WARNING"}
    assert levels("ERROR") == set()


def test_an_outage_is_an_error_in_the_log_with_its_reason(start: Start, etc: Etc) -> None:
    service = start(LOG_LEVEL="WARNING")
    service.await_port()
    (etc.path / "passwd").unlink()
    service.validate("des", right("des"))
    for path in ("/user-info?username=des", "/ready"):
        assert service.request("GET", path).status == 503
    service.stop()
    lines = [fields(line) for line in service.log_lines()]
    told = [(line["level"], line["event"], line.get("path")) for line in lines]
    assert told == [
        ("ERROR", "verdict", None),
        ("ERROR", "request", "/validate"),
        ("ERROR", "request", "/user-info"),
        ("ERROR", "request", "/ready"),
    ]
    assert all("/etc/passwd" in line["reason"] for line in lines)
    assert [line.get("status") for line in lines] == [None, "503", "503", "503"]


def test_a_refusal_is_no_error_and_has_no_reason_in_its_request(service: Service) -> None:
    for path in ("/nowhere", "/user-info", "/user-info?username=no.such.user"):
        before = len(service.log_lines())
        service.request("GET", path)
        line = fields(service.wait_for_log("event=request ", before))
        assert (line["level"], "reason" in line) == ("INFO", False)


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_what_is_polled_is_for_debug_only_while_all_is_well(service: Service, path: str) -> None:
    before = len(service.log_lines())
    service.request("GET", path)
    assert value(service.wait_for_log("event=request ", before), "level") == "DEBUG"


def test_a_full_service_is_an_error_in_the_log(start: Start) -> None:
    service = start(MAX_CONNECTIONS=1, FAIL_DELAY=2, LOG_LEVEL="INFO")
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(service.validate, "des", WRONG)
        service.wait_for_log("event=verdict ")
        assert service.request("GET", "/health").status == 503
        assert held.result().status == 200
    line = fields(service.wait_for_log("event=full "))
    assert (line["level"], line["status"], line["reason"]) == ("ERROR", "503", "FULL")


def test_no_secret_is_logged_in_any_error(start: Start) -> None:
    """What could tempt a log line to repeat a secret; `leaks` looks for all of them, as at the end
    of the suite."""
    service = start(AUTH_TOKEN=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    for body in (
        b'{"username": "des", "password": "a-secret-half-sent',
        b'{"username": "des", "password": "a-secret-twice", "password": "a-secret-twice"}',
        b'{"username": "des", "password": "a-secret-number\\ud800"}',
        b'{"username": ["a-secret-list"], "password": 5}',
    ):
        assert service.request("POST", "/validate", body, bearer).status == 400
    secrecy.keep_secret("a-secret-token-that-is-wrong")
    for headers in (
        {"Authorization": "Bearer a-secret-token-that-is-wrong"},
        {"Authorization": TOKEN},
        {},
    ):
        assert service.request("GET", "/user-info?username=des", headers=headers).status == 401
    assert service.validate("des", right("des")).json["valid"] is True
    service.stop()
    secrecy.SECRETS |= {"a-secret-half-sent", "a-secret-twice", "a-secret-number", "a-secret-list"}
    assert secrecy.leaks() == []
    assert len(service.log_lines()) > 8


def test_the_check_for_leaks_finds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (
        f"level=INFO user={WRONG} ",
        'body={"username": "des", "password": "x"}',
        "Traceback (most recent call last):",
        "time=x level=ERROR event=bug error=KeyError",
    ):
        monkeypatch.setattr("secrecy.LOGGED", ["level=INFO event=start", line])
        assert secrecy.leaks() == [line]


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    port = free_port()
    env = {"HOST": "127.0.0.1", "PORT": str(port)}
    with subprocess.Popen([sys.executable, MAIN], env=env, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr
            while b"event=start" not in (line := process.stderr.readline()):
                assert line
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            for _ in range(1500):  # more lines than a pipe holds
                connection.request("GET", "/health")
                assert b"healthy" in connection.getresponse().read()
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
