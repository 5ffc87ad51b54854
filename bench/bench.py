"""The speed and size of the service, against a C program and a bare Python loop measured in the
same run.

usage: bench.py [cpu] [rate] [health] [flood] [start] [--rounds N]

Needs root: the service and the C program log in against a private copy of /etc, in a mount
namespace of their own. What the numbers mean stands in README.md. The exit status is 1 where a goal
is missed.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from testbed import (
    CORES,
    PASSWORD,
    WRONG,
    BrokenError,
    Result,
    Testbed,
    checked,
    cpu_seconds,
    ending,
    measure_parts,
    parse_arguments,
    private_folder,
    run,
    spread,
)


def rss(pid: int) -> float:
    """Resident memory in MB (2**20 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def pin(pid: int, core: int) -> None:
    """Run all threads of `pid`, and those that they start, on one core."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), {core})


class Bench(Testbed):
    """How to run what is measured."""

    @contextlib.contextmanager
    def service(self, **settings: str) -> Iterator["Process"]:
        """The real main.py, ready to answer."""
        with self.main_py(**settings) as (process, port, began):
            yield Process(process.pid, port, until_healthy(process, port) - began)

    def load(
        self, port: int, *arguments: object, users: Sequence[str] = (), core: int | None = None
    ) -> dict[str, float]:
        """Right logins of `users`, or GET /health without; from one core only, if need be."""
        prefix = ["taskset", "-c", core] if core is not None else []
        return checked(
            run([*prefix, self.folder / "load", "-w", PASSWORD, *arguments, port, *users])
        )

    @contextlib.contextmanager
    def flood(self, port: int, seconds: float, users: Sequence[str]) -> Iterator[None]:
        """Wrong passwords for all of `users` at once, each over a connection of its own."""
        arguments = [
            "-c",
            len(users),
            "-t",
            seconds,
            "-w",
            WRONG,
            "-e",
            '"valid": false',
            port,
            *users,
        ]
        command = [str(word) for word in (self.folder / "load", *arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            yield
            if process.poll() is not None:
                raise BrokenError("the flood ended before the logins beside it were measured")
            checked(process.communicate()[0])

    @contextlib.contextmanager
    def bare_loop(self, answer: bytes) -> Iterator["Process"]:
        """A Python that answers whatever comes with `answer`: recv, send, nothing else."""
        program = (
            "import socket, sys\n"
            "listener = socket.create_server(('127.0.0.1', 0))\n"
            "print(listener.getsockname()[1], flush=True)\n"
            "answer = sys.stdin.buffer.read()\n"
            "while True:\n"
            "    connection = listener.accept()[0]\n"
            "    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n"
            "    while connection.recv(16384):\n"
            "        connection.send(answer)\n"
        )
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with ending(process):
            assert process.stdin  # noqa: S101 - for mypy
            assert process.stdout  # noqa: S101
            process.stdin.write(answer)
            process.stdin.close()
            yield Process(process.pid, int(process.stdout.readline()), 0.0)


class Process(NamedTuple):
    """A running server; `started` is how many seconds after exec it gave its first answer."""

    pid: int
    port: int
    started: float

    def cpu_ms(self, measure: Callable[[], dict[str, float]]) -> float:
        """Milliseconds of CPU of this process per request of `measure`."""
        before = cpu_seconds(self.pid)
        done = measure()
        return (cpu_seconds(self.pid) - before) / done["count"] * 1000


def ask_health(port: int) -> bytes:
    """The whole answer to one GET /health."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection.recv(16_384)  # it is sent in one write


def until_healthy(process: subprocess.Popen[bytes], port: int) -> float:
    """Wait for the first answer of a server that is starting; when it came."""
    while process.poll() is None:
        try:
            ask_health(port)
        except ConnectionError:
            time.sleep(0.0005)
        else:
            return time.perf_counter()
    raise BrokenError(f"main.py did not start: exit status {process.returncode}")


# --- The goals ---------------------------------------------------------------------------------


def cpu(bench: Bench, rounds: int) -> Iterator[Result]:
    users = bench.accounts.write("DES", 1)
    beyond, in_c, in_service, one_core = [], [], [], []
    with bench.service() as service, bench.service() as pinned:
        pin(pinned.pid, CORES[0])
        for process in (service, pinned):
            bench.load(process.port, "-n", 500, users=users)
        for _ in range(rounds):
            in_c.append(bench.c_logins(1, 0.3, users)["cpu_ms"])
            in_service.append(
                service.cpu_ms(lambda: bench.load(service.port, "-t", 0.5, users=users))
            )
            beyond.append(in_service[-1] - in_c[-1])
            on_core = pinned.cpu_ms(
                lambda: bench.load(pinned.port, "-t", 0.4, users=users, core=CORES[0])
            )
            one_core.append(on_core - bench.c_logins(1, 0.3, users)["cpu_ms"])
    value = statistics.median(beyond)
    medians = f"service {statistics.median(in_service):.3f}, C {statistics.median(in_c):.3f}"
    yield Result(
        "CPU per right login beyond C, DES, 1 client",
        "<= 0.3 ms",
        f"{value:.3f} ms",
        value <= 0.3,
        f"{spread(beyond, '.3f')}; {medians}; with the client on one core "
        f"{statistics.median(one_core):.3f}",
    )


def rate(bench: Bench, rounds: int) -> Iterator[Result]:
    counts = (2, 4, 16)
    for hash_name, goal, seconds in (("yescrypt", 0.95, 1.0), ("SHA-512", 0.85, 0.6)):
        users = bench.accounts.write(hash_name, max(counts))
        ratios: dict[int, list[float]] = {count: [] for count in counts}
        rates: dict[int, list[float]] = {count: [] for count in counts}
        in_c = []
        with bench.service() as service:
            bench.load(service.port, "-c", max(counts), "-n", 2 * max(counts), users=users)
            in_c.append(bench.c_logins(len(CORES), seconds, users)["rate"])
            for _ in range(rounds):
                for count in counts:
                    arguments = ("-c", count, "-t", seconds * (1.5 if count == max(counts) else 1))
                    rates[count].append(bench.load(service.port, *arguments, users=users)["rate"])
                    in_c.append(bench.c_logins(len(CORES), seconds, users)["rate"])
                    ratios[count].append(rates[count][-1] / statistics.mean(in_c[-2:]))
        for count in counts:
            value = statistics.median(ratios[count])
            here, there = statistics.median(rates[count]), statistics.median(in_c)
            medians = f"service {here:.0f}/s, C {there:.0f}/s"
            yield Result(
                f"logins against C on {len(CORES)} cores, {hash_name}, {count} clients",
                f">= {goal}",
                f"{value:.3f}",
                value >= goal,
                f"{spread(ratios[count], '.2f')}; {medians}",
            )


def health(bench: Bench, rounds: int) -> Iterator[Result]:
    beyond, in_loop, other_core = [], [], []

    def microseconds(process: Process, core: int) -> float:
        bench.load(process.port, "-n", 200, core=core)
        return process.cpu_ms(lambda: bench.load(process.port, "-t", 0.3, core=core)) * 1000

    with bench.service() as service, bench.bare_loop(ask_health(service.port)) as loop:
        for process in (service, loop):
            pin(process.pid, CORES[0])
        for _ in range(rounds):
            in_loop.append(microseconds(loop, CORES[0]))
            beyond.append(microseconds(service, CORES[0]) - in_loop[-1])
            other_core.append(microseconds(service, CORES[-1]) - microseconds(loop, CORES[-1]))
    value = statistics.median(beyond)
    yield Result(
        "CPU per GET /health beyond a bare loop, 1 client",
        "<= 30 µs",
        f"{value:.1f} µs",
        value <= 30,
        f"{spread(beyond, '.1f')}; the loop itself {statistics.median(in_loop):.1f}; "
        f"with the client on another core {statistics.median(other_core):.1f}",
    )


def flood(bench: Bench, rounds: int) -> Iterator[Result]:
    cases: tuple[tuple[str, dict[str, str]], ...] = (
        ("default settings", {}),
        ("MAX_FAILURES=0", {"MAX_FAILURES": "0"}),
        ("2 s delay in the stack", {"PAM_SERVICE": "bench-slow"}),
    )
    for hash_name, seconds in (("SHA-512", 1.5), ("yescrypt", 4.5)):
        usual, *others = bench.accounts.write(hash_name, 51)
        ratios: dict[str, list[float]] = {name: [] for name, _ in cases}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in cases}
        for _ in range(rounds):
            for name, settings in cases:
                with bench.service(**settings) as service:
                    bench.load(service.port, "-n", 5, users=[usual])
                    idle = bench.load(service.port, "-t", seconds / 2, "-p", 5, users=[usual])[
                        "p95"
                    ]
                    with bench.flood(service.port, seconds + 0.4, others):
                        time.sleep(0.05)  # all 50 are there
                        flooded = bench.load(service.port, "-t", seconds, "-p", 5, users=[usual])[
                            "p95"
                        ]
                times[name].append((idle, flooded))
                ratios[name].append(flooded / idle)
        for name, _ in cases:
            value = statistics.median(ratios[name])
            idle, flooded = (statistics.median(column) for column in zip(*times[name], strict=True))
            yield Result(
                f"p95 in a flood against idle, {hash_name}, {name}",
                "< 3",
                f"{value:.2f}",
                value < 3,
                f"{spread(ratios[name], '.2f')}; idle {idle:.1f} ms, flooded {flooded:.1f} ms",
            )


