"""The real service against a private /etc.

Each is a `main.py` process in a mount namespace of its own, where the directory of an `Etc` is
bind-mounted over /etc. That needs root, or an ordinary user who may make user namespaces;
elsewhere the tests are skipped.
"""

import collections
import contextlib
import fcntl
import functools
import http.client
import json
import os
import re
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import openapi
import pytest
import secrecy
from etc import Etc
from secrecy import keep_secret

ROOT = Path(__file__).resolve().parent.parent
MAIN = os.environ.get("UGOS_MAIN", str(ROOT / "main.py"))
sys.path.insert(0, str(Path(MAIN).parent))  # for the tests that import it
CPUS = sorted(os.sched_getaffinity(0))[:2]  # of every service: so many PAM calls run at once
BOUND = 60.0  # seconds after which a wait for an event counts as failed


class Response(NamedTuple):
    """An answer; `raw` is its body, `json` what is in it."""

    status: int
    headers: http.client.HTTPMessage
    json: Any
    raw: bytes


@functools.cache
def namespace() -> tuple[str, ...]:
    """The command that starts another one in a mount namespace of its own; skips where there is
    none."""
    command = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")
    with tempfile.TemporaryDirectory() as empty:
        tried = subprocess.run(
            [*command, "mount", "--bind", empty, "/etc"],
            capture_output=True,
            text=True,
            check=False,
        )
    if tried.returncode:
        pytest.skip(f"needs root, or user namespaces for ordinary users: {tried.stderr.strip()}")
    return command


COVERAGE_FOLDER = Path(tempfile.mkdtemp())
COVERAGE_FOLDER.chmod(0o1777)  # services run as other users as well
DEFAULTS = {"HOST": "127.0.0.1", "FAIL_DELAY": "0", "MAX_FAILURES": "0", "LOG_LEVEL": "DEBUG"}


def python() -> list[str]:
    """The command that runs main.py; measured where the environment has COVERAGE_PROCESS_START, a
    config file."""
    if config := os.environ.get("COVERAGE_PROCESS_START"):
        return [
            sys.executable,
            "-m",
            "coverage",
            "run",
            f"--rcfile={config}",
            str(ROOT / "tests/measured.py"),
            MAIN,
        ]
    return [sys.executable, MAIN]


def reachable(paths: Iterable[Path]) -> str:
    """Shell commands that let other users into `paths`, in a namespace: where one lies in a closed
    folder, such as /root, that folder is covered by an open one which holds nothing else."""
    lines = ["mount -t tmpfs -o mode=755 tmpfs /mnt"]
    for number, path in enumerate(sorted(set(paths))):
        above = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
        if above:
            kept, back = f"/mnt/{number}", shlex.quote(str(path))
            lines.insert(1, f"mkdir {kept}; mount --bind {back} {kept}")
            lines.append(f"mountpoint -q {above[0]} || mount -t tmpfs -o mode=755 tmpfs {above[0]}")
            lines.append(f"mkdir -p {back}; mount --bind {kept} {back}")
    return "; ".join(lines)


RESERVED = collections.deque[socket.socket]()  # the latest ports, which nobody else is given


def free_port(host: str = "127.0.0.1") -> int:
    """A port to listen on. A bound socket keeps it from all who ask for any port, or connect
    from one; whoever names it may have it, by SO_REUSEADDR, as long as nobody listens there."""
    holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, 0))
    RESERVED.append(holder)
    if len(RESERVED) > 64:
        RESERVED.popleft().close()
    return int(holder.getsockname()[1])


