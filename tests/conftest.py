"""The real service against a private /etc: the fixtures of the suite, and what is checked over its whole output.

Each service is a `main.py` process in a mount namespace of its own, where the directory of an `Etc` is bind-mounted
over /etc. That needs root, or an ordinary user who may make user namespaces; elsewhere the tests are skipped. In CI a
skip is a failure.
"""

import collections
import contextlib
import ctypes
import fcntl
import functools
import http.client
import json
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import openapi
import pytest

if TYPE_CHECKING:
    from logins import Site

ROOT = Path(__file__).resolve().parent.parent
MAIN = os.environ.get("UGOS_MAIN", str(ROOT / "main.py"))
sys.path.insert(0, str(Path(MAIN).parent))  # for the tests that import it
CPUS = sorted(os.sched_getaffinity(0))[:2]  # of every service: so many PAM calls run at once
BOUND = 60.0  # seconds after which a wait for an event counts as failed

WRONG = "wrong-guess"
TOKEN = "a-token-of-the-tests"

# --- What is kept of the whole session ---------------------------------------------------------

LOGGED: list[str] = []  # every line that any service of this process wrote to stderr
LEAKED: list[str] = []  # what the workers of pytest-xdist found in theirs
SECRETS: set[str] = {TOKEN, WRONG}  # what must not be in any of them; tests may add to it


def keep_secret(value: str) -> str:
    """`value`, from now on looked for in every log; too short ones would be found by chance."""
    if len(value) >= 6:
        SECRETS.add(value)
    return value


def leak() -> re.Pattern[str]:
    """What may not be in any line: the secrets so far, a request body, the trace of a bug."""
    secrets = {
        form
        for s in SECRETS
        for form in (s, json.dumps(s)[1:-1], s.encode("unicode_escape").decode())
    }
    return re.compile(
        "|".join(
            map(
                re.escape,
                (*sorted(secrets), '"password"', '\\"password', "Traceback", " event=bug "),
            )
        )
    )


def leaks() -> list[str]:
    """The lines of the session in which there is one."""
    found = leak()
    lines = [line for line in LOGGED if found.search(line)]
    return LEAKED + [line.encode("utf-8", "backslashreplace").decode() for line in lines]


