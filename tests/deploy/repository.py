"""The repository as someone has it who cloned it, and the commands of its pages."""

import re
import shutil
import subprocess
from pathlib import Path

from service import ROOT


def commands(heading: str, number: int = 0, page: str = "README.md") -> str:
    """The sh block with that number below a heading of a page, before the next heading.

    Without the lines that bring the source, which a test has already.
    """
    below = re.split(rf"(?m)^#+ {re.escape(heading)}$", (ROOT / page).read_text())[1]
    part = re.split(r"(?m)^#+ ", below)[0]
    blocks: list[str] = re.findall(r"(?ms)^```sh\n(.*?)^```$", part)
    return re.sub(r"(?m)^(git clone|cd) .*\n", "", blocks[number])


def copy_source(folder: Path) -> None:
    """Write what `git clone` gives, as it is in the working tree, into a folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
