"""Passes of authentik-sync.py between the double of authentik and a NAS."""

import importlib.util
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import NamedTuple

from authentik.core.models import User
from logins import Site
from objects import Token
from secrecy import LOGGED, keep_secret
from service import BOUND, ROOT

SYNC = ROOT / "authentik-sync.py"
SYNC_BLUEPRINT = (ROOT / "authentik/authentik-blueprint-sync.yaml").read_text()


def load() -> ModuleType:
    """The program as a module: its name is no identifier."""
    spec = importlib.util.spec_from_file_location("authentik_sync", SYNC)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The program, but for one constant: a busy machine may need longer for an answer than a NAS may.
PATIENT = """
import runpy, sys
sys.argv = sys.argv[1:]
program = runpy.run_path(sys.argv[0])
program["main"].__globals__["QUESTION_SECONDS"] = 60
sys.exit(program["main"](sys.argv[1:]))
"""


class Pass(NamedTuple):
    """An exit status, and the log."""

    status: int
    log: str

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many users it saw, locked and unlocked, as its line says."""
        found = re.search(r"event=pass users=(\d+) locked=(\d+) unlocked=(\d+) ms=", self.log)
        assert found, self.log
        return int(found[1]), int(found[2]), int(found[3])


class Passes:
    """Runs passes with the environment `env`."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.program = [sys.executable, "-c", PATIENT, str(SYNC)]

    def command(self, *arguments: str) -> list[str]:
        return [*self.program, *arguments]

    def environ(self, **env: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LOG_LEVEL": "DEBUG", **self.env, **env}

    def __call__(self, *arguments: str, **env: str) -> Pass:
        done = subprocess.run(
            self.command(*(arguments or ["--once"])),
            env=self.environ(**env),
            capture_output=True,
            text=True,
            timeout=10 * BOUND,
            check=False,
        )
        LOGGED.extend(done.stderr.splitlines())
        assert not done.stdout
        return Pass(done.returncode, done.stderr)


def service_account(site: Site) -> str:
    """Imports the blueprint; the key of the token that it makes."""
    site.import_blueprint(SYNC_BLUEPRINT)
    found = next(row for row in site.store.all(Token) if row.identifier == "ugos-auth-proxy-sync")
    return keep_secret(found.key)


def give_token(site: Site, user: User, intent: str = "api") -> Token:
    row = Token(identifier=f"{intent}-{user.pk}", user=user.pk, intent=intent)  # type: ignore[arg-type]
    keep_secret(row.key)
    site.store.rows.append(row)
    return row


def state(name: str) -> tuple[bool, object]:
    """Whether the user is active, and whether he is marked as locked."""
    user = User.objects.get(username=name)
    return user.is_active, user.attributes.get("ugos_locked")
