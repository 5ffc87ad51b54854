"""The client, installed where every user of the machine can run it, as its package does."""

import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

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
