"""A Debian with systemd, booted by systemd-nspawn: a machine to install on.

What it writes is in memory: when it ends, nothing is left. It is made of a tree that debootstrap
builds once, with all that is installed on it later, so it needs no network.
"""

import contextlib
import fcntl
import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deploy.nas import ROOT, clone
from tests.processes import BOUND

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "authserver"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
SOURCE = "/root/ugos-auth-proxy"  # where a machine has the repository
REQUIREMENTS = ROOT / "authserver/requirements.txt"
BASE = """
set -e
debootstrap --variant=minbase --include=$PACKAGES $SUITE $TREE $MIRROR
rm -f $TREE/var/cache/apt/archives/*.deb
echo nas > $TREE/etc/hostname
echo '127.0.0.1 localhost nas' > $TREE/etc/hosts
"""
WHEELS = """\
mkdir $TREE/var/lib/wheels
cp $REQUIREMENTS $TREE/var/lib/wheels
cp /etc/ssl/certs/ca-certificates.crt $TREE/var/lib/wheels/build-machine.crt
cp -L /etc/resolv.conf $TREE/etc/resolv.conf
chroot $TREE env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 PIP_CERT=/var/lib/wheels/build-machine.crt \
    sh -ec 'python3 -m venv /tmp/venv; /tmp/venv/bin/pip download --quiet --require-hashes \
    --requirement /var/lib/wheels/requirements.txt --dest /var/lib/wheels; rm -r /tmp/venv'
printf '[global]\\nno-index = true\\nfind-links = /var/lib/wheels\\n' > $TREE/etc/pip.conf
"""
BUILD_TOOLS = """\
chroot $TREE env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive sh -ec 'apt-get -q update
    apt-get -qy install --no-install-recommends build-essential debhelper dh-python lintian'
"""
ARCHIVES = """\
cp -L /etc/resolv.conf $TREE/etc/resolv.conf
chroot $TREE env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 sh -ec 'apt-get -q update
    apt-get -qy satisfy --no-install-recommends --download-only \
    "adduser, ca-certificates, python3, python3-cryptography, python3-jwt, tzdata"'
"""


class Kind(NamedTuple):
    """What a machine is for: its packages from the start, and what else its tree is given."""

    name: str
    packages: str
    build: str


MACHINE = Kind(
    "machine",
    "systemd,systemd-sysv,sudo,make,curl,ca-certificates,openssl,python3-venv",
    BASE + WHEELS,
)
# builds Debian packages
BUILDER = Kind("builder", MACHINE.packages, MACHINE.build + BUILD_TOOLS)
# as Debian's installer leaves one; apt has what the packages depend on
FRESH = Kind("fresh", "systemd,systemd-sysv,curl", BASE + ARCHIVES)

# systemd wants a cgroup2 tree of its own, whatever this host has in /sys/fs/cgroup
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


def child(pid: int) -> int:
    """The process number of the one child that a process has."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def tree(suite: str, kind: Kind) -> Path:
    """The files of a Debian, built where the cache has none; skips where this host cannot."""
    if os.geteuid():
        pytest.skip("needs root to boot a machine")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        pytest.skip(f"needs {', '.join(missing)}: apt install debootstrap systemd-container")
    text = kind.packages + kind.build + REQUIREMENTS.read_text()
    recipe = hashlib.sha256(text.encode()).hexdigest()
    built = CACHE / f"{kind.name}-{suite}-{recipe[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{kind.name}-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            for old in CACHE.glob(f"{kind.name}-{suite}-*"):
                shutil.rmtree(old)
            new = built.with_suffix(".new")
            given = {"PACKAGES": kind.packages, "SUITE": suite, "TREE": new, "MIRROR": MIRROR}
            given["REQUIREMENTS"] = REQUIREMENTS
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-c", kind.build],
                env={**os.environ, **{name: str(value) for name, value in given.items()}},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
            new.rename(built)
    return built


class Machine:
    """A booted machine. Commands in it run as root, in authserver's folder; `close` ends it."""

    def __init__(self, suite: str, kind: Kind = MACHINE) -> None:
        self.name = f"authserver-{kind.name}-{suite}-{os.getpid()}"
        env = {**os.environ, "NAME": self.name, "TREE": str(tree(suite, kind))}
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
        self.do(f"ip link set lo up 2>/dev/null || true; mkdir -p {SOURCE}/authserver")
        clone(self.path(SOURCE))

    def path(self, inside: str) -> Path:
        """Where a file of the machine is for this host."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def await_boot(self, notified: socket.socket) -> int:
        """The process number of its init, once its systemd says that it is up (sd_notify(3))."""
        deadline = time.monotonic() + BOUND
        while (left := deadline - time.monotonic()) > 0 and self.process.poll() is None:
            ready = select.select([notified], [], [], min(left, 1))[0]
            if ready and b"READY=1" in notified.recv(4096).split(b"\n"):
                return child(child(self.process.pid))  # unshare's child is nspawn
        self.console.seek(0)
        said = self.console.read().decode("utf-8", "replace")
        raise AssertionError("the machine has not booted:\n" + said[-3000:])

    def close(self) -> None:
        """End it at once, and all that runs in it."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(child(self.process.pid), signal.SIGKILL)  # the first of its namespace
        self.process.wait(BOUND)
        self.console.close()
        env = {**os.environ, "NAME": self.name}
        deadline = time.monotonic() + BOUND
        clean = ["unshare", "--mount", "sh", "-c", CLEAN]
        while subprocess.run(clean, env=env, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, f"cgroup {self.name} does not empty"

    def run(self, script: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a shell script in the machine; its stderr comes with its stdout."""
        inside = ["nsenter", f"--target={self.leader}", "--all"]
        env = ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/local/bin:/usr/sbin:/usr/bin"]
        where = f"cd {SOURCE}/authserver 2>/dev/null || cd /\n"
        return subprocess.run(
            [*inside, *env, "sh", "-c", where + script],
            input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def do(self, script: str, stdin: str = "") -> str:
        """The output of a shell script that must succeed."""
        done = self.run(f"set -e\n{script}", stdin)
        assert done.returncode == 0, f"{script}:\n{done.stdout}"
        return done.stdout.strip()
