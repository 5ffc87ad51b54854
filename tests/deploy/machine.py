"""A Debian with systemd, booted by systemd-nspawn: a machine to install on.

It has a network, accounts and a /etc of its own, and what it writes is in memory: when it ends,
nothing is left. What it is made of is built once, by debootstrap, and kept below the user's cache
directory.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import http.client
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from repository import copy_source
from service import ROOT

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ugos-auth-proxy"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
SOURCE = "/root/ugos-auth-proxy"  # where a machine has the repository
NEIGHBOUR = "192.0.2.1"  # an address of the machine that is not loopback's
WEEK = 7 * 86400.0  # seconds
BOUND = 60.0  # seconds after which a wait for an event counts as failed

PACKAGES = "systemd,systemd-sysv,sudo,make,curl,iproute2,ca-certificates,python3,python3-venv"
# What tests install later comes with the tree, so that machines need no network: Debian's
# python-pam as packages, and the wheel of requirements.txt, whose hash pip checks as if it came
# from PyPI.
BUILD = """
set -e
debootstrap --variant=minbase --include=$PACKAGES $SUITE $TREE $MIRROR
in_tree() { chroot $TREE env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }
in_tree apt-get -q update
in_tree apt-get -qy install --no-install-recommends --download-only python3-pampy python3-six
$PYTHON -m pip download --quiet --no-deps --require-hashes --requirement requirements.txt \
--dest $TREE/var/lib/wheels
printf '[global]\\nno-index = true\\nfind-links = /var/lib/wheels\\n' > $TREE/etc/pip.conf
echo nas > $TREE/etc/hostname
echo '127.0.0.1 localhost nas' > $TREE/etc/hosts
"""
# systemd wants a cgroup2 tree of its own, whatever this host has in /sys/fs/cgroup. nspawn's files
# in /run, and all that the machine writes, are in this namespace's memory.
BOOT = """
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/$NAME
echo $$ > /sys/fs/cgroup/$NAME/cgroup.procs
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
mkdir /mnt/new /mnt/work /mnt/root
mount -t overlay -o lowerdir=$TREE,upperdir=/mnt/new,workdir=/mnt/work overlay /mnt/root
exec systemd-nspawn --quiet --boot --notify-ready=yes --directory=/mnt/root --machine=$NAME \
    --register=no --keep-unit --private-network --link-journal=no --resolv-conf=off --timezone=off
"""
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
CLEAN = "mount -t cgroup2 cgroup2 /mnt && find /mnt/$NAME -depth -type d -exec rmdir {} +"
TOOLS = ("debootstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv")
CLONE_NEWNET = 0x40000000  # sched.h


def child(pid: int) -> int:
    """The process number of the one child that a process has."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def tree(suite: str) -> Path:
    """The files of a Debian `suite`, built if the cache has none; skips where this host cannot
    build or boot it."""
    if os.geteuid():
        pytest.skip("needs root to boot a machine")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        pytest.skip(
            f"needs {', '.join(missing)} (Debian's debootstrap, systemd-container and util-linux)"
        )
    requirements = (ROOT / "requirements.txt").read_text()
    recipe = hashlib.sha256((PACKAGES + BUILD + requirements).encode()).hexdigest()[:12]
    built = CACHE / f"machine-{suite}-{recipe}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"machine-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            for old in CACHE.glob(f"machine-{suite}-*"):
                if time.time() - old.stat().st_mtime > WEEK:  # another checkout may use it
                    shutil.rmtree(old)
            new = built.with_suffix(".new")
            env = {
                "PACKAGES": PACKAGES,
                "SUITE": suite,
                "TREE": str(new),
                "MIRROR": MIRROR,
                "PYTHON": sys.executable,
            }
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-c", BUILD],
                env={**os.environ, **env},
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
            )
            assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
            new.rename(built)
    return built


class Done(NamedTuple):
    """What a command came to; `text` is its output and errors."""

    status: int
    text: str


class Answer(NamedTuple):
    """What the service said; `json` is the body."""

    status: int
    json: Any


