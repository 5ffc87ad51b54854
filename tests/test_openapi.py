"""openapi.yaml says what the service does: schemathesis tries it, and every answer is held against
it.

Beyond this file, service.py and wire.py do that with the answers that the other tests get.
"""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import openapi
import pytest
from etc import Etc
from openapi_spec_validator import validate
from secrecy import TOKEN, WRONG, keep_secret
from service import MAIN, Response, Service, Start
from wire import HEALTH, Wire, login

import main

SECONDS = 120  # schemathesis takes five
PASSWORD = keep_secret("correct_password")


def example_accounts(folder: Path) -> Etc:
    """The accounts of the examples in openapi.yaml."""
    etc = Etc(folder)
    etc.add_user("ugadmin", PASSWORD, uid=1000, gid=10, shell="/bin/bash")
    etc.add_user("ugexpired", PASSWORD, aging="19000:0:99999:7::19001:")
    etc.add_user("ugaged", PASSWORD, aging="19000:0:30:7:1::")
    group = etc.read("group").replace("users:x:100:", "users:x:100:ugadmin")
    etc.replace("group", group.replace("docker:x:121:", "docker:x:121:ugadmin,"))
    return etc


@pytest.fixture(scope="module", params=["", TOKEN], ids=["no token", "token"])
def nas(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    etc = example_accounts(tmp_path_factory.mktemp("openapi") / "etc")
    running = Service(etc, {"AUTH_TOKEN": request.param})
    yield running
    running.stop()


def authorization(service: Service) -> dict[str, str]:
    token = service.env["AUTH_TOKEN"]
    return {"Authorization": f"Bearer {token}"} if token else {}


# --- The document ------------------------------------------------------------------------------


def test_it_is_valid_openapi() -> None:
    validate(openapi.DOCUMENT)


def test_its_version_is_that_of_the_service() -> None:
    assert openapi.DOCUMENT["info"]["version"] == main.__version__


def test_its_paths_and_methods_are_those_of_the_service(service: Service) -> None:
    paths = [*openapi.PATHS, "/", "/openapi.yaml", "/metrics", "/login", "/validate/", "/users"]
    methods = "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE".split()
    served = {
        (p, m)
        for p, m in itertools.product(paths, methods)
        if service.request(m, p).status not in (404, 405)
    }
    assert served == {(path, method) for method, path in openapi.OPERATIONS}
    assert set(main.ROUTES) == openapi.PATHS


def test_every_object_in_an_answer_is_closed() -> None:
    def objects(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if node.get("type") == "object":
                yield node
            for child in node.values():
                yield from objects(child)
        elif isinstance(node, list):
            for child in node:
                yield from objects(child)

    answers = [operation["responses"] for operation in openapi.OPERATIONS.values()]
    for schema in objects([answers, openapi.OUTSIDE]):
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])


def test_the_pattern_of_a_username_is_what_the_service_judges_by() -> None:
    pattern = re.compile(openapi.DOCUMENT["components"]["schemas"]["Username"]["pattern"])
    for character in map(chr, [*range(0xD800), *range(0xE000, 0x110000)]):
        for name in (character, f"a{character}", f"{character}a", f"a{character}b"):
            allowed = True
            try:
                main.read_username(name)
            except main.Error:
                allowed = False
            assert bool(pattern.search(name)) == allowed, ascii(name)
    for length in (1, 255, 256, 257):
        assert bool(pattern.search(" " + "a" * length + "\t")) == (length <= 256)


# --- What the service does ---------------------------------------------------------------------


def test_schemathesis_finds_nothing(nas: Service, tmp_path: Path) -> None:
    headers = [f"--header={name}: {value}" for name, value in authorization(nas).items()]
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            str(openapi.PATH),
            f"--url=http://127.0.0.1:{nas.port}",
        ]
        + ["--checks=all", "--phases=examples,coverage,fuzzing", "--mode=all", "--max-examples=100"]
        + ["--generation-deterministic", "--no-color", *headers],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Tested: 7" in ran.stdout
    statuses = {
        line.rpartition("status=")[2].split()[0]
        for line in nas.log_lines()
        if " event=request " in line
    }
    assert {"200", "400", "405", "415"} <= statuses


def test_the_examples_are_what_the_service_answers(nas: Service) -> None:
    asked = 0
    for (method, path), operation in openapi.OPERATIONS.items():
        if method == "HEAD":
            continue
        content = operation["responses"]["200"]["content"][openapi.MEDIA_TYPE]
        for name, answer in content.get(
            "examples", {"": {"value": content.get("example")}}
        ).items():
            body, query = None, ""
            if method == "POST":
                body = operation["requestBody"]["content"]["application/json"]["examples"][name][
                    "value"
                ]
            for parameter in operation["parameters"]:
                if parameter["in"] == "query":
                    query = "?" + urlencode(
                        {parameter["name"]: parameter["examples"][name]["value"]}
                    )
            assert (
                nas.request(method, path + query, body, authorization(nas)).json == answer["value"]
            )
            asked += 1
    assert asked == 8


