"""What the benchmarks stand on: C programs, a private /etc with accounts, the service, and the
table of goals.

What the numbers mean stands in README.md.
"""

import argparse
import contextlib
import ctypes
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

HERE = Path(__file__).resolve().parent
MAIN = HERE.parent / "main.py"
PASSWORD, WRONG = "correct-horse", "battery-staple"
HASHES = {"DES": "", "SHA-512": "$6$", "yescrypt": "$y$"}  # crypt(5)
STACKS = {
    "bench": "auth required pam_unix.so nodelay\naccount required pam_unix.so\n",
    # Debian's common-auth and common-account: nullok, and pam_unix asks for its own 2 seconds
    "bench-debian": (
        "auth [success=1 default=ignore] pam_unix.so nullok\n"
        "auth requisite pam_deny.so\n"
        "auth required pam_permit.so\n"
        "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n"
        "account requisite pam_deny.so\n"
        "account required pam_permit.so\n"
    ),
    # the delay asked for by pam_faildelay, and by pam_unix as well
    "bench-slow": (
        "auth optional pam_faildelay.so delay=2000000\n"
        "auth required pam_unix.so nullok\n"
        "account required pam_unix.so\n"
    ),
}
CORES = sorted(os.sched_getaffinity(0))


class Result(NamedTuple):
    """One line of the table."""

    what: str
    goal: str
    measured: str
    reached: bool
    notes: str


class BrokenError(Exception):
    """A server did not do what is to be measured."""