def pytest_sessionfinish(session: pytest.Session) -> None:
    found = leaks()
    if hasattr(
        session.config, "workeroutput"
    ):  # a worker of pytest-xdist: it has no say in the end
        session.config.workeroutput["leaks"] = found
    elif found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for data in COVERAGE_FOLDER.iterdir():
        shutil.move(data, ROOT / data.name)
    shutil.rmtree(COVERAGE_FOLDER)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    LEAKED.extend(getattr(node, "workeroutput", {}).get("leaks", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := leaks():
        terminalreporter.section("FAILED: a secret or a bug in the services' logs", red=True)
        for line in lines:
            terminalreporter.line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report  # type: ignore[return-value]


# --- Accounts ----------------------------------------------------------------------------------

# cheap ones: what a hash costs is no matter here. `des` is the fastest, but sees only 8 bytes of a password
SALTS = {
    "sha512": "$6$rounds=1000$saltsalt",
    "yescrypt": "$y$j75$saltsaltsaltsaltsalt..",
    "des": "sa",
}


@functools.cache
def crypt(password: str, scheme: str) -> str:
    """The hash of `password` by libcrypt (Python's module is gone since 3.13); `scheme` may be a salt as well."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed: bytes = library.crypt(password.encode(), SALTS.get(scheme, scheme).encode()) or b"*"
    assert not hashed.startswith(b"*"), f"libcrypt has no {scheme}"
    return hashed.decode()


class Account(NamedTuple):
    """A row of passwd and of shadow; `hashed` is the password field, `aging` what follows it."""

    uid: int
    hashed: str
    aging: str = "19000:0:99999:7:::"
    gid: int = 100
    gecos: str = "UGREEN USER"
    shell: str = "/usr/sbin/nologin"


def right(name: str) -> str:
    """The password of one of `ACCOUNTS`."""
    return keep_secret(f"right-{name}")


def accounts() -> dict[str, Account]:
    """One account for every row of what PAM can say, by scheme: `sha512`, `sha512.locked` and so on, and others."""
    rows: dict[str, Account] = {}
    for base, scheme in enumerate(SALTS, 1):
        cases = {
            "": ("", "19000:0:99999:7:::"),
            ".locked": ("!", "19000:0:99999:7:::"),
            ".expired": ("", "19000:0:99999:7::19001:"),  # the account
            ".mustchange": ("", "0:0:99999:7:::"),
            ".agedout": ("", "19000:0:30:7:1::"),
        }
        for i, (case, (lock, aging)) in enumerate(cases.items()):
            name = scheme + case
            rows[name] = Account(1000 + 100 * base + i, lock + crypt(right(name), scheme), aging)
    rows |= {
        "nopassword": Account(1500, ""),
        "star": Account(1501, "*"),
        "system": Account(999, crypt(right("system"), "des")),
        "highuid": Account(60001, crypt(right("highuid"), "des")),
        "toor": Account(0, crypt(right("toor"), "des"), gid=0),
        "jane.doe": Account(
            1600,
            crypt(right("jane.doe"), "des"),
            gid=10,
            gecos="Jane Doe,Room 1,,,jane@example.org",
            shell="/bin/bash",
        ),
        "MarcEwers": Account(1601, crypt(right("MarcEwers"), "des")),
        "ampersand": Account(1602, "*", gecos="& Sand <amp@example.org>"),
        "mailonly": Account(1603, "*", gecos="mail.only@example.org"),
        "juergen": Account(1604, "*", gecos="J\udcfcrgen"),
    }
    return rows


ACCOUNTS = accounts()

GROUPS = """\
root:x:0:
admin:x:10:
shadow:x:42:
users:x:100:
docker:x:121:jane.doe
ughomeusers:x:133:MarcEwers,jane.doe
media team:x:90:jane.doe
family:x:300:jane.doe
familie:x:300:jane.doe
nogroup:x:65534:
"""

PLAIN = """\
auth required pam_unix.so nodelay
account required pam_unix.so
"""
# as Debian's login: it sleeps 2 s on a refusal, and lets any password in where none is set
DEBIAN = """\
auth optional pam_faildelay.so delay=2000000
auth [success=1 default=ignore] pam_unix.so nullok
auth requisite pam_deny.so
auth required pam_permit.so
account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so
account requisite pam_deny.so
account required pam_permit.so
"""


class Etc:
    """A private /etc with `ACCOUNTS`, to be mounted over the real one. Files are replaced by rename, as UGOS does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
        (path / "pam.d").mkdir()
        for name in ("ld.so.cache", "login.defs"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), path)
        self.replace("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        self.replace("group", GROUPS)
        rows = {
            "root": Account(0, "*", gid=0),
            **ACCOUNTS,
            "nobody": Account(65534, "*", gid=65534),
        }
        self.replace("passwd", "".join(self.passwd_row(name, row) for name, row in rows.items()))
        self.replace("shadow", "".join(self.shadow_row(name, row) for name, row in rows.items()))
        self.pam("ugos-auth-proxy", PLAIN)
        self.pam("debian", DEBIAN)
        self.pam("other", DEBIAN)

    @staticmethod
    def passwd_row(name: str, row: Account) -> str:
        return f"{name}:x:{row.uid}:{row.gid}:{row.gecos}:/home/{name}:{row.shell}\n"

    @staticmethod
    def shadow_row(name: str, row: Account) -> str:
        return f"{name}:{row.hashed}:{row.aging}\n"

    def read(self, filename: str) -> str:
        return (self.path / filename).read_text(encoding="utf-8", errors="surrogateescape")

    def replace(self, filename: str, text: str, mode: int | None = None) -> None:
        """Put a new file in the place of `filename`, by rename; shadow is 0640 root:shadow."""
        secret = Path(filename).name == "shadow"
        new = self.path / (filename + "+")
        new.write_text(text, encoding="utf-8", errors="surrogateescape")
        new.chmod(mode if mode is not None else 0o640 if secret else 0o644)
        if secret and os.geteuid() == 0:
            os.chown(new, 0, 42)
        new.rename(self.path / filename)

    def pam(self, service_name: str, text: str) -> None:
        self.replace(f"pam.d/{service_name}", text)

    def script(self, name: str, text: str) -> None:
        """A program for pam_exec.so, at /etc/NAME."""
        self.replace(name, f"#!/bin/sh\n{text}", 0o755)

    def add_user(self, name: str, password: str = "", **fields: Any) -> None:
        """Add an account; `fields` are those of `Account`, and `scheme`."""
        scheme = fields.pop("scheme", "des")
        taken = {int(row.split(":")[2]) for row in self.read("passwd").splitlines()}
        fields.setdefault("uid", next(uid for uid in range(2000, 60000) if uid not in taken))
        fields.setdefault("hashed", crypt(keep_secret(password), scheme) if password else "*")
        row = Account(**fields)
        self.replace("shadow", self.read("shadow") + self.shadow_row(name, row))
        self.replace("passwd", self.read("passwd") + self.passwd_row(name, row))

    def set_hash(self, name: str, change: Callable[[str], str]) -> None:
        rows = [row.split(":") for row in self.read("shadow").splitlines()]
        for row in rows:
            if row[0] == name:
                row[1] = change(row[1])
        self.replace("shadow", "".join(":".join(row) + "\n" for row in rows))

    def set_password(self, name: str, password: str, scheme: str = "des") -> None:
        self.set_hash(name, lambda _: crypt(keep_secret(password), scheme))

    def lock(self, name: str) -> None:
        self.set_hash(name, lambda hashed: "!" + hashed)


# --- The service -------------------------------------------------------------------------------


class Response(NamedTuple):
    """An answer; `raw` is its body, `json` what is in it."""

    status: int
    headers: http.client.HTTPMessage
    json: Any
    raw: bytes


@functools.cache
def namespace() -> tuple[str, ...]:
    """The command that starts another one in a mount namespace of its own; skips where there is none."""
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--coverage", action="store_true", help="measure what the services run of main.py"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--coverage"):
        os.environ.setdefault("COVERAGE_PROCESS_START", str(ROOT / "pyproject.toml"))


def python() -> list[str]:
    """The command that runs main.py; measured where the environment has COVERAGE_PROCESS_START, a config file."""
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
    """Shell commands that let other users into `paths`, in a namespace: where one lies in a closed folder, such as
    /root, that folder is covered by an open one which holds nothing else."""
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
        """Start it, with `before` run by sh in the namespace first; `user` is a uid to run as instead of root."""
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
            before = f"{reachable([Path(sys.base_prefix), Path(sys.prefix), ROOT, Path(MAIN).parent])}; {before}"
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
                LOGGED.extend(self.lines[len(self.lines) - len(whole) :])
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
        """What it has written to stderr so far; what belongs to an answer that has come is in it."""
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
        """Ask once, on a connection of its own, from the address `source`. A body that is not bytes goes as JSON."""
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
        """POST /validate; with the token, where one is set. `X_Forwarded_For="192.0.2.1"` is a header."""
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


# --- Fixtures ----------------------------------------------------------------------------------


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path / "etc")