class Service:
    """A running `main.py`, or one that has exited instead of starting: see `process.poll()`."""

    def __init__(
        self,
        etc: Etc,
        env: dict[str, str],
        user: int | None = None,
        groups: Iterable[int] = (),
        before: str = "",
        arguments: Iterable[str] = (),
    ) -> None:
        """Start it, with `before` run by sh in the namespace first; `user` is a uid to run as
        instead of root."""
        self.etc, self.env = etc, {**DEFAULTS, **env}
        host = self.env["HOST"]
        self.host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        self.port = int(self.env.setdefault("PORT", str(free_port(self.host))))
        if token := self.env.get("AUTH_TOKEN"):
            keep_secret(token)
        as_user = []
        if user is not None:
            if os.geteuid():
                pytest.skip("needs root to run the service as another user")
            needed = [Path(sys.base_prefix), Path(sys.prefix), ROOT, Path(MAIN).parent]
            before = f"{reachable(needed)}; {before}"
            listed = ",".join(map(str, groups))
            as_user = [
                "setpriv",
                f"--reuid={user}",
                f"--regid={user}",
                "--inh-caps=-all",
                "--bounding-set=-all",
            ]
            as_user.append(f"--groups={listed}" if listed else "--clear-groups")
        script = f'set -e; mount --bind {shlex.quote(str(etc.path))} /etc; {before}\nexec "$@"'
        pinned = ["taskset", "-c", ",".join(map(str, CPUS))]
        self.process = subprocess.Popen(
            [*namespace(), "sh", "-c", script, "sh", *pinned, *as_user, *python(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "COVERAGE_FILE": str(COVERAGE_FOLDER / ".coverage"),
                **self.env,
            },
        )
        self.lines: list[str] = []
        self.ended = False  # its stderr
        self.logged = threading.Condition()
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        if self.env["LOG_LEVEL"] in ("WARNING", "ERROR"):
            self.await_port()
        else:
            with self.logged:
                assert self.logged.wait_for(lambda: self.ended or self.find("event=start "), BOUND)
        if self.ended:
            self.process.wait(BOUND)

    def read_log(self) -> None:
        assert self.process.stderr
        pipe, line = self.process.stderr.fileno(), b""
        arrives = select.poll()
        arrives.register(pipe, select.POLLIN)
        while not self.ended:
            arrives.poll()
            with (
                self.logged
            ):  # so that nobody who has it finds a line neither in the pipe nor in `lines`
                data = os.read(pipe, 65_536)
                *whole, line = (line + data).split(b"\n")
                if not data:
                    self.ended, whole, line = True, [line] if line else [], b""
                self.lines += [each.decode("utf-8", "surrogateescape") for each in whole]
                secrecy.LOGGED.extend(self.lines[len(self.lines) - len(whole) :])
                self.logged.notify_all()

    def await_port(self) -> None:
        deadline = time.monotonic() + BOUND
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), self.connect():
                return
            time.sleep(0.02)

    def find(self, pattern: str, after: int = 0) -> str | None:
        return next((line for line in self.lines[after:] if re.search(pattern, line)), None)

    def log_lines(self) -> list[str]:
        """What it has written to stderr so far; what belongs to an answer that has come is in
        it."""
        with self.logged:
            assert self.logged.wait_for(lambda: self.ended or not self.unread(), BOUND)
            return list(self.lines)

    def unread(self) -> int:
        """How many bytes of its log are still in the pipe (FIONREAD, ioctl_tty(2))."""
        assert self.process.stderr
        return int.from_bytes(
            fcntl.ioctl(self.process.stderr, termios.FIONREAD, bytes(4)), sys.byteorder
        )

    def wait_for_log(self, pattern: str, after: int = 0) -> str:
        """The first line that matches, from the line number `after` on; waits for it."""
        with self.logged:
            self.logged.wait_for(lambda: self.ended or self.find(pattern, after), BOUND)
            line = self.find(pattern, after)
        assert line, f"no line matches {pattern!r} in:\n" + "\n".join(self.lines[after:])
        return line

    def connect(self, timeout: float = BOUND, source: str = "") -> socket.socket:
        return socket.create_connection(
            (self.host, self.port), timeout, (source, 0) if source else None
        )

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        source: str = "",
    ) -> Response:
        """Ask once, on a connection of its own, from the address `source`. A body that is not bytes
        goes as JSON."""
        assert self.process.poll() is None, "\n".join(["it has ended:", *self.lines])
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if body:
            keep_secret(body.decode("utf-8", "replace"))
        connection = http.client.HTTPConnection(
            self.host, self.port, timeout=BOUND, source_address=(source, 0) if source else None
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            raw = answer.read()
        openapi.check(method, path, answer.status, answer.headers, raw)
        return Response(answer.status, answer.headers, json.loads(raw) if raw else None, raw)

    def validate(self, username: str, password: str, source: str = "", **headers: str) -> Response:
        """POST /validate; with the token, where one is set. `X_Forwarded_For="192.0.2.1"` is a
        header."""
        if "AUTH_TOKEN" in self.env:
            headers.setdefault("Authorization", f"Bearer {self.env['AUTH_TOKEN']}")
        keep_secret(password)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request(
            "POST", "/validate", {"username": username, "password": password}, named, source
        )

    def stop(self) -> int:
        """End it by SIGTERM; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(BOUND)
        finally:
            self.process.kill()
            self.reader.join(5)  # a child of PAM may still hold the pipe
            if self.process.stdout:
                self.process.stdout.close()
        return status


Result = TypeVar("Result")
Argument = TypeVar("Argument")


def parallel(function: Callable[[Argument], Result], arguments: Iterable[Argument]) -> list[Result]:
    """`function` of each argument, all at the same time; the results in order."""
    given = list(arguments)
    with ThreadPoolExecutor(len(given)) as threads:
        return list(threads.map(function, given))


Start = Callable[..., Service]  # a fixture of conftest.py
