"""The unit in deploy/host/ that copies passwd, shadow and group: its command, run on a private
/etc."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from etc import Etc
from service import ROOT

UNIT = ROOT / "deploy/host/ugos-auth-proxy-accounts.service"
FILES = ("group", "passwd", "shadow")

Begin = Callable[[], "subprocess.Popen[bytes]"]


def command() -> str:
    """What the unit's shell runs, by the rules of systemd.service(5)."""
    found = re.search(r"(?ms)^ExecStart=/bin/sh -euc '(.*?)'$", UNIT.read_text())
    assert found
    return found[1].replace("\\\n", " ").replace("$$", "$").replace("%%", "%")


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    folder = tmp_path / "copies"
    folder.mkdir()
    return folder


@pytest.fixture
def begin(etc: Etc, copies: Path) -> Begin:
    """Starts the copying in a mount namespace where /etc is the private one."""
    if os.geteuid():
        pytest.skip("needs root, as shadow belongs to it")

    def start() -> "subprocess.Popen[bytes]":
        script = f'mount --bind "{etc.path}" /etc; cd "{copies}"; umask 077; exec /bin/sh -euc "$0"'
        return subprocess.Popen(["unshare", "-m", "sh", "-ec", script, command()])

    return start


def test_the_three_files_and_no_others_are_copied_with_owner_and_mode(
    begin: Begin, etc: Etc, copies: Path
) -> None:
    for mode in (0o640, 0o600, 0o400):
        (etc.path / "shadow").chmod(mode)
        assert begin().wait(30) == 0
        assert sorted(os.listdir(copies)) == sorted(FILES)
        for name in FILES:
            of, copy = (etc.path / name).stat(), (copies / name).stat()
            assert (copies / name).read_bytes() == (etc.path / name).read_bytes()
            assert (copy.st_mode, copy.st_uid, copy.st_gid) == (of.st_mode, of.st_uid, of.st_gid)


def test_a_change_during_the_copying_is_not_lost(begin: Begin, etc: Etc, copies: Path) -> None:
    copying = begin()
    deadline = time.monotonic() + 30
    while not (copies / "shadow").exists():  # the last of the three
        assert time.monotonic() < deadline
        time.sleep(0.005)
    etc.add_user("newcomer", "welcome-2026")
    assert copying.wait(30) == 0
    for name in FILES:
        assert (copies / name).read_bytes() == (etc.path / name).read_bytes()


def test_a_copy_is_replaced_whole(begin: Begin, etc: Etc, copies: Path) -> None:
    assert begin().wait(30) == 0
    with (copies / "shadow").open() as old:
        etc.lock("sha512")
        assert begin().wait(30) == 0
        assert "sha512:!" not in old.read()
    assert "sha512:!" in (copies / "shadow").read_text()


def test_a_missing_file_is_an_error(begin: Begin, etc: Etc) -> None:
    (etc.path / "shadow").unlink()
    assert begin().wait(30) != 0


def test_systemd_takes_the_units() -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(UNIT.parent.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert UNIT.stem not in done.stderr