Start = Callable[..., Service]


@pytest.fixture
def start(etc: Etc) -> Iterator[Start]:
    """Starts services: settings are keyword arguments in capitals, the others are those of `Service`."""
    running: list[Service] = []

    def begin(*, etc: Etc = etc, **options: Any) -> Service:
        env = {name: str(value) for name, value in options.items() if name.isupper()}
        others = {name: value for name, value in options.items() if not name.isupper()}
        running.append(Service(etc, env, **others))
        return running[-1]

    yield begin
    for service in running:
        service.stop()


@pytest.fixture
def site(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator["Site"]:
    """The double of authentik with the blueprint; at the end no password may be left anywhere in it."""
    from logins import Site

    for name in ("UGOS_AUTH_PROXY_URL", "UGOS_AUTH_PROXY_TOKEN", "UGOS_AUTH_PROXY_CA", "GROUP_MAP"):
        monkeypatch.delenv(name, raising=False)
    authentik = Site(tmp_path_factory.getbasetemp())
    yield authentik
    assert not authentik.leaks()


@pytest.fixture
def nas(start: Start, site: "Site", monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service that the policy of `site` asks, with a token."""
    running = start(AUTH_TOKEN=TOKEN)
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", f"http://127.0.0.1:{running.port}")
    monkeypatch.setenv("UGOS_AUTH_PROXY_TOKEN", TOKEN)
    return running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for a module, with the settings of `DEFAULTS`."""
    running = Service(Etc(tmp_path_factory.mktemp("module") / "etc"), {})
    yield running
    running.stop()
