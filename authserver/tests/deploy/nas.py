"""A NAS for the deployments: the repository as a clone has it, and accounts in its own /etc."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import BOUND, keep_secret

ROOT = Path(__file__).resolve().parent.parent.parent.parent
README = (ROOT / "authserver/README.md").read_text()
NAS_PASSWORD = keep_secret("the password on the NAS")


def clone(folder: Path) -> None:
    """What `git clone` gives, as it is in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target)


def crypt(password: str) -> str:
    command = ["openssl", "passwd", "-6", "-stdin"]
    done = subprocess.run(command, input=password, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_etc(folder: Path) -> None:
    """An /etc with the accounts jane (group family) and root, as Debian keeps them."""
    folder.mkdir()
    (folder / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\njane:x:1000:1000:Jane Doe:/home/jane:/bin/bash\n"
    )
    (folder / "group").write_text("root:x:0:\njane:x:1000:\nfamily:x:1001:jane\nshadow:x:42:\n")
    shadow = folder / "shadow"
    shadow.write_text(f"root:*:19000:0:99999:7:::\njane:{crypt(NAS_PASSWORD)}:19000:0:99999:7:::\n")
    os.chown(shadow, 0, 42)
    shadow.chmod(0o640)


def until(event: Callable[[], Any], bound: float = BOUND) -> Any:
    """What `event` gives as soon as it is something; looks again and again."""
    deadline = time.monotonic() + bound
    while not (seen := event()):
        assert time.monotonic() < deadline, f"{event} did not come"
        time.sleep(0.1)
    return seen


def block(heading: str, number: int = 0, language: str = "sh") -> str:
    """A block of README below a heading, as it stands there."""
    section = README.split(f" {heading}\n")[1].split("\n## ")[0]
    return section.split(f"```{language}\n")[number + 1].split("```")[0]
