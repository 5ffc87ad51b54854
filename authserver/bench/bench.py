"""CPU per request of what others ask most, in bare Django views on the same server.

    make -C authserver bench            SQLite
    make -C authserver bench BENCH=postgres://USER@HOST/EMPTY_DATABASE

Each figure is the processor time of the server, as the kernel counts it, for REQUESTS requests
over one connection; the best of ROUNDS rounds, interleaved with the yardstick's.
"""

import base64
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROUNDS, REQUESTS = 5, 200
TICKS = os.sysconf("SC_CLK_TCK")
# at most so many bare views (the goals), and whether it counts with the yardstick's signature
GOALS = {
    "discovery": 1.2,
    "JWKS": 1.2,
    "userinfo": 2.0,
    "introspection": 2.5,
    "code exchange": 6.0,
    "refresh": 5.5,
    "client credentials": None,
    "/checkpassword/, service user": 3.0,
    "/checkpassword/, no password": None,
    "Docker token, service user": 3.0,
}
# what the client imports: the standard library's, PyJWT and cryptography
IMPORTS = """
import argparse, base64, dataclasses, http.client, ipaddress, json, os, re, signal, ssl, sys
import tempfile, typing, urllib.parse, jwt
from cryptography import exceptions, x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
"""
STARTS, START_GOAL = 15, 2.5  # of the client, each; its time in that of IMPORTS
Ask = Callable[[int], None]


class Served:
    """A server of `application`, whose processor time and memory are read."""

    def __init__(self, application: str, port: int) -> None:
        command = [sys.executable, "-m", "uvicorn", application, "--port", str(port)]
        options = ["--no-access-log", "--log-level", "warning", "--http", "httptools"]
        self.begun = time.monotonic()
        self.process = subprocess.Popen([*command, *options, "--no-proxy-headers"])

    def seconds(self) -> float:
        """User and system time so far (proc(5), /proc/pid/stat)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def megabytes(self) -> float:
        """Its proportional set size."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        pss = next(line for line in lines if line.startswith("Pss:"))
        return int(pss.split()[1]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def cost(served: Served, ask: Ask) -> float:
    """Processor milliseconds of one request."""
    before = served.seconds()
    for number in range(REQUESTS):
        ask(number)
    return (served.seconds() - before) * 1000 / REQUESTS


def seconds_of(command: list[str]) -> float:
    """Processor time of a program from start to exit, without anything on its stdin."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime


def measure_client() -> None:
    """The client without network, in a Python that only imports the same; the best of each."""
    client = [str(Path(sys.executable).with_name("checkpassword")), "-m", "authext", "--jwtkey=k"]
    commands = {
        "python3 -c IMPORTS": [sys.executable, "-c", IMPORTS],
        "checkpassword": [*client, "-u", "https://localhost/checkpassword/"],
    }
    best = dict.fromkeys(commands, 1e9)
    for _ in range(STARTS):
        for name, command in commands.items():
            best[name] = min(best[name], seconds_of(command))
    imports, whole = best.values()
    print("\nstart to exit, ms CPU: " + ", ".join(f"{n} {v * 1000:.0f}" for n, v in best.items()))
    print(f"the client in its imports: {whole / imports:.2f} (goal {START_GOAL})")


def main() -> None:
    folder = tempfile.mkdtemp(prefix="authserver-bench-")
    base = "http://localhost:18000"
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "authserver.settings",
        "DATA_DIR": folder,
        "BASE_URL": base,
        "PORT": "18000",
        "SECRET_KEY": "x" * 32,
        "LOG_LEVEL": "ERROR",
        "MAX_FAILURES": "0",
        "CHECKPASSWORD_TOKEN": "x" * 16,
    }
    if sys.argv[1:]:
        os.environ["DATABASE_URL"] = sys.argv[1]
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from bench.questions import make_questions

    http, questions = make_questions(base)
    server, yardstick = (
        Served("authserver.asgi:application", 18000),
        Served("bench.bare:application", 18001),
    )
    try:
        wait_for(http, f"{base}/health/")
        started = time.monotonic() - server.begun
        wait_for(http, "http://localhost:18001/bare/")
        memory = server.megabytes()
        measure(http, server, yardstick, questions)
        print(f"\nstart to the first answer: {started:.1f} s; memory then {memory:.0f} MB (PSS)")
        login = questions["/checkpassword/, service user"]
        for number in range(10_000):
            login(number)
        print(f"memory after 10,000 logins more: {server.megabytes():.0f} MB")
        measure_client()
    finally:
        server.stop()
        yardstick.stop()


def wait_for(http: Any, url: str) -> None:
    for _ in range(600):
        try:
            http.get(url)
            return
        except OSError:
            time.sleep(0.1)
        except Exception as error:
            if "Connect" not in type(error).__name__:
                raise
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def measure(http: Any, server: Served, yardstick: Served, questions: dict[str, Ask]) -> None:
    best: dict[str, float] = {}
    bare = {name: f"http://localhost:18001/{name}/" for name in ("bare", "signature")}

    def note(name: str, value: float) -> None:
        best[name] = min(value, best.get(name, value))

    for _ in range(ROUNDS):
        for name, url in bare.items():
            note(name, cost(yardstick, partial(ask_yardstick, http, url)))
        for name, ask in questions.items():
            note(name, cost(server, ask))
    unit = best["bare"]
    print(f"{'':32}ms CPU   in bare views   goal")
    for name, value in best.items():
        goal = GOALS.get(name)
        print(f"{name:32}{value:6.2f}{value / unit:12.1f}{goal or '':>14}")


def ask_yardstick(http: Any, url: str, _number: int) -> None:
    check(http.get(url))


def check(answer: Any) -> None:
    if answer.status_code != 200:
        raise SystemExit(f"{answer.url}: {answer.status_code} {answer.text}")


def basic(name: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


if __name__ == "__main__":
    main()
