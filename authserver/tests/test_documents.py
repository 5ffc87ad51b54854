"""What the documents and lists say is what the code has."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from django.core.management import get_commands

from authserver import __version__
from authserver.environment import SETTINGS

pytestmark = pytest.mark.once
HERE = Path(__file__).resolve().parent.parent
README = (HERE / "README.md").read_text()
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())


def test_readme_has_the_table_of_settings() -> None:
    """To write it anew, put in what this says is missing."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else "unset"
        lines.append(f"| `{setting.name}` | {default} | {setting.meaning} |")
    assert "\n".join(lines) + "\n" in README


def test_the_container_gets_every_setting_that_makes_sense_there() -> None:
    passed = re.findall(r"(?m)^    ([A-Z_]+): ", (HERE / "docker-compose.yml").read_text())
    inside = {"HOST", "PORT", "DATA_DIR", "UGOS_AUTH_PROXY_TOKEN"}  # the last is in a file
    assert {setting.name for setting in SETTINGS} - inside <= set(passed)


def test_readme_names_only_commands_that_there_are() -> None:
    code = re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", README, re.DOTALL)
    lines = "\n".join(block or inline for block, inline in code)
    named = set(re.findall(r"(?<!-C )\bauthserver ([a-z0-9]+)(?=[ \n])", lines))
    assert {"user", "oauth2", "backup", "restore", "audit", "permissions"} <= named
    assert named <= {*get_commands(), "authserver", "help"}


def test_requirements_are_those_of_the_project_with_hashes() -> None:
    text = (HERE / "requirements.txt").read_text()
    pinned = dict(re.findall(r"(?m)^([a-z0-9.-]+)==([^ ;\\]+)", text))
    wanted = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["build"]
    for requirement in wanted:
        name, _, version = re.sub(r"\[.*\]", "", requirement).partition("==")
        assert pinned.get(name) == version, f"run make requirements: {requirement}"
    assert text.count("--hash=sha256:") > len(pinned)


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == __version__
    names = ("Dockerfile", "docker-compose.yml", ".env.example", "CHANGELOG.md", "debian/changelog")
    for name in names:
        assert __version__ in (HERE / name).read_text(), name


def test_the_clients_man_page_has_its_options() -> None:
    page = (HERE / "debian/checkpassword.1").read_text().replace("\\-", "-")
    option = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
    command = [str(Path(sys.executable).with_name("checkpassword")), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(option.findall(said)) == set(option.findall(page))
