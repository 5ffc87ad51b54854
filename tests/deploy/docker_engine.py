"""A real Docker engine with its compose plugin: the one that runs, or Debian's docker.io, started
for the tests.

What is downloaded or built for it stays below the user's cache directory, so a second run is quick.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TextIO

import pytest

BASE = "debian:bookworm-slim"  # what the Dockerfile is FROM
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ugos-auth-proxy"
DEBIAN = "http://deb.debian.org/debian"
PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
BOUND = 300.0  # seconds after which a command counts as failed


def run(
    *command: object,
    ok: bool = True,
    timeout: float = BOUND,
    **options: str | Path | dict[str, str],
) -> str:
    """The output of a command, stderr included; fails with it, unless not `ok`."""
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert not ok or done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}"
    return str(done.stdout)


class Engine:
    """An engine that answers; `environ` is what `docker` needs to find it. A running one is used as
    it is."""

    environ: dict[str, str]
    daemon: subprocess.Popen[bytes] | None
    rules: (
        str  # of the packet filter, and `forwarding` of the kernel, before the engine changed them
    )
    forwarding: str
    lock: TextIO

    def __init__(self, work: Path) -> None:
        if os.geteuid():
            pytest.skip("needs root, for a Docker engine and for account files that belong to root")
        self.environ, self.daemon = dict(os.environ), None
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            if not self.answers():
                self.start(work)
            if "version" not in self.docker("compose", "version", ok=False):
                self.environ["DOCKER_CONFIG"] = str(self.compose_plugin())
            self.base_image(work)
        except BaseException:
            self.stop()
            raise

    def docker(self, *arguments: object, ok: bool = True, timeout: float = BOUND) -> str:
        return run("docker", *arguments, ok=ok, timeout=timeout, env=self.environ)

    def inspect(self, container: str, template: str) -> str:
        return self.docker("inspect", "--format", "{{" + template + "}}", container).strip()

    def answers(self) -> bool:
        return bool(shutil.which("docker")) and "Server Version:" in self.docker("info", ok=False)

    def start(self, work: Path) -> None:
        """A dockerd whose socket, state and images are its own."""
        if missing := [
            program
            for program in ("dockerd", "docker", "iptables-save")
            if not shutil.which(program)
        ]:
            pytest.skip(
                f"no Docker engine runs, and {', '.join(missing)} is missing: "
                "apt install docker.io iptables"
            )
        self.lock = (CACHE / "docker.lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)  # another run of the tests has its own, in turn
        self.rules, self.forwarding = run("iptables-save"), FORWARDING.read_text()
        self.environ["DOCKER_HOST"] = f"unix://{work}/docker.sock"
        options = {
            "host": self.environ["DOCKER_HOST"],
            "data-root": CACHE / "docker",
            "exec-root": work / "exec",
        }
        options["pidfile"] = work / "docker.pid"
        with (work / "dockerd.log").open("wb") as log:
            command = [
                "setpriv",
                "--pdeathsig",
                "TERM",
                "dockerd",
            ]  # it ends with the tests, even if they are killed
            command += [f"--{name}={value}" for name, value in options.items()]
            self.daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self.answers():
            ended = self.daemon.poll() is not None or time.monotonic() > deadline
            assert not ended, (work / "dockerd.log").read_text()
            time.sleep(0.1)
        for left in self.docker("ps", "--all", "--quiet").split():  # by tests that were killed
            self.docker("rm", "--force", left)
        self.docker("network", "prune", "--force")
        self.docker("image", "prune", "--force")  # builds of former runs

    def stop(self) -> None:
        """Leave no process, mount, interface or packet filter rule behind, where it was started
        here."""
        if not self.daemon:
            return
        self.daemon.send_signal(signal.SIGTERM)  # containers and containerd end with it
        try:
            self.daemon.wait(60)
        finally:
            self.daemon.kill()
            run("ip", "link", "delete", "docker0", ok=False)
            FORWARDING.write_text(self.forwarding)
            for table in ("filter", "nat", "raw", "mangle"):
                if f"*{table}\n" not in self.rules:  # it was not there before
                    run("iptables", "-t", table, "-P", "FORWARD", "ACCEPT", ok=False)
                    run("iptables", "-t", table, "-F", ok=False)
                    run("iptables", "-t", table, "-X", ok=False)
            subprocess.run(
                ["iptables-restore"], input=self.rules, text=True, timeout=30, check=True
            )
            self.lock.close()

    def compose_plugin(self) -> Path:
        """A DOCKER_CONFIG with Debian 13's plugin, one static file; Debian 12 has none. apt checks
        the signature."""
        config = CACHE / "docker-config"
        if not (config / "cli-plugins/docker-compose").exists():
            apt = CACHE / "apt"
            (apt / "lists/partial").mkdir(parents=True, exist_ok=True)
            key = "/usr/share/keyrings/debian-archive-keyring.gpg"
            (apt / "sources.list").write_text(f"deb [signed-by={key}] {DEBIAN} trixie main\n")
            options = {
                "Dir::Etc::sourcelist": apt / "sources.list",
                "Dir::Etc::sourceparts": "/nonexistent",
                "Dir::State::lists": apt / "lists",
                "Dir::Cache": apt,
                "APT::Sandbox::User": "root",
                "Acquire::Languages": "none",
            }
            apt_get = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
            run(*apt_get, "update")
            run(*apt_get, "download", "docker-compose", cwd=apt)
            (package,) = apt.glob("docker-compose_*.deb")
            run("dpkg-deb", "-x", package, apt / "unpacked")
            (config / "cli-plugins").mkdir(parents=True, exist_ok=True)
            (apt / "unpacked" / PLUGIN).rename(config / "cli-plugins/docker-compose")
            shutil.rmtree(apt)
        return config

    def base_image(self, work: Path) -> None:
        """The base image: pulled, or made by debootstrap where the registry cannot be reached."""
        if "sha256:" in self.docker("images", "--no-trunc", "--quiet", BASE):
            return
        self.docker("pull", BASE, ok=False, timeout=120)
        if "sha256:" in self.docker("images", "--no-trunc", "--quiet", BASE):
            return
        if not shutil.which("debootstrap"):
            pytest.skip(
                f"{BASE} cannot be pulled, and debootstrap is missing: apt install debootstrap"
            )
        root = work / "base"
        run("debootstrap", "--variant=minbase", "bookworm", root, DEBIAN)
        # as the published image: apt keeps nothing
        (root / "etc/apt/apt.conf.d/docker-clean").write_text(
            'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n'
            'APT::Keep-Downloaded-Packages "false";\n'
            'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n'
        )
        # pip in the build trusts what this machine trusts: its registry may have a certificate of
        # its own
        shutil.copy(
            "/etc/ssl/certs/ca-certificates.crt", root / "usr/local/share/build-machine.crt"
        )
        (root / "etc/pip.conf").write_text("[global]\ncert = /usr/local/share/build-machine.crt\n")
        run("apt-get", "clean", f"-oDir={root}")
        run("tar", "-C", root, "-cf", work / "base.tar", ".")
        self.docker("import", work / "base.tar", BASE)
        shutil.rmtree(root)
        (work / "base.tar").unlink()
