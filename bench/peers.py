"""The service beside the other ways to ask PAM from Debian's packages, all measured in the same
run.

usage: peers.py [logins] [flood] [connections] [memory] [--rounds N] [--write]

Needs root: everything logs in against a private copy of /etc, in a mount namespace of its own. What
is compared, and how, stands in README.md. Nothing is installed. With --write the figures go to
peers.json, and from there into the table of README.md and the plots; parts that were not measured
stay as they were. The exit status is 1 where a goal is missed.
"""

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import re
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from report import (
    DEBIAN,
    FIGURES,
    LIMITS,
    OURS,
    PEERS,
    ROOMY,
    SAME,
    SLOW_HASHES,
    UNSLOWED,
    connection_goals,
    flood_goals,
    login_goals,
    write,
)
from testbed import (
    CORES,
    PASSWORD,
    WRONG,
    BrokenError,
    Result,
    Testbed,
    cpu_seconds,
    ending,
    figures,
    free_port,
    measure_parts,
    parse_arguments,
    private_folder,
    run,
)

SETTINGS = {
    OURS: {},
    UNSLOWED: {"FAIL_DELAY": "0", "MAX_FAILURES": "0"},
    ROOMY: {"MAX_CONNECTIONS": "1200"},
}
PACKAGES = {
    "/usr/sbin/saslauthd": "sasl2-bin",
    "/usr/sbin/nginx": "nginx",
    "/usr/lib/nginx/modules/ngx_http_auth_pam_module.so": "libnginx-mod-http-auth-pam",
    "/usr/sbin/apache2": "apache2",
    "/usr/lib/apache2/modules/mod_authnz_external.so": "libapache2-mod-authnz-external",
    "/usr/sbin/pwauth": "pwauth",
    "/usr/lib/apache2/modules/mod_authnz_pam.so": "libapache2-mod-authnz-pam",
}
PATIENCE = 5  # seconds after which a right login counts as timed out

# Debian's nginx.conf has these numbers of workers and connections.
NGINX = """
load_module /usr/lib/nginx/modules/ngx_http_auth_pam_module.so;
user www-data;
worker_processes auto;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 768; }}
http {{
    access_log {folder}/nginx-access.log;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
        auth_pam "bench";
        auth_pam_service_name "{stack}";
    }}
}}
"""
# The numbers are those of Debian's apache2.conf, mpm_event.conf and reqtimeout.conf.
APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache-{port}.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/apache-error.log
User www-data
Group www-data
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_basic_module {modules}/mod_auth_basic.so
LoadModule reqtimeout_module {modules}/mod_reqtimeout.so
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
StartServers 2
MinSpareThreads 25
MaxSpareThreads 75
ThreadLimit 64
ThreadsPerChild 25
MaxRequestWorkers 150
MaxConnectionsPerChild 0
RequestReadTimeout header=20-40,minrate=500
RequestReadTimeout body=10,minrate=500
CustomLog {folder}/apache-access.log "%h %l %u %t \\"%r\\" %>s %O"
DocumentRoot {folder}/www
{provider}
<Location />
    AuthType Basic
    AuthName bench
    Require valid-user
    {basic}
</Location>
"""
PROVIDERS = {
    "Apache, pwauth": {
        "provider": "LoadModule authnz_external_module {modules}/mod_authnz_external.so\n"
        "DefineExternalAuth pwauth pipe /usr/sbin/pwauth",
        "basic": "AuthBasicProvider external\n    AuthExternal pwauth",
    },
    "Apache, authnz_pam": {
        "provider": "LoadModule authnz_pam_module {modules}/mod_authnz_pam.so",
        "basic": "AuthBasicProvider PAM\n    AuthPAMService {stack}",
    },
}


# --- The servers -------------------------------------------------------------------------------


class Server(NamedTuple):
    """A running server: how load.c asks it, and what it finds in a refusal."""

    name: str
    pid: int
    target: str  # a port, or the path of a socket
    protocol: tuple[str, ...]
    refusal: str

    def judged(self, line: str) -> dict[str, float]:
        """What load.c has printed. Raises BrokenError for a wrong answer of the service, or for
        most of a peer's."""
        values = figures(line)
        if values["wrong"] > (0 if self.name in SETTINGS else values["count"] / 2):
            raise BrokenError(f"wrong answers of {self.name}: {line.strip()}")
        return values


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def family_cpu(pid: int) -> float:
    """CPU seconds of a process and all its descendants, those included that have ended and were
    waited for."""
    total = 0.0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += cpu_seconds(member)
    return total


