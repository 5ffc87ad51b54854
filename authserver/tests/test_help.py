"""authserver help: pages of commands, the man page that is made of them, completion in bash."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from authserver import manual
from authserver.environment import SETTINGS
from tests.command_line import done, run

pytestmark = pytest.mark.once


def test_help_lists_all_commands_and_what_they_are_for() -> None:
    text = done("help").out
    for noun in manual.nouns():
        assert re.search(rf"^    {noun}\n        [A-Z]", text, re.MULTILINE), noun
    assert done("--help").out == run().out == text


@pytest.mark.parametrize("noun", ["user", "oauth2", "dockerauth", "backup", "audit", "migrate"])
def test_a_page_has_the_parts_of_a_man_page_and_fits_a_terminal(noun: str) -> None:
    text = done("help", noun).out
    headings = re.findall(r"^[A-Z].*$", text, re.MULTILINE)
    assert headings == ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS"]
    assert f"authserver {noun} - " in text
    assert max(map(len, text.splitlines())) < 80


def test_a_page_names_every_verb_and_option() -> None:
    text = " ".join(done("help", "user").out.split())
    for verb in ("create", "list", "edit", "unlock", "set-delivery-mailbox"):
        assert f"authserver user {verb} " in text
    assert "authserver user create [--password P | --password-stdin] [--staff] [--nas]" in text
    assert "--password-stdin the password is on stdin" in text
    # of one verb, and of a group of verbs
    assert "user edit" not in done("help", "user", "create").out
    text = done("help", "permissions", "grant").out
    assert "permissions grant membership" in text
    assert "permissions revoke" not in text


@pytest.mark.parametrize("words", [("nosuch",), ("user", "nosuch"), ("user", "creat")])
def test_what_there_is_no_page_of_is_2(words: tuple[str, ...]) -> None:
    result = run("help", *words)
    assert (result.status, result.out) == (2, "")
    assert " ".join(words) in result.err


def test_the_man_page_has_everything_and_nothing_that_its_language_would_obey() -> None:
    lines = done("help", "--man").out.splitlines()
    requests = {line.split()[0] for line in lines if line[:1] in (".", "'")}
    assert requests == {".TH", ".SH", ".SS", ".TP", ".B", ".RS", ".RE"}
    assert lines[0].startswith(".TH AUTHSERVER 8 ")
    text = "\n".join(lines).replace("\\-", "-")
    assert [line for line in text.splitlines() if line.startswith(".SS ")] == [
        f".SS {noun}" for noun in manual.nouns()
    ]
    for setting in SETTINGS:
        assert f".B {setting.name}\n" in text
    assert manual.roff(".a\\b-c") == "\\&.a\\eb\\-c"


def test_groff_has_no_complaint_about_the_man_page(tmp_path: Path) -> None:
    if not shutil.which("groff"):
        pytest.skip("groff is not installed: apt install groff-base")
    file = tmp_path / "authserver.8"
    file.write_text(done("help", "--man").out)
    command = ["groff", "-man", "-ww", "-Tascii", "-P-cbou", str(file)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    assert "authserver user create [--password P | --password-stdin]" in " ".join(
        shown.stdout.split()
    )


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_authserver
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "authserver"
    file.write_text(done("help", "--bash").out)
    return file


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("us", "user"),
        ("oi", "oidc"),
        ("user cr", "create"),
        ("user create --pass", "--password --password-stdin"),
        ("user edit --set-source ", "local nas"),
        ("user edit maria --set-source n", "nas"),
        ("domain list -f j", "json"),
        ("permissions grant mem", "membership"),
        ("dockerauth repo gr", "grant"),
        ("oauth2 create --publish-to-v", "--publish-to-vault"),
        ("help dom", "domain"),
        ("user show maria", ""),
        ("nosuch ", "audit backup dockerauth"),
    ],
)
def test_bash_completes(script: Path, typed: str, offered: str) -> None:
    words = ["authserver", *typed.split(" ")]
    shown = subprocess.run(
        ["bash", "--norc", "-uc", COMPLETE, "bash", script, *words],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    assert shown.stderr == ""
    assert shown.stdout.split()[:3] == offered.split()
