"""The client, installed where every user of the machine can run it, as its package does."""

import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from authserver.accounts.models import Domain
from authserver.domains.keys import make_key
from tests.processes import keep_secret
from tests.server import Server

TOKEN = keep_secret("the-token-of-checkpassword")
CLIENT = Path(__file__).resolve().parents[2] / "authclient/authclient"
NEEDED = ("jwt", "cryptography", "cffi", "_cffi_backend", "pycparser")


def open_folder() -> Path:
    """A new folder that every user can pass through, as pytest's own cannot; ours to remove."""
    folder = Path(tempfile.mkdtemp(prefix="authserver-"))
    folder.chmod(0o755)
    return folder


def interpreter() -> str:
    """Ours, or where other users cannot reach that, Debian's of the same version."""
    own = Path(sys.executable).resolve()
    if all(folder.stat().st_mode & 0o001 for folder in own.parents):
        return str(own)
    return f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"


def install_client(folder: Path) -> Path:
    """The command `checkpassword` in `folder`, with all that it needs."""
    library = folder / "lib"
    library.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CLIENT, library / "authclient", ignore=ignore)
    for name in NEEDED:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue  # pycparser is not everywhere needed
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, library / name, ignore=ignore)
        else:
            shutil.copy(origin, library)
    command = folder / "checkpassword"
    command.write_text(
        f"#!{interpreter()} -I\n"
        f"import sys\nsys.path.insert(0, {str(library)!r})\n"
        "from authclient.command import main\nmain()\n"
    )
    command.chmod(0o755)
    return command


def client_of(folder: Path, server: Server) -> tuple[Path, str]:
    """The command, and its options for that server, whose CHECKPASSWORD_TOKEN is TOKEN."""
    key, token = folder / "key", folder / "token"
    command = install_client(folder / "client")
    token.write_text(TOKEN)
    token.chmod(0o644)
    with server.database():
        make_key(Domain.objects.create(name="localhost"), "jwt", "tests")
    url = f"{server.base}/getkey/"
    subprocess.run([command, "-m", "init", "-u", url, "--jwtkey", key], check=True)
    return command, f"-u {server.base}/checkpassword/ --jwtkey {key} --token-file {token}"