def spread(values: Sequence[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


# --- The place: C programs, a private /etc, accounts -------------------------------------------


def build(folder: Path) -> None:
    """Compile load.c and pam_login.c into `folder`; exits with the packages that are missing."""
    for name in ("load", "pam_login"):
        command = [
            "cc",
            "-O2",
            "-pthread",
            "-o",
            str(folder / name),
            str(HERE / f"{name}.c"),
            "-lpam",
            "-lcrypt",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        except FileNotFoundError:
            sys.exit("bench: there is no C compiler: apt install gcc libc6-dev libpam0g-dev")
        if done.returncode:
            sys.exit(
                f"{done.stderr}bench: {name}.c does not compile: "
                "apt install gcc libc6-dev libpam0g-dev"
            )


def run(command: Sequence[object]) -> str:
    arguments = [str(word) for word in command]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return done.stdout


def enter_private_etc(etc: Path) -> None:
    """Copy /etc to `etc` and mount it over /etc, for this process and its children only."""
    if os.geteuid() != 0:
        sys.exit(
            "bench: run it as root: it mounts a private copy of /etc, "
            "in a mount namespace of its own"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x20000):  # CLONE_NEWNS, unshare(2)
        sys.exit(f"bench: no mount namespace to be had: {os.strerror(ctypes.get_errno())}")
    run(["mount", "--make-rprivate", "/"])
    run(["cp", "-a", "/etc", etc])
    run(["mount", "--bind", etc, "/etc"])


def crypt(password: str, prefix: str) -> str:
    """`password` hashed as crypt(5) does by default for `prefix`."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = library.crypt_gensalt.restype = ctypes.c_char_p
    salt = library.crypt_gensalt(prefix.encode(), ctypes.c_ulong(0), None, 0)
    return str(library.crypt(password.encode(), salt).decode())


class Accounts:
    """The rows of the private /etc: the machine's own, and the accounts that a measurement
    needs."""

    def __init__(self) -> None:
        self.own = {path: Path(path).read_text() for path in ("/etc/passwd", "/etc/shadow")}
        self.hashes = {name: crypt(PASSWORD, prefix) for name, prefix in HASHES.items()}
        for name, stack in STACKS.items():
            Path("/etc/pam.d", name).write_text(stack)

    def write(self, hash_name: str, count: int) -> list[str]:
        """Have `count` accounts, all with PASSWORD in this hash; their names."""
        names = [f"user{i}" for i in range(count)]
        passwd = "".join(
            f"{name}:x:{2000 + i}:100::/home/{name}:/bin/sh\n" for i, name in enumerate(names)
        )
        shadow = "".join(f"{name}:{self.hashes[hash_name]}:19000:0:99999:7:::\n" for name in names)
        Path("/etc/passwd").write_text(self.own["/etc/passwd"] + passwd)
        Path("/etc/shadow").write_text(self.own["/etc/shadow"] + shadow)
        return names


# --- Processes ---------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """CPU that a process, its ended threads and its waited-for children have used."""
    own = time.clock_gettime(
        ~pid << 3 | 2
    )  # clock_getcpuclockid(3): exact, where /proc/PID/stat counts in 10 ms
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own + (int(after_name[13]) + int(after_name[14])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def figures(line: str) -> dict[str, float]:
    """The `key=value` words that a C program has printed."""
    return {key: float(value) for key, value in (word.split("=") for word in line.split())}


def checked(line: str) -> dict[str, float]:
    """The same; raises BrokenError where answers were wrong."""
    values = figures(line)
    if values["wrong"]:
        raise BrokenError(f"wrong answers: {line.strip()}")
    return values


def free_port() -> int:
    """A port that nobody listens on, below those that clients' ends get by themselves."""
    while True:
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", random.randrange(10_000, 32_000)))  # noqa: S311
            return int(free.getsockname()[1])


class Testbed:
    """The built programs and the accounts; `folder` is for whatever a measurement writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        build(folder)
        enter_private_etc(folder / "etc")
        self.accounts = Accounts()
        self.others: dict[str, float] = {}  # what share of the machine other processes had, by part

    @contextlib.contextmanager
    def main_py(self, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], int, float]]:
        """The real main.py on 127.0.0.1, its port, and the time just before exec; its log goes to a
        file."""
        port = free_port()
        environment = {"HOST": "127.0.0.1", "PORT": str(port), "PAM_SERVICE": "bench", **settings}
        for kept in ("PATH", "PYTHONPATH"):
            if kept in os.environ:
                environment[kept] = os.environ[kept]
        with open(self.folder / "log", "wb") as log:
            began = time.perf_counter()
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, str(MAIN)], env=environment, stdin=subprocess.DEVNULL, stderr=log
            )
        try:
            with ending(process):
                yield process, port, began
        except BrokenError:  # say what its log says
            lines = (self.folder / "log").read_text().splitlines()
            print(
                *([line for line in lines if " level=INFO " not in line] or lines)[-5:],
                sep="\n",
                file=sys.stderr,
            )
            raise

    def c_logins(
        self,
        threads: int,
        seconds: float,
        users: Sequence[str],
        *options: str,
        stack: str = "bench",
    ) -> dict[str, float]:
        return checked(
            run([self.folder / "pam_login", *options, stack, threads, seconds, PASSWORD, *users])
        )


# --- The table ---------------------------------------------------------------------------------


def busy_seconds() -> tuple[float, float]:
    """CPU seconds since boot that this machine was busy, and those of it that this run used."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, stat.readline().split()[1:])
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(usage.ru_utime + usage.ru_stime for usage in spent)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), own


Place = TypeVar("Place", bound=Testbed)


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that is deleted in the end, and with it what was mounted from it over /etc."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no server outlives the run
    try:
        yield folder
    finally:
        if (folder / "etc").is_dir() and os.path.samefile("/etc", folder / "etc"):
            run(["umount", "-l", "/etc"])
        shutil.rmtree(folder, ignore_errors=True)


def parse_arguments(
    parser: argparse.ArgumentParser, parts: Mapping[str, object]
) -> argparse.Namespace:
    """The arguments of the command line: which parts to measure, how often, and what `parser` has
    by now."""
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(parts)} (default: all)"
    )
    parser.add_argument(
        "--rounds", type=int, help="rounds of each part (default: as many as the part needs)"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def measure_parts(
    place: Place,
    parts: Mapping[str, tuple[Callable[[Place, int], Iterator[Result]], int]],
    chosen: Sequence[str],
    wanted_rounds: int | None,
) -> int:
    """Measure the chosen parts, or all, and print the table of each; how many goals were missed."""
    missed = 0
    for name, (measure, usual_rounds) in parts.items():
        if chosen and name not in chosen:
            continue
        rounds = wanted_rounds or usual_rounds
        began, (busy, own) = time.monotonic(), busy_seconds()
        results: list[Result] = []
        try:
            results.extend(measure(place, rounds))
        except BrokenError as error:
            results.append(Result(str(error), "", "", False, "nothing measured after that"))
        elapsed, (busy_after, own_after) = time.monotonic() - began, busy_seconds()
        others = place.others[name] = max(0.0, (busy_after - busy) - (own_after - own)) / (
            elapsed * (os.cpu_count() or 1)
        )
        print(
            f"\n{name}: {elapsed:.0f} s, {rounds} rounds, "
            f"other processes had {others:.0%} of the machine"
        )
        for result in results:
            missed += not result.reached
            verdict = "PASS" if result.reached else "FAIL"
            print(
                f"  {verdict}  {result.what:<62} {result.goal:>9} {result.measured:>9}  "
                f"({result.notes})"
            )
        print(
            f"  repeat: {sys.executable} {os.path.relpath(sys.argv[0])} {name} --rounds {rounds}",
            flush=True,
        )
    print(f"\n{missed} goals missed" if missed else "\nall goals reached")
    return missed
