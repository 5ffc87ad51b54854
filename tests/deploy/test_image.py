"""The image: what is in it, and how it is checked, updated and removed."""

import shutil
import subprocess

import pytest
from docker_engine import Engine
from service import ROOT

import main

pytest_plugins = ["proxy"]
pytestmark = pytest.mark.docker


def test_dockerfile_has_nothing_that_hadolint_minds() -> None:
    hadolint = shutil.which("hadolint", path=f"{ROOT}/.venv/bin")
    assert hadolint, "make test-deploy installs it"
    assert (
        subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, check=False).stdout
        == b""
    )


def test_image_and_compose_file_are_of_this_version(engine: Engine, image: str) -> None:
    label = engine.docker(
        "inspect", "--format", '{{index .Config.Labels "org.opencontainers.image.version"}}', image
    )
    assert label.strip() == main.__version__
    assert f":-ugos-auth-proxy:{main.__version__}}}" in (ROOT / "docker-compose.yml").read_text()
    assert engine.docker("run", "--rm", image, "--version").split()[-1] == main.__version__


def test_image_has_no_installer_no_curl_and_nothing_that_its_user_may_change(
    engine: Engine, image: str
) -> None:
    def inside(command: str) -> str:
        return engine.docker(
            "run", "--rm", "--entrypoint", "sh", image, "-c", command, ok=False
        ).strip()

    assert inside("command -v pip pip3 curl wget gcc; ls -d /usr/lib/python3*/ensurepip") == (
        "ls: cannot access '/usr/lib/python3*/ensurepip': No such file or directory"
    )
    assert "No module named pip" in inside("python3 -m pip")
    assert inside("id") == "uid=65534 gid=42 groups=42"
    assert inside("readlink /etc/passwd /etc/shadow /etc/group").split() == [
        "/host/etc/passwd", "/host/etc/shadow", "/host/etc/group"
    ]  # fmt: skip
    find = (
        "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null"
    )
    assert set(inside(find).split()) == {"/run/lock", "/tmp", "/var/tmp"}
