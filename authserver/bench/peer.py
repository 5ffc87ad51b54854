"""The peer: npm's oidc-provider with its tokens in SQLite (`node/`)."""

import json
import shutil
import subprocess
from pathlib import Path

from bench.questions import VERIFIER, Client
from bench.served import Served

FOLDER = Path(__file__).with_name("node")
NODE = shutil.which("node") or ""


def is_installed() -> bool:
    return bool(NODE) and (FOLDER / "node_modules").is_dir()


def serve_peer(port: int, folder: Path, codes: int) -> tuple[Served, Client]:
    """The provider, and the application that it has: the one of `node/provider.mjs`."""
    from authserver.oidc.tokens import s256

    program = [NODE, str(FOLDER / "provider.mjs")]
    file = folder / "peer.sqlite3"
    arguments = [str(port), str(file), str(codes), s256(VERIFIER)]
    probe = f"http://localhost:{port}/.well-known/openid-configuration"
    served = Served([*program, *arguments], probe)
    made: list[str] = json.loads(Path(f"{file}.codes").read_text())
    paths = {"token": "/token", "userinfo": "/me", "introspect": "/token/introspection"}
    return served, Client("bench", "b" * 43, made, **paths)


def version() -> str:
    found = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True)
    packages = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    return f"oidc-provider {packages['oidc-provider']}, node {found.stdout.strip()}"