def start(bench: Bench, rounds: int) -> Iterator[Result]:
    users = bench.accounts.write("DES", 16)
    starts, idle, warm = [], [], []
    for _ in range(rounds):
        with bench.service() as service:
            starts.append(service.started * 1000)
            time.sleep(0.1)
            idle.append(rss(service.pid))
            bench.load(service.port, "-n", 1, users=users)
            warm.append(rss(service.pid) - idle[-1])
    value = statistics.median(starts)
    yield Result(
        "first /health after exec",
        "<= 150 ms",
        f"{value:.0f} ms",
        value <= 150,
        spread(starts, ".0f"),
    )
    value = statistics.median(idle)
    yield Result(
        "RSS idle, before any login",
        "<= 28 MB",
        f"{value:.1f} MB",
        value <= 28,
        spread(idle, ".1f"),
    )
    for clients in (1, 16):
        with bench.service() as service:
            time.sleep(0.1)
            before = rss(service.pid)
            bench.load(service.port, "-c", clients, "-n", 10_000, users=users)
            value = rss(service.pid) - before
        yield Result(
            f"RSS more after 10,000 right logins, {clients} client{'s' * (clients > 1)}",
            "<= 2 MB",
            f"{value:.2f} MB",
            value <= 2,
            f"the first login alone {statistics.median(warm):.2f}",
        )


PARTS: dict[str, tuple[Callable[[Bench, int], Iterator[Result]], int]] = {
    "cpu": (cpu, 15),
    "rate": (rate, 5),
    "health": (health, 15),
    "flood": (flood, 5),
    "start": (start, 11),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the service; see bench/README.md.")
    arguments = parse_arguments(parser, PARTS)
    with private_folder() as folder:
        bench = Bench(folder)
        print(
            f"Python {sys.version.split()[0]}, {len(CORES)} cores; "
            "the log of the service goes to a file"
        )
        missed = measure_parts(bench, PARTS, arguments.parts, arguments.rounds)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