def tour(start: Start, etc: Etc, tmp_path: Path) -> Iterator[tuple[str, str, Response]]:
    """Method, path and answer, for every status and body that the service has for it."""
    service = start(etc=example_accounts(tmp_path / "tour"), AUTH_TOKEN=TOKEN, MAX_FAILURES=1)
    token = authorization(service)

    def ask(
        method: str, path: str, body: Any = None, headers: dict[str, str] = token
    ) -> tuple[str, str, Response]:
        return method, path, service.request(method, path, body, headers)

    def credentials(username: str, password: str = PASSWORD) -> dict[str, str]:
        return {"username": username, "password": password}

    yield ask("POST", "/validate", credentials("ugadmin"))
    yield ask("POST", "/validate", credentials("ugexpired"))
    yield ask("POST", "/validate", credentials("ugaged"))
    yield ask("POST", "/validate", credentials("ugadmin", WRONG))
    yield ask("POST", "/validate", credentials("ugadmin"))
    yield ask("POST", "/validate", {})
    yield ask("POST", "/validate", credentials("ugadmin"), {})
    yield ask("POST", "/validate", b"x" * 4097)
    yield ask("POST", "/validate", b"{}", {**token, "Content-Type": "text/plain"})
    for method in ("GET", "HEAD"):
        for name in ("ugadmin", "jane.doe", "ampersand", "juergen", "nobody-here", "a%2Fb"):
            yield ask(method, f"/user-info?username={name}")
        yield ask(method, "/user-info?username=ugadmin", None, {})
        for path in ("/user-info?username=ugadmin", "/health", "/ready"):
            yield ask(method, path, b"x" * 4097)
    for path in ("/health", "/ready"):
        yield ask("GET", path)
        yield ask("HEAD", path)
    yield ask("GET", "/nowhere")
    for path in openapi.PATHS:
        yield ask("DELETE", path)

    for method, path in openapi.OPERATIONS:
        for bad in ("X : y\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n", "X: " + "y" * 32_768):
            with Wire(service) as wire:
                wire.send(f"{method} {path} HTTP/1.1\r\nHost: nas\r\n{bad}".encode())
                yield method, path, wire.last(method == "HEAD")
        with Wire(service) as wire:
            yield (
                method,
                path,
                wire.send(f"{method} {path}?{'x' * 8192}".encode()).last(method == "HEAD"),
            )
    with Wire(service) as wire:
        yield "", "", wire.send(b"GET health HTTP/1.1\r\n\r\n").last()

    (service.etc.path / "passwd").unlink()
    yield ask("POST", "/validate", credentials("jane.doe"))
    for method, path in itertools.product(
        ("GET", "HEAD"), ("/user-info?username=ugadmin", "/ready")
    ):
        yield ask(method, path)


def test_every_answer_of_a_tour_is_described(start: Start, etc: Etc, tmp_path: Path) -> None:
    seen = set()
    for method, path, answer in tour(start, etc, tmp_path):
        if method:
            openapi.check(method, path, answer.status, answer.headers, answer.raw)
        else:
            openapi.check_against(
                openapi.OUTSIDE[str(answer.status)], answer.headers, answer.raw, head_only=False
            )
        text = answer.json.get("error", "") if answer.json and answer.status == 200 else ""
        seen.add((method, path.partition("?")[0], str(answer.status), text))
    for (method, path), operation in openapi.OPERATIONS.items():
        missing = set(operation["responses"]) - {
            status for m, p, status, _ in seen if (m, p) == (method, path)
        }
        elsewhere = {"500", *(["503"] if path == "/health" else [])}
        assert missing <= elsewhere, (method, path)
    texts = {text for _, path, status, text in seen if status == "200" and path == "/validate"}
    assert texts == {"", "Invalid credentials", "Account expired", "Password expired"}


def test_head_gets_no_body_where_the_line_is_too_long(service: Service) -> None:
    with Wire(service) as wire:
        assert wire.send(f"HEAD /health?{'x' * 8192}".encode()).last(head_only=True).status == 414


def test_a_full_service_answers_as_described(start: Start) -> None:
    service = start(MAX_CONNECTIONS=1, FAIL_DELAY=3)
    with Wire(service) as busy:
        busy.send(login("des", WRONG))
        service.wait_for_log("event=verdict ")  # from here on it is held
        with Wire(service) as refused:
            answer = refused.send(HEALTH).last()
    assert answer.status == 503
    for method, path in openapi.OPERATIONS:
        if method != "HEAD":
            openapi.check(method, path, answer.status, answer.headers, answer.raw)


def test_a_bug_is_answered_as_described(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, method = Path(MAIN).read_text(), "def health(self) -> dict[str, Any]:\n"
    assert method in text
    (tmp_path / "main.py").write_text(
        text.replace(method, f"{method}        raise ArithmeticError\n")
    )
    monkeypatch.setattr("service.MAIN", str(tmp_path / "main.py"))
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)  # this copy is not what is measured
    monkeypatch.setattr("secrecy.LOGGED", [])  # where a bug fails the session
    service = start()
    for method in ("GET", "HEAD"):
        assert service.request(method, "/health").status == 500
    service.stop()
