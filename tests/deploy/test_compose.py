"""The compose files and .env: which settings reach the container, and README's commands."""

import json
import re
from typing import Any

import pytest
from docker_engine import Engine
from proxy import IMAGE, PROJECT, TOKEN, Proxy
from repository import commands
from service import ROOT

import main

pytest_plugins = ["proxy"]
pytestmark = pytest.mark.docker

# a good value for each setting that .env may have
SETTINGS = {
    "AUTH_TOKEN": TOKEN,
    "MIN_UID": "999",
    "MAX_UID": "59999",
    "ALLOWED_GROUPS": "admin,media team",
    "FAIL_DELAY": "0.5",
    "MAX_FAILURES": "7",
    "FAILURE_WINDOW": "77",
    "MAX_CONNECTIONS": "777",
    "REQUEST_TIMEOUT": "7",
    "LOG_LEVEL": "WARNING",
}


def config(proxy: Proxy) -> dict[str, Any]:
    """The one service, as compose understands the files."""
    understood = json.loads(proxy.compose("config", "--format", "json"))
    service: dict[str, Any] = understood["services"]["ugos-auth-proxy"]
    return service


@pytest.mark.parametrize(
    "file",
    ["docker-compose.yml", "deploy/docker-compose.lan.yml", "deploy/docker-compose.authentik.yml"],
)
def test_compose_config_is_clean(proxy: Proxy, file: str) -> None:
    files = dict.fromkeys(["docker-compose.yml", file])
    proxy.set(COMPOSE_FILE=":".join(files), AUTH_TOKEN=TOKEN, TLS_DIR="./tls")
    assert proxy.compose("config", "--quiet") == ""


def test_every_setting_reaches_the_container_or_is_said_to_make_no_sense_there(
    proxy: Proxy,
) -> None:
    proxy.set(**SETTINGS)
    assert config(proxy)["environment"] == SETTINGS
    example = (ROOT / ".env.example").read_text()
    said = example.partition("# Those that make no sense here:")[2]
    left_out = {setting.name for setting in main.SETTINGS} - set(SETTINGS)
    assert {name for name in SETTINGS if re.search(rf"\b{name}\b", said)} == set()
    assert {name for name in left_out if re.search(rf"\b{name}\b", said)} == left_out
    (line,) = re.findall("(?m)^In a container .*$", (ROOT / "README.md").read_text())
    assert set(re.findall("`([A-Z_]+)`", line)) == left_out


def test_without_settings_the_container_has_the_defaults(proxy: Proxy) -> None:
    assert set(config(proxy)["environment"].values()) == {""}


def test_the_container_may_have_more_threads_than_connections(proxy: Proxy) -> None:
    assert config(proxy)["pids_limit"] == 2560
    proxy.set(MAX_CONNECTIONS=1000)
    assert config(proxy)["pids_limit"] == 10000


LABEL = "org.opencontainers.image.title=ugos-auth-proxy"


def test_readmes_removal_leaves_no_image(engine: Engine, proxy: Proxy) -> None:
    def images() -> set[str]:
        listed = engine.docker("images", "--all", "--quiet", "--filter", f"label={LABEL}")
        return set(listed.split())

    used = engine.docker("create", IMAGE).strip()  # by other tests, so it is not removed
    proxy.set(IMAGE=f"{PROJECT}-removal")
    for content in ("old", "new"):  # after an update, the image of before has no name
        (proxy.folder / "main.py").write_text(content)
        proxy.compose("build")
    assert len(images()) > 2
    *lines, cache = commands("Update, certificates, removal").splitlines()
    assert cache == "docker builder prune --all --force"  # not here: the next run needs it
    proxy.shell("\n".join(lines))
    assert images() == set(engine.docker("images", "--quiet", IMAGE).split())
    engine.docker("rm", used)
