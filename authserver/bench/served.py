"""Servers that are measured: what a program costs, as the kernel counts it, and how it answers."""

import base64
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

TICKS = os.sysconf("SC_CLK_TCK")
AUTHSERVER = str(Path(sys.executable).with_name("authserver"))
BOUND = 120.0  # seconds for a server to start


class Served:
    """A running server that answers GET `probe`; its processor time and memory can be read."""

    def __init__(
        self, command: Sequence[str], probe: str, environment: Mapping[str, str] | None = None
    ) -> None:
        begun = time.monotonic()
        self.process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL
        )
        while self.process.poll() is None and time.monotonic() < begun + BOUND:
            try:
                check(httpx.get(probe, trust_env=False, timeout=BOUND))
                break
            except httpx.TransportError:
                time.sleep(0.02)
        else:
            self.stop()
            raise SystemExit(f"{probe} does not answer")
        self.start_seconds = time.monotonic() - begun

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


def serve(port: int, **settings: str) -> Served:
    """`authserver serve`, whose public address is that of `settings`, else where it listens."""
    environment = {"BASE_URL": f"http://localhost:{port}", "PORT": str(port), **settings}
    return Served([AUTHSERVER, "serve"], f"http://localhost:{port}/health/", environment)


def serve_bare(application: str, port: int, workers: int = 1) -> Served:
    """A yardstick of `bench.bare`, on the same HTTP server."""
    command = [sys.executable, "-m", "uvicorn", f"bench.bare:{application}", f"--port={port}"]
    options = ["--no-access-log", "--log-level=warning", "--http=httptools", "--no-proxy-headers"]
    command += [*options, "--host=localhost", f"--workers={workers}"]
    return Served(command, f"http://localhost:{port}/bare/")


def check(answer: httpx.Response) -> None:
    if answer.status_code != 200:
        raise SystemExit(f"{answer.url}: {answer.status_code} {answer.text}")


def basic(name: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}
