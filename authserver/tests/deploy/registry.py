"""Debian's docker-registry with a server of ours, set up as docs/registry.md says, behind TLS."""

import datetime
import os
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from django.utils import timezone

from authserver.accounts.models import NasStanding, User
from authserver.registry import registries
from authserver.registry.models import ACTIONS, DockerRegistry
from tests.databases import AUTHSERVER
from tests.deploy.nas import block
from tests.deploy.test_https import certificate, replaced
from tests.processes import BOUND, Program, free_port, keep_secret
from tests.programs.test_registry import make_image
from tests.server import PASSWORD, Server

SERVICE = "registry.example.org"
DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/registry.md").read_text()
DEBIANS = Path("/etc/docker/registry/config.yml")
BUNDLE = "/etc/docker/registry/authserver.pem"


def documented(number: int, language: str = "sh") -> str:
    """A block of docs/registry.md, as it stands there."""
    return DOCUMENT.split(f"```{language}\n")[number + 1].split("```")[0]


def answering(program: Program, url: str, trusted: ssl.SSLContext | bool = True) -> Program:
    """The program, once there is an answer at `url`."""
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline and program.process.poll() is None:
        try:
            httpx.get(url, trust_env=False, verify=trusted)
            return program
        except httpx.TransportError:
            time.sleep(0.05)  # nothing tells from outside when a port is open
    program.stop()
    raise AssertionError("\n".join(["it does not answer:", *program.lines]))


def run(
    command: Sequence[str], folder: Path, stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a client, whose home is `folder`; what it says on stderr comes with its stdout."""
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **more},
        cwd=folder,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=BOUND,
    )


class Place:
    """A server, and its registry at `address`, both https at `host`; an image to push.

    `authority` is the file of the certificate authority that both have their certificates of.
    """

    def __init__(self, folder: Path, host: str = "localhost", **settings: Any) -> None:
        self.folder, self.authority = folder, folder / "ca.pem"
        self.image = make_image(folder / "image")
        self.programs: list[Program] = []
        listen = "127.0.0.1" if host == "localhost" else host
        login, registry, behind = (free_port() for _ in range(3))
        base, self.address = f"https://{host}:{login}", f"{host}:{registry}"
        self.server = Server(
            folder / "server",
            BASE_URL=base,
            TRUSTED_PROXIES="127.0.0.0/8",
            MAX_FAILURES=0,
            **settings,
        )
        try:
            self.server.make_user("jane")
            self.follow(documented(0))
            self.follow(documented(1))
            self.serve_registry(behind)
            certificate(folder, f"DNS:{host}" if host == "localhost" else f"IP:{host}")
            self.trusted = ssl.create_default_context(cafile=str(self.authority))
            sites = [
                replaced(
                    block("https in front", language="nginx"),
                    ("listen 443 ssl", f"listen {listen}:{login} ssl"),
                    ("/etc/ssl/login", str(folder)),
                    ("http://127.0.0.1:8000", self.server.address),
                ),
                replaced(
                    documented(0, "nginx"),
                    ("listen 443 ssl", f"listen {listen}:{registry} ssl"),
                    ("/etc/ssl/registry", str(folder)),
                    ("http://127.0.0.1:5000", f"http://127.0.0.1:{behind}"),
                ),
            ]
            self.serve_tls("\n".join(sites), f"{base}/health/")
        except BaseException:
            self.stop()
            raise

    def follow(self, script: str) -> str:
        """Run lines of a document, in a shell that has the command `authserver`."""
        path = f"{Path(AUTHSERVER).parent}:{os.environ['PATH']}"
        environment = {**self.server.environment, "PATH": path}
        done = run(["sh", "-ec", script], self.folder, **environment)
        assert done.returncode == 0, f"{script}:\n{done.stdout}"
        return done.stdout

    def serve_registry(self, port: int) -> None:
        """docker-registry with Debian's configuration, the block of ours in place of its own."""
        block_of_ours = self.follow("authserver dockerauth registry show --format config Family")
        debians = DEBIANS.read_text()
        start, end = debians.index("auth:\n"), debians.index("health:\n")
        text = replaced(
            f"{debians[:start]}{block_of_ours}{debians[end:]}",
            ("addr: :5000", f"addr: 127.0.0.1:{port}"),
            ("/var/lib/docker-registry", str(self.folder / "data")),
            (BUNDLE, str(self.folder / "authserver.pem")),
        )
        (self.folder / "config.yml").write_text(text)
        command = ["docker-registry", "serve", str(self.folder / "config.yml")]
        program = Program(command, {}, self.folder)
        self.programs.append(answering(program, f"http://127.0.0.1:{port}/v2/"))

    def serve_tls(self, sites: str, url: str) -> None:
        temporary = "".join(
            f"{name}_temp_path {self.folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = self.folder / "nginx.conf"
        configuration.write_text(
            f"daemon off; pid {self.folder}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {temporary} {sites} }}\n"
        )
        nginx = Program(["nginx", "-c", str(configuration), "-p", str(self.folder)], {})
        self.programs.append(answering(nginx, url, self.trusted))

    def stop(self) -> None:
        for program in reversed(self.programs):
            program.stop()
        self.server.stop()

    def change(self, repo: str, user: User | None, *actions: str, allowed: bool = True) -> None:
        """Grant or revoke rights in a repository of the registry; nobody is everybody."""
        with self.server.database():
            row = registries.find_repo(DockerRegistry.objects.get(), repo)
            assert row
            registries.change_rights(row, user, actions or ACTIONS, "tests", allowed=allowed)

    def ask_nas_again(self, name: str) -> None:
        """The NAS is asked about the account at its next use, as after NAS_RECHECK."""
        with self.server.database():
            standing = NasStanding.objects.filter(user__identifier=name)
            before = timezone.now() - datetime.timedelta(hours=1)
            assert standing.update(answered_at=before, failed_at=None, asking_until=None) == 1

    def token(self, name: str, scope: str) -> str:
        """A token for the registry; without a name one of everybody's."""
        answer = httpx.get(
            f"{self.server.base}/docker/token/",
            params={"service": SERVICE, "scope": scope},
            auth=(name, PASSWORD) if name else None,
            verify=self.trusted,
            trust_env=False,
            timeout=BOUND,
        )
        return keep_secret(str(answer.json()["token"]))