class Machine:
    """A booted machine. Commands in it run as root, with the journal; it ends with `close`."""

    numbers = itertools.count()  # several may run

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self.name = f"ugos-{suite}-{os.getpid()}-{next(self.numbers)}"
        env = {**os.environ, "NAME": self.name, "TREE": str(tree(suite))}
        with (
            tempfile.TemporaryDirectory() as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        ):
            notified.bind(f"{folder}/notify")
            self.console = tempfile.TemporaryFile()
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *NAMESPACES, "sh", "-c", BOOT],
                env={**env, "NOTIFY_SOCKET": f"{folder}/notify"},
                stdin=subprocess.DEVNULL,
                stdout=self.console,
                stderr=subprocess.STDOUT,
            )
            try:
                self.leader = self.await_boot(notified)
            except BaseException:
                self.close()
                raise
        self.run(f"ip link set lo up; ip address add {NEIGHBOUR}/32 dev lo; mkdir -p {SOURCE}")
        copy_source(Path(f"/proc/{self.leader}/root{SOURCE}"))

    def await_boot(self, notified: socket.socket) -> int:
        """The process number of the machine's init, once its systemd says that it is up
        (sd_notify(3))."""
        deadline = time.monotonic() + BOUND
        while (left := deadline - time.monotonic()) > 0 and self.process.poll() is None:
            if select.select([notified], [], [], min(left, 1))[0] and b"READY=1" in notified.recv(
                4096
            ).split(b"\n"):
                return child(child(self.process.pid))  # unshare's child is nspawn
        self.console.seek(0)
        raise AssertionError(
            "the machine has not booted:\n" + self.console.read().decode("utf-8", "replace")[-3000:]
        )

    def close(self) -> None:
        """End it at once, and all that runs in it."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(
                child(self.process.pid), signal.SIGKILL
            )  # the first process of its namespace: all end with it
        self.process.wait(BOUND)
        self.console.close()
        env = {**os.environ, "NAME": self.name}
        deadline = time.monotonic() + BOUND
        clean = ["unshare", "--mount", "sh", "-c", CLEAN]
        while subprocess.run(clean, env=env, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, f"cgroup {self.name} does not empty"

    def command(self, script: str) -> list[str]:
        """What runs a shell script in the machine, in the repository's folder."""
        inside = ["nsenter", f"--target={self.leader}", "--all"]
        env = ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        return [*inside, *env, "sh", "-c", f"cd {SOURCE} || cd /\n{script}"]

    def run(self, script: str, timeout: float = BOUND) -> Done:
        """Run a shell script in the machine."""
        done = subprocess.run(
            self.command(script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout.strip())

    def do(self, script: str, timeout: float = BOUND) -> str:
        """The output of a shell script that must succeed."""
        done = self.run(f"set -e\n{script}", timeout)
        assert done.status == 0, f"{script}\n{done.text}"
        return done.text

    def write(self, path: str, text: str) -> None:
        """Write a file, and the folders above it."""
        target = Path(f"/proc/{self.leader}/root{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def connect(self, address: str, port: int = 8080) -> socket.socket:
        """A connection made in the machine's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as own, open(f"/proc/{self.leader}/ns/net") as its:
            assert libc.setns(its.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                return socket.create_connection((address, port), BOUND)
            finally:
                assert libc.setns(own.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

    def ask(
        self, path: str, body: Any = None, address: str = "127.0.0.1", token: str = ""
    ) -> Answer:
        """Ask the service once; raises OSError where nobody listens."""
        connection = http.client.HTTPConnection(address, timeout=BOUND)
        connection.sock = self.connect(address)
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        try:
            connection.request(
                "POST" if body else "GET", path, json.dumps(body) if body else None, headers
            )
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()))
        finally:
            connection.close()

    def login(self, username: str, password: str, **options: str) -> Answer:
        return self.ask("/validate", {"username": username, "password": password}, **options)

    def show(self, name: str) -> str:
        """A property of the service, as systemd has it."""
        return self.do(f"systemctl show --value --property={name} ugos-auth-proxy")

    def cursor(self) -> str:
        """Where the journal ends now."""
        return self.do("journalctl --sync && journalctl --lines=0 --show-cursor").rpartition(" ")[2]

    def await_log(self, pattern: str, cursor: str) -> str:
        """The first line of the journal after `cursor` that matches; waits for it."""
        journal = f"journalctl --follow --lines=all --output=cat --after-cursor='{cursor}'"
        script = f"timeout {BOUND} {journal}"
        command = ["nsenter", f"--target={self.leader}", "--all", "sh", "-c", f"exec {script}"]
        seen = []
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as follower:
            assert follower.stdout
            for line in follower.stdout:
                seen.append(line)
                if re.search(pattern, line):
                    follower.terminate()
                    return line.strip()
        raise AssertionError(f"no line of the journal matches {pattern!r}:\n{''.join(seen[-40:])}")
