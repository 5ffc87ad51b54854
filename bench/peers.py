"""The service beside the other ways to ask PAM from Debian's packages, all measured in the same run.

usage: peers.py [logins] [flood] [connections] [memory] [--rounds N] [--write]

Needs root: everything logs in against a private copy of /etc, in a mount namespace of its own. What is compared, and
how, stands in README.md. Nothing is installed. With --write the figures go to peers.json, and from there into the
table of README.md and the plots; parts that were not measured stay as they were. The exit status is 1 where a goal is
missed.
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from testbed import (
    CORES,
    HERE,
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

FIGURES = HERE / "peers.json"
OURS = "ugos-auth-proxy"
UNSLOWED, ROOMY = f"{OURS}, no delay", f"{OURS}, 1,200 connections"
PEERS = ("saslauthd", "nginx", "Apache, pwauth", "Apache, authnz_pam")
LIMITS = ("crypt_r", "libpam in C", "libpam in C, unmapped")
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
DEBIAN = "bench-debian"
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
        """What load.c has printed. Raises BrokenError for wrong answers: for a single one if they are the service's."""
        values = figures(line)
        if values["wrong"] > (0 if self.name in SETTINGS else values["count"] / 10):
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
    """CPU seconds of a process and all its descendants, those included that have ended and were waited for."""
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
            total += int(Path(f"/proc/{member}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
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
        self.figures: dict[str, list[dict[str, Any]]] = {}
        folder.chmod(0o755)  # www-data reads the page
        (folder / "www").mkdir()
        (folder / "www" / "ok").write_text("ok\n")
        # what lets nginx and mod_authnz_pam read /etc/shadow, as their documentation says
        group = Path("/etc/group")
        group.write_text(re.sub(r"(?m)^(shadow:.*:.*?)(,?)$", r"\1,www-data", group.read_text()).replace(":,", ":"))
        # a daemon that detaches becomes a child of this process, which can wait for it
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, prctl(2)

    @contextlib.contextmanager
    def server(self, name: str, stack: str = "bench") -> Iterator[Server]:
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
        values = {"folder": self.folder, "port": port, "stack": stack, "modules": "/usr/lib/apache2/modules"}
        config = self.folder / f"{port}.conf"
        if name == "nginx":
            config.write_text(NGINX.format(**values))
            command = ["/usr/sbin/nginx", "-c", str(config)]
        else:
            parts = {key: text.format(**values) for key, text in PROVIDERS[name].items()}
            config.write_text(APACHE.format(**values, **parts))
            command = ["/usr/sbin/apache2", "-f", str(config), "-DFOREGROUND"]
            Path("/etc/pam.d/pwauth").write_text(Path("/etc/pam.d", stack).read_text())  # pwauth has no other service
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603

    def load_command(self, server: Server, *arguments: object, users: Sequence[str]) -> list[str]:
        words = (self.folder / "load", *server.protocol, *arguments, server.target, *users)
        return [str(word) for word in words]

    def load(self, server: Server, *arguments: object, users: Sequence[str]) -> dict[str, float]:
        """Right logins of `users`."""
        return server.judged(run(self.load_command(server, "-w", PASSWORD, *arguments, users=users)))

    def await_login(self, server: Server, user: str) -> None:
        """Wait until a right login succeeds."""
        until = time.monotonic() + 15
        while time.monotonic() < until:
            with contextlib.suppress(BrokenError, KeyError):
                if self.load(server, "-n", 1, "-o", 1, users=[user])["200"]:
                    return
        raise BrokenError("no login succeeds after the start")

    def visit(self, server: Server, seconds: float, user: str) -> dict[str, Any]:
        """A right login every half second, each over a new connection: milliseconds of each, time-outs, failures."""
        clients = 2 * PATIENCE + 2  # so many that one is always free
        arguments = ("-v", "-c", clients, "-i", 0.5, "-o", PATIENCE, "-t", seconds, "-w", PASSWORD)
        line, times = run(self.load_command(server, *arguments, users=[user])).split("\n")
        values = figures(line)
        if values["wrong"] and server.name in SETTINGS:
            raise BrokenError(f"wrong answers of {server.name}: {line}")
        milliseconds = [float(word) for word in times.split()]
        return {"times": milliseconds, "timeouts": int(values["timeouts"]), "failed": int(values["wrong"])}

    @contextlib.contextmanager
    def flood(self, server: Server, users: Sequence[str], refused: list[float]) -> Iterator[None]:
        """Wrong passwords for all of `users` without pause; `refused` gets how many were refused in a second."""
        arguments = ("-a", "-c", len(users), "-t", 60, "-w", WRONG, "-e", server.refusal)
        began = time.monotonic()
        with subprocess.Popen(  # noqa: S603
            self.load_command(server, *arguments, users=users), stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
            line = process.communicate()[0]
        refused.append(figures(line).get("200" if server.name in SETTINGS else "401", 0) / (time.monotonic() - began))

    def record(self, part: str, **values: object) -> None:
        self.figures.setdefault(part, []).append(values)


# --- The parts ---------------------------------------------------------------------------------


def turned(names: Sequence[str], by: int) -> list[str]:
    """The names in their order, each round with another one first."""
    by %= len(names)
    return [*names[by:], *names[:by]]


def limit(peers: Peers, name: str, hash_name: str, clients: int, seconds: float, *, stack: str) -> dict[str, float]:
    users = [f"user{i}" for i in range(clients)]
    options = {"crypt_r": ("-x", peers.accounts.hashes[hash_name]), "libpam in C, unmapped": ("-u",)}.get(name, ())
    return peers.c_logins(clients, seconds, users, *options, stack=stack)


def logins(peers: Peers, rounds: int) -> Iterator[Result]:
    cases = [("DES", 1, 0.5)]
    cases += [("SHA-512", clients, 0.7) for clients in (1, 2, 4, 16)]
    cases += [("yescrypt", clients, seconds) for clients, seconds in ((1, 1.2), (2, 1.2), (4, 1.2), (16, 1.8))]
    measure_logins(peers, "bench", rounds, cases)
    measure_logins(peers, DEBIAN, 1, [case for case in cases if case[1] in (1, 16)])
    yield from login_goals(peers.figures["logins"])


def measure_logins(peers: Peers, stack: str, rounds: int, cases: Sequence[tuple[str, int, float]]) -> None:
    with contextlib.ExitStack() as running:
        servers = {name: running.enter_context(peers.server(name, stack)) for name in (OURS, *PEERS)}
        users = peers.accounts.write("DES", 16)
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
                        done["cpu_ms"] = (family_cpu(servers[name].pid) - before) / done["count"] * 1000
                    else:
                        done = limit(peers, name, hash_name, clients, seconds, stack=stack)
                    values = {key: done[key] for key in ("rate", "p50", "p99", "cpu_ms", "count", "wrong")}
                    peers.record("logins", stack=stack, hash=hash_name, clients=clients, server=name, **values)


def column(records: Sequence[dict[str, Any]], key: str, **where: object) -> list[float]:
    """The values of `key`, one a round, in the records that are as `where` says."""
    return [record[key] for record in records if all(record[name] == value for name, value in where.items())]


def ratios(records: Sequence[dict[str, Any]], key: str, against: str, **where: object) -> list[float]:
    """Each round's own ratio of the service to another."""
    pairs = zip(column(records, key, server=OURS, **where), column(records, key, server=against, **where), strict=True)
    return [ours / other for ours, other in pairs]


def login_goals(records: Sequence[dict[str, Any]]) -> Iterator[Result]:
    def against_peers(what: str, key: str, hash_name: str, clients: int, more_is_better: bool) -> Result:
        where = {"stack": "bench", "hash": hash_name, "clients": clients}
        found = {peer: statistics.median(ratios(records, key, peer, **where)) for peer in PEERS}
        worst = (min if more_is_better else max)(found.values())
        own = column(records, key, server=OURS, **where)
        return Result(
            f"{what} against the best peer, {hash_name}, {clients} client{'s' * (clients > 1)}",
            ">= 1" if more_is_better else "< 1",
            f"{worst:.3f}",
            worst >= 1 if more_is_better else worst < 1,
            f"{statistics.median(own):.3g}; " + ", ".join(f"{peer} {ratio:.2f}" for peer, ratio in found.items()),
        )

    for hash_name in ("SHA-512", "yescrypt", "DES"):
        yield against_peers("CPU per right login", "cpu_ms", hash_name, 1, more_is_better=False)
    for hash_name, goal in (("SHA-512", 1.12), ("yescrypt", 1.03)):
        found = ratios(records, "cpu_ms", "libpam in C", stack="bench", hash=hash_name, clients=1)
        value = statistics.median(found)
        yield Result(
            f"CPU per right login against libpam in C, {hash_name}, 1 client",
            f"<= {goal}",
            f"{value:.3f}",
            value <= goal,
            f"{min(found):.2f} to {max(found):.2f}",
        )
    for hash_name in ("SHA-512", "yescrypt"):
        yield against_peers("right logins per second", "rate", hash_name, 16, more_is_better=True)


def flood(peers: Peers, rounds: int) -> Iterator[Result]:
    for turn in range(rounds):
        for stack in ("bench", DEBIAN)[: 2 if turn == 0 else 1]:
            for hash_name in ("SHA-512", "yescrypt"):
                usual, *others = peers.accounts.write(hash_name, 51)
                for name in turned((OURS, UNSLOWED, *PEERS), turn):
                    refused: list[float] = []
                    with peers.server(name, stack) as server:
                        peers.await_login(server, usual)
                        with peers.flood(server, others, refused):
                            time.sleep(0.05)  # all 50 are there
                            visits = peers.visit(server, 8, usual)
                    where = {"stack": stack, "hash": hash_name, "server": name}
                    peers.record("flood", **where, refused=refused[0], **visits)
    yield from flood_goals(peers.figures["flood"])


def pooled(records: Sequence[dict[str, Any]], **where: object) -> list[float]:
    """All times of right logins in these records, in order of length."""
    chosen = [record for record in records if all(record[name] == value for name, value in where.items())]
    return sorted(time for record in chosen for time in record["times"])


def percentile(times: Sequence[float], percent: int) -> float:
    return times[len(times) * percent // 100]


def flood_goals(records: Sequence[dict[str, Any]]) -> Iterator[Result]:
    for hash_name in ("SHA-512", "yescrypt"):
        p95 = {
            name: percentile(pooled(records, stack="bench", hash=hash_name, server=name), 95)
            for name in (OURS, UNSLOWED, *PEERS)
        }
        best = min(p95[peer] for peer in PEERS)
        for name in (OURS, UNSLOWED):
            yield Result(
                f"right login's p95 in a flood, {hash_name}, {name}",
                f"< {best:.0f} ms",
                f"{p95[name]:.0f} ms",
                p95[name] < best,
                ", ".join(f"{peer} {p95[peer]:.0f}" for peer in PEERS),
            )
    for name in (OURS, UNSLOWED):
        count = sum(column(records, "timeouts", server=name))
        asked = len(pooled(records, server=name))
        yield Result(
            f"right logins that timed out in a flood, {name}",
            "0",
            f"{count}",
            not count,
            f"of {asked}; with Debian's stack: "
            + ", ".join(
                f"{peer} {sum(column(records, 'timeouts', server=peer, stack=DEBIAN))} of "
                f"{len(pooled(records, server=peer, stack=DEBIAN))}"
                for peer in PEERS
            ),
        )


class Crowd:
    """Connections that send no request, or a byte of one now and then; one that is cut comes back within a second."""

    def __init__(self, server: Server, count: int, dripping: bool) -> None:
        self.server, self.count, self.dripping = server, count, dripping
        self.connections: dict[socket.socket, int] = {}  # how many bytes each has sent
        self.cut = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        # the head of a request that does not end; for saslauthd, a username of 16,384 bytes
        self.bytes = b"@\0" + b"a" * 98 if server.target.startswith("/") else b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 76

    def __enter__(self) -> "Crowd":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            while not self.over.wait(0):
                next_second = time.monotonic() + 1
                while len(self.connections) < self.count and self.open(selector):
                    pass
                if self.dripping:
                    for connection, sent in self.connections.items():
                        with contextlib.suppress(OSError):  # one that is cut is found below
                            connection.send(self.bytes[sent % len(self.bytes) :][:1], socket.MSG_NOSIGNAL)
                            self.connections[connection] = sent + 1
                while (left := next_second - time.monotonic()) > 0 and not self.over.wait(0):
                    for key, _ in selector.select(min(left, 0.05)):
                        self.close(key.fileobj, selector)
            for connection in self.connections:
                connection.close()

    def open(self, selector: selectors.BaseSelector) -> bool:
        local = self.server.target.startswith("/")
        connection = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
        connection.setblocking(False)
        try:
            connection.connect(self.server.target if local else ("127.0.0.1", int(self.server.target)))
        except BlockingIOError as error:  # a TCP connection goes on in the background, a Unix socket's queue is full
            if local:
                connection.close()
                return not error
        self.connections[connection] = 0
        selector.register(connection, selectors.EVENT_READ)
        return True

    def close(self, connection: Any, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(OSError):
            if connection.recv(4096):
                return
        self.cut += 1
        selector.unregister(connection)
        del self.connections[connection]
        connection.close()


def connections(peers: Peers, rounds: int) -> Iterator[Result]:
    (user,) = peers.accounts.write("SHA-512", 1)
    for turn in range(rounds):
        for name in turned((OURS, ROOMY, *PEERS), turn):
            for kind in ("idle", "dripping"):
                with peers.server(name) as server:
                    peers.await_login(server, user)
                    peers.load(server, "-n", 20, users=[user])
                    before = family_memory(server.pid)
                    with Crowd(server, 1000, kind == "dripping") as crowd:
                        time.sleep(2)  # a Unix socket takes them a few at a time
                        crowded = family_memory(server.pid)
                        held = len(crowd.connections)
                        visits = peers.visit(server, 5, user)
                        crowded = max(crowded, family_memory(server.pid))
                values = {"held": held, "cut": crowd.cut, "memory": crowded - before, **visits}
                peers.record("connections", kind=kind, server=name, **values)
    yield from connection_goals(peers.figures["connections"])


def connection_goals(records: Sequence[dict[str, Any]]) -> Iterator[Result]:
    found = column(records, "memory", server=ROOMY, kind="idle")
    value = statistics.median(found)
    yield Result(
        f"memory of 1,000 idle connections, {ROOMY}",
        "< 20 MB",
        f"{value:.1f} MB",
        value < 20,
        f"{min(found):.1f} to {max(found):.1f}",
    )
    for name in (OURS, ROOMY):
        for kind in ("idle", "dripping"):
            times = pooled(records, server=name, kind=kind)
            count = sum(column(records, "timeouts", server=name, kind=kind))
            yield Result(
                f"right logins that timed out beside 1,000 {kind}, {name}",
                "0",
                f"{count}",
                not count,
                f"of {len(times)}; p50 {percentile(times, 50):.1f} ms, the longest {times[-1]:.0f} ms",
            )


def memory(peers: Peers, rounds: int) -> Iterator[Result]:
    for turn in range(rounds):
        for name in turned((OURS, *PEERS), turn):
            users = peers.accounts.write("DES", 16)
            began = time.monotonic()
            with peers.server(name) as server:
                peers.await_login(server, users[0])
                started = (time.monotonic() - began) * 1000
                time.sleep(0.2)
                idle = family_memory(server.pid)
                peers.load(server, "-c", 16, "-n", 10_000, users=users)
                used = family_memory(server.pid)
                peers.accounts.write("yescrypt", 16)
                peak = peak_memory(peers, server, users)
            peers.record("memory", server=name, start_ms=started, idle=idle, used=used, peak=peak)
    yield from ()


def peak_memory(peers: Peers, server: Server, users: Sequence[str]) -> float:
    """The most memory in use during 2 seconds of 16 clients."""
    seen = [0.0]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.append(family_memory(server.pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        peers.load(server, "-c", 16, "-t", 2, users=users)
    finally:
        over.set()
        thread.join()
    return max(seen)


PARTS: dict[str, tuple[Callable[[Peers, int], Iterator[Result]], int]] = {
    "logins": (logins, 5),
    "flood": (flood, 3),
    "connections": (connections, 1),
    "memory": (memory, 3),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the service beside others; see bench/README.md.")
    parser.add_argument("--write", action="store_true", help="write the figures to peers.json, README.md and the plots")
    arguments = parse_arguments(parser, PARTS)
    if missing := [package for path, package in PACKAGES.items() if not os.path.exists(path)]:
        sys.exit(f"peers: not everything is installed: apt install {' '.join(missing)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))
    with private_folder() as folder:
        peers = Peers(folder)
        print(f"Python {sys.version.split()[0]}, {len(CORES)} cores; every server logs to files")
        missed = measure_parts(peers, PARTS, arguments.parts, arguments.rounds)
        if arguments.write:
            kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
            FIGURES.write_text(json.dumps({**kept, **peers.figures}) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