def family_memory(pid: int) -> float:
    """MB (2**20 bytes) of a process and its descendants, shared pages counted once (PSS)."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += int(
                Path(f"/proc/{member}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0]
            )
    return total / 1024


def await_pid_file(path: Path) -> int:
    """The process id that a daemon has written."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError):
            return int(path.read_text())
        time.sleep(0.0005)
    raise BrokenError(f"no process id in {path.name}")


class Peers(Testbed):
    """The servers, the limits, and the figures that were measured."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.figures: dict[str, Any] = {}  # of each part that was measured, its records
        folder.chmod(0o755)  # www-data reads the page
        (folder / "www").mkdir()
        (folder / "www" / "ok").write_text("ok\n")
        # what lets nginx and mod_authnz_pam read /etc/shadow, as their documentation says
        group = Path("/etc/group")
        group.write_text(
            re.sub(r"(?m)^(shadow:.*:.*?)(,?)$", r"\1,www-data", group.read_text()).replace(
                ":,", ":"
            )
        )
        # a daemon that detaches becomes a child of this process, which can wait for it
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, prctl(2)

    @contextlib.contextmanager
    def server(self, name: str, stack: str = SAME) -> Iterator[Server]:
        """A server that has just been started, on its socket or on 127.0.0.1."""
        if name in SETTINGS:
            with self.main_py(PAM_SERVICE=stack, **SETTINGS[name]) as (process, port, _):
                yield Server(name, process.pid, str(port), (), '"valid": false')
        elif name == "saslauthd":
            with self.saslauthd(stack) as server:
                yield server
        else:
            port = free_port()
            with ending(self.web_server(name, port, stack)) as process:
                yield Server(name, process.pid, str(port), ("-b", "/ok"), "HTTP/1.1 401")

    @contextlib.contextmanager
    def saslauthd(self, stack: str) -> Iterator[Server]:
        folder = self.folder / "saslauthd"
        folder.mkdir(exist_ok=True)
        run(["/usr/sbin/saslauthd", "-a", "pam", "-m", folder])
        pid = await_pid_file(folder / "saslauthd.pid")
        try:
            yield Server("saslauthd", pid, str(folder / "mux"), ("-s", stack), "NO")
        finally:
            workers = family(pid)
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            for worker in workers[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(worker, 0)
            (folder / "saslauthd.pid").unlink(missing_ok=True)

    def web_server(self, name: str, port: int, stack: str) -> subprocess.Popen[bytes]:
        values = {
            "folder": self.folder,
            "port": port,
            "stack": stack,
            "modules": "/usr/lib/apache2/modules",
        }
        config = self.folder / f"{port}.conf"
        if name == "nginx":
            config.write_text(NGINX.format(**values))
            command = ["/usr/sbin/nginx", "-c", str(config)]
        else:
            parts = {key: text.format(**values) for key, text in PROVIDERS[name].items()}
            config.write_text(APACHE.format(**values, **parts))
            command = ["/usr/sbin/apache2", "-f", str(config), "-DFOREGROUND"]
            Path("/etc/pam.d/pwauth").write_text(
                Path("/etc/pam.d", stack).read_text()
            )  # pwauth has no other service
        # in a session of its own: mod_authnz_external at times sends a signal to its whole process
        # group
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603

    def load_command(self, server: Server, *arguments: object, users: Sequence[str]) -> list[str]:
        words = (self.folder / "load", *server.protocol, *arguments, server.target, *users)
        return [str(word) for word in words]

    def load(self, server: Server, *arguments: object, users: Sequence[str]) -> dict[str, float]:
        """Right logins of `users`."""
        return server.judged(
            run(self.load_command(server, "-w", PASSWORD, *arguments, users=users))
        )

    def await_login(self, server: Server, user: str) -> None:
        """Wait until a right login succeeds."""
        until = time.monotonic() + 15
        while time.monotonic() < until:
            with contextlib.suppress(BrokenError, KeyError):
                if self.load(server, "-n", 1, "-o", 1, users=[user])["200"]:
                    return
        raise BrokenError(f"no login at {server.name} succeeds after the start")

    def visit(self, server: Server, seconds: float, user: str) -> dict[str, Any]:
        """A right login every half second, each over a new connection: milliseconds of each, and
        what went wrong."""
        clients = 2 * PATIENCE + 2  # so many that one is always free
        arguments = ("-v", "-c", clients, "-i", 0.5, "-o", PATIENCE, "-t", seconds, "-w", PASSWORD)
        line, times = run(self.load_command(server, *arguments, users=[user])).split("\n")
        values = figures(line)
        milliseconds = [float(word) for word in times.split()]
        return {
            "times": milliseconds,
            "timeouts": int(values["timeouts"]),
            "failed": int(values["wrong"]),
        }

    @contextlib.contextmanager
    def flood(self, server: Server, users: Sequence[str]) -> Iterator[dict[str, float]]:
        """Wrong passwords for all of `users` without pause; in the end, how many were refused per
        second."""
        command = self.load_command(
            server,
            "-a",
            "-c",
            len(users),
            "-t",
            120,
            "-w",
            WRONG,
            "-e",
            server.refusal,
            users=users,
        )
        refused: dict[str, float] = {}
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                yield refused
            finally:
                process.send_signal(signal.SIGTERM)
                done = figures(process.communicate()[0])
        refused["per_second"] = (done["count"] - done["wrong"]) / (time.monotonic() - began)


# --- The parts ---------------------------------------------------------------------------------


def turned(names: Sequence[str], by: int) -> list[str]:
    """The names in their order, each round with another one first."""
    by %= len(names)
    return [*names[by:], *names[:by]]


def logins(peers: Peers, rounds: int) -> Iterator[Result]:
    cases = [("DES", 1, 0.5)]
    cases += [("SHA-512", clients, 0.7) for clients in (1, 2, 4, 16)]
    cases += [
        ("yescrypt", clients, seconds)
        for clients, seconds in ((1, 1.2), (2, 1.2), (4, 1.2), (16, 1.8))
    ]
    records = list(measure_logins(peers, SAME, rounds, cases))
    records += measure_logins(
        peers, DEBIAN, 1, [case for case in cases if case[1] in (1, 16) and case[0] != "DES"]
    )
    peers.figures["logins"] = records
    yield from login_goals(records)


def measure_logins(
    peers: Peers, stack: str, rounds: int, cases: Sequence[tuple[str, int, float]]
) -> Iterator[dict[str, Any]]:
    users = peers.accounts.write("DES", 16)
    with contextlib.ExitStack() as running:
        servers = {
            name: running.enter_context(peers.server(name, stack)) for name in (OURS, *PEERS)
        }
        for server in servers.values():
            peers.await_login(server, users[0])
            peers.load(server, "-c", 16, "-n", 64, users=users)
        for turn in range(rounds):
            for hash_name, clients, seconds in cases:
                users = peers.accounts.write(hash_name, 16)
                for name in turned((*servers, *LIMITS), turn):
                    if name in servers:
                        before = family_cpu(servers[name].pid)
                        done = peers.load(servers[name], "-c", clients, "-t", seconds, users=users)
                        done["cpu_ms"] = (
                            (family_cpu(servers[name].pid) - before) / done["count"] * 1000
                        )
                    else:
                        options = {
                            "crypt_r": ("-x", peers.accounts.hashes[hash_name]),
                            "libpam in C": (),
                            "libpam in C, unmapped": ("-u",),
                        }[name]
                        done = peers.c_logins(clients, seconds, users, *options, stack=stack)
                    values = {
                        key: round(done[key], 5)
                        for key in ("overall", "p50", "p99", "cpu_ms", "count", "wrong")
                    }
                    yield {
                        "stack": stack,
                        "hash": hash_name,
                        "clients": clients,
                        "server": name,
                        **values,
                    }


def flood(peers: Peers, rounds: int) -> Iterator[Result]:
    records = []
    for turn in range(rounds):
        for stack in (SAME,) if turn else (SAME, DEBIAN):
            for hash_name in SLOW_HASHES:
                usual, *others = peers.accounts.write(hash_name, 51)
                for name in turned((OURS, UNSLOWED, *PEERS), turn):
                    with peers.server(name, stack) as server:
                        peers.await_login(server, usual)
                        with peers.flood(server, others) as refused:
                            time.sleep(0.05)  # all 50 are there
                            visits = peers.visit(server, 8, usual)
                    values = {"refused": refused["per_second"], **visits}
                    records.append({"stack": stack, "hash": hash_name, "server": name, **values})
    peers.figures["flood"] = records
    yield from flood_goals(records)


class Crowd:
    """Connections that ask nothing, or send a byte a second; those that are cut come back within a
    second."""

    TICKS = 20  # a second

    def __init__(self, server: Server, count: int, dripping: bool) -> None:
        self.target, self.count, self.dripping = server.target, count, dripping
        self.local = server.target.startswith("/")
        # the head of a request that does not end; for saslauthd, a username that is 255 bytes long
        self.bytes = (
            b"\0\xff" + b"a" * 255 if self.local else b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 76
        )
        self.sent: dict[socket.socket, int] = {}  # by each connection
        self.cut = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> "Crowd":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for tick in itertools.count():
                if self.over.wait(1 / self.TICKS):
                    break
                for key, _ in selector.select(0):
                    self.drop_if_cut(key.fileobj, selector)
                for _ in range(min(self.count - len(self.sent), self.count // self.TICKS)):
                    self.open(selector)
                for connection in (
                    list(self.sent)[tick % self.TICKS :: self.TICKS] if self.dripping else ()
                ):
                    with contextlib.suppress(OSError):  # one that is cut is found at the next tick
                        connection.send(self.bytes[self.sent[connection] % len(self.bytes) :][:1])
                        self.sent[connection] += 1
            for connection in self.sent:
                connection.close()

    def open(self, selector: selectors.BaseSelector) -> None:
        connection = socket.socket(socket.AF_UNIX if self.local else socket.AF_INET)
        connection.setblocking(False)
        try:
            connection.connect(self.target if self.local else ("127.0.0.1", int(self.target)))
        except BlockingIOError:
            if self.local:  # its queue is full; a TCP connection goes on by itself
                connection.close()
                return
        self.sent[connection] = 0
        selector.register(connection, selectors.EVENT_READ)

    def drop_if_cut(self, connection: Any, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(OSError):
            if connection.recv(4096):
                return
        self.cut += 1
        selector.unregister(connection)
        del self.sent[connection]
        connection.close()


def connections(peers: Peers, rounds: int) -> Iterator[Result]:
    (user,) = peers.accounts.write("SHA-512", 1)
    records = []
    for turn in range(rounds):
        for name, kind in itertools.product(
            turned((OURS, ROOMY, *PEERS), turn), ("idle", "dripping")
        ):
            with peers.server(name) as server:
                peers.await_login(server, user)
                peers.load(server, "-n", 20, users=[user])
                before = family_memory(server.pid)
                with Crowd(server, 1000, kind == "dripping") as crowd:
                    time.sleep(2)  # half of that is what they take to come
                    held, taken = len(crowd.sent), family_memory(server.pid) - before
                    visits = peers.visit(server, 5, user)
            values = {"held": held, "cut": crowd.cut, "memory": taken, **visits}
            records.append({"kind": kind, "server": name, **values})
    peers.figures["connections"] = records
    yield from connection_goals(records)


def memory(peers: Peers, rounds: int) -> Iterator[Result]:
    records = []
    for turn in range(rounds):
        for name in turned((OURS, *PEERS), turn):
            users = peers.accounts.write("DES", 16)
            began = time.monotonic()
            with peers.server(name) as server:
                peers.await_login(server, users[0])
                started = (time.monotonic() - began) * 1000
                time.sleep(0.2)  # what starts in the background has started
                idle = family_memory(server.pid)
                peers.load(server, "-c", 16, "-n", 10_000, users=users)
                used = family_memory(server.pid)
                users = peers.accounts.write("yescrypt", 16)
                peak = peak_memory(peers, server, users)
            records.append(
                {"server": name, "start_ms": started, "idle": idle, "used": used, "peak": peak}
            )
    peers.figures["memory"] = records
    yield from ()  # there is no goal


def peak_memory(peers: Peers, server: Server, users: Sequence[str]) -> float:
    """The most memory seen during 2 seconds of logins, by all of `users` at once."""
    seen = []
    with subprocess.Popen(  # noqa: S603
        peers.load_command(server, "-w", PASSWORD, "-c", len(users), "-t", 2, users=users),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None:
            seen.append(family_memory(server.pid))
            time.sleep(0.02)
        server.judged(process.communicate()[0])
    return max(seen)


PARTS: dict[str, tuple[Callable[[Peers, int], Iterator[Result]], int]] = {
    "logins": (logins, 5),
    "flood": (flood, 3),
    "connections": (connections, 1),
    "memory": (memory, 3),
}


def about() -> str:
    """On what the figures are taken."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    system = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    names = [*dict.fromkeys(PACKAGES.values()), "libpam0g"]
    versions = run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${Version}, ", *names]
    ).strip(", ")
    machine = (
        f"{len(CORES)} cores, {cpu[1] if cpu else 'unknown'}; {system[1] if system else 'unknown'}"
    )
    return f"{date.today()}; {machine}; Python {sys.version.split()[0]}; {versions}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure the service beside others; see bench/README.md."
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the figures to peers.json, README.md and the plots",
    )
    arguments = parse_arguments(parser, PARTS)
    if missing := list(
        dict.fromkeys(package for path, package in PACKAGES.items() if not os.path.exists(path))
    ):
        sys.exit(f"peers: not everything is installed: apt install {' '.join(missing)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))  # for 1,000 connections
    with private_folder() as folder:
        peers = Peers(folder)
        print(f"Python {sys.version.split()[0]}, {len(CORES)} cores; every server logs to files")
        missed = measure_parts(peers, PARTS, arguments.parts, arguments.rounds)
        if arguments.write:
            kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
            others = {**kept.get("others", {}), **peers.others}
            kept |= {**peers.figures, "others": others, "about": about()}
            FIGURES.write_text(json.dumps(kept) + "\n")
            write()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
