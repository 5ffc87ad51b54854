"""The shipped Dockerfile and compose files, unchanged, in a real Docker engine; /etc is a private
one.

A plugin of pytest: a module that names it in `pytest_plugins` has its fixtures. Such modules import
it before pytest does: PYTEST_DONT_REWRITE.
"""

import contextlib
import http.client
import json
import re
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_engine import Engine
from docker_engine import run as run_command
from etc import Etc
from repository import commands, copy_source
from service import free_port

PROJECT = "ugos-auth-proxy-test"
IMAGE = f"{PROJECT}:latest"
TOKEN = secrets.token_urlsafe(32)
BOUND = 60.0  # seconds after which a wait for an event counts as failed


def until(event: Callable[[], Any], bound: float = BOUND) -> Any:
    """What `event` gives as soon as it is something; looks again and again, at most for so many
    seconds."""
    deadline = time.monotonic() + bound
    while not (seen := event()):
        assert time.monotonic() < deadline, f"{event} did not come"
        time.sleep(0.05)
    return seen


def child(pid: int) -> int:
    """The service's process, by that of the container's init."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


class Proxy:
    """A clone of the repository, its .env, and the container of `docker compose up -d` in it."""

    def __init__(self, engine: Engine, image: str, folder: Path, etc: Etc) -> None:
        self.engine, self.folder, self.etc, self.port = engine, folder, etc, free_port()
        copy_source(folder)
        shutil.copy(folder / ".env.example", folder / ".env")
        self.offered = set(re.findall(r"(?m)^#(\w+)=", (folder / ".env").read_text()))
        self.environ = {
            name: value for name, value in engine.environ.items() if name not in self.offered
        }
        self.environ["COMPOSE_PROJECT_NAME"] = PROJECT
        self.set(IMAGE=image, HOST_ETC=etc.path, PUBLISH_PORT=self.port)

    def set(self, **lines: object) -> None:
        """Take the # off lines of .env, each with the value wanted."""
        assert set(lines) <= self.offered, "a line that .env.example does not have"
        text = (self.folder / ".env").read_text()
        for name, value in lines.items():
            text = re.sub(rf"(?m)^#?{name}=.*", f"{name}={value}", text)
        (self.folder / ".env").write_text(text)

    def hasten_health_checks(self) -> None:
        """Let the engine look every second, instead of as often as the image says."""
        often = "{interval: 1s, retries: 2, start_period: 1s}"
        (self.folder / "docker-compose.often.yml").write_text(
            f"services: {{ugos-auth-proxy: {{healthcheck: {often}}}}}"
        )
        self.set(COMPOSE_FILE="docker-compose.yml:docker-compose.often.yml")

    def compose(self, *arguments: str, ok: bool = True) -> str:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ok == (done.returncode == 0), done.stdout + done.stderr
        return done.stdout + done.stderr

    def shell(self, script: str) -> str:
        """The output of commands of README in the clone's folder."""
        return run_command("sh", "-euc", script, cwd=self.folder, env=self.environ)

    def up(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.compose("up", "-d")
        self.reachable(address, tls)

    def reachable(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.ask("GET", "/health", address=address, tls=tls)[0] == 200
            return False

        until(answers)

    @property
    def container(self) -> str:
        return self.compose("ps", "--all", "--quiet").strip()

    def inspect(self, template: str) -> str:
        return self.engine.inspect(self.container, template)

    def python(self, code: str, ok: bool = True) -> str:
        """The output of Python code in the container, as the service's user."""
        return self.engine.docker("exec", self.container, "python3", "-c", code, ok=ok)

    def pid(self) -> int:
        return child(int(self.inspect(".State.Pid")))

    def ask(
        self, method: str, path: str, body: object = None, token: str = "",
        address: str = "127.0.0.1", tls: ssl.SSLContext | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Status and JSON of an answer."""
        connection = (
            http.client.HTTPSConnection(address, self.port, timeout=BOUND, context=tls)
            if tls
            else http.client.HTTPConnection(address, self.port, timeout=BOUND)
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body:
            headers["Content-Type"] = "application/json"
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def login(self, username: str, password: str, **options: Any) -> Any:
        """The answer to a login, which must be a verdict."""
        status, answer = self.ask(
            "POST", "/validate", {"username": username, "password": password}, **options
        )
        assert status == 200, answer
        return answer

    def valid(self, username: str, password: str, **options: Any) -> bool:
        return bool(self.login(username, password, **options)["valid"])


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    running = Engine(tmp_path_factory.mktemp("docker"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built as the compose file says."""
    folder = tmp_path_factory.mktemp("build")
    Proxy(engine, IMAGE, folder / "clone", Etc(folder / "etc")).compose("build")
    return IMAGE


@pytest.fixture
def proxy(engine: Engine, image: str, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(engine, image, tmp_path / "clone", Etc(tmp_path / "etc"))
    yield made
    made.set(COMPOSE_FILE="docker-compose.yml")
    made.compose("down", "--remove-orphans", "--timeout", "5")


@pytest.fixture
def run(engine: Engine, image: str) -> Iterator[Callable[..., str]]:
    """Starts containers of the image itself, with options of `docker run`; gives their id."""
    started: list[str] = []

    def begin(*options: str) -> str:
        started.append(engine.docker("run", "--detach", *options, image).split()[-1])
        return started[-1]

    yield begin
    for container in started:
        engine.docker("rm", "--force", container)


@pytest.fixture(scope="session")
def lan(engine: Engine) -> str:
    """An address of this machine that is not loopback: that of its network, or of the engine's
    bridge."""
    assert engine.answers()  # its bridge is there
    addresses = subprocess.run(
        ["hostname", "-I"], capture_output=True, text=True, check=True
    ).stdout.split()
    return next(address for address in addresses if ":" not in address)


@pytest.fixture(scope="session")
def certificate(lan: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that README's own commands make, with the address put in."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, lan)
    return folder / "tls"


def make_certificate(folder: Path, address: str) -> None:
    """Run README's commands for one."""
    block = commands("authentik on another machine")
    assert "192.168.1.10" in block
    script = block.replace("192.168.1.10", address).replace("sudo ", "")
    run_command("sh", "-euc", script, cwd=folder)


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    name = f"{PROJECT}-authentik"
    engine.docker("network", "create", name)
    yield name
    engine.docker("network", "rm", name)
