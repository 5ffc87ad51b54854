"""deploy/docker-compose.sync.yml: a second container of the image, with nothing of the host."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import Engine
from etc import right
from proxy import TOKEN, Proxy, until
from repository import commands
from stub_authentik import TOKEN as AUTHENTIK_TOKEN

pytest_plugins = ["proxy"]
pytestmark = pytest.mark.docker

PAGE = "docs/authentik-sync.md"
FILES = "docker-compose.yml:deploy/docker-compose.authentik.yml:deploy/docker-compose.sync.yml"
SYNC = "ugos-authentik-sync"


@pytest.fixture
def authentik(engine: Engine, image: str, network: str) -> Iterator[str]:
    """The id of a container that is authentik's `server` on that network, with the user sha512."""
    stub = Path(__file__).with_name("stub_authentik.py").read_text()
    options = ["--network", network, "--network-alias", "server", "--entrypoint", "python3"]
    started = engine.docker("run", "--detach", "--init", *options, image, "-c", stub, "sha512")
    container = started.split()[-1]
    yield container
    engine.docker("rm", "--force", container)


@pytest.fixture
def both(network: str, proxy: Proxy, authentik: str) -> Proxy:
    given = {"AUTH_TOKEN": TOKEN, "AUTHENTIK_TOKEN": AUTHENTIK_TOKEN, "INTERVAL": "10"}
    proxy.set(COMPOSE_FILE=FILES, AUTHENTIK_NETWORK=network, **given)
    return proxy


def test_a_lock_on_the_host_counts_in_authentik_and_an_unlock_too(
    both: Proxy, engine: Engine, authentik: str
) -> None:
    both.compose("up", "-d", "--wait")
    both.etc.lock("sha512")
    until(lambda: "event=lock user=sha512 " in both.compose("logs", SYNC))
    both.etc.set_hash("sha512", lambda hashed: hashed.lstrip("!"))
    until(lambda: "event=unlock user=sha512" in both.compose("logs", SYNC))
    changes = engine.docker("logs", authentik)
    assert changes.index("PATCH users/7/ False 1") < changes.index("DELETE ")
    assert changes.index("DELETE ") < changes.index("PATCH users/7/ True 0")
    assert right("sha512") not in both.compose("logs")
    for token in (TOKEN, AUTHENTIK_TOKEN):
        assert token not in both.compose("logs")


def test_its_container_has_nothing_of_the_host_and_no_right(both: Proxy, engine: Engine) -> None:
    both.compose("up", "-d", "--wait")
    container = both.compose("ps", "--quiet", SYNC).strip()
    assert engine.inspect(container, "json .Mounts") in {"[]", "null"}
    assert engine.inspect(container, ".Config.User") == "65534:65534"
    assert engine.inspect(container, ".HostConfig.ReadonlyRootfs") == "true"
    assert json.loads(engine.inspect(container, "json .HostConfig.CapDrop")) == ["ALL"]
    written = "import os; print(open('/proc/self/status').read()); open('/tmp/x', 'w')"
    assert "Read-only file system" in engine.docker(
        "exec", container, "python3", "-c", written, ok=False
    )
    said = both.compose("run", "--rm", SYNC, "--force")
    assert "event=start " in said
    engine.docker("stop", container)
    assert engine.inspect(container, ".State.ExitCode") == "0"


@pytest.mark.parametrize("missing", ["AUTH_TOKEN", "AUTHENTIK_TOKEN"])
def test_it_does_not_start_without_a_token(both: Proxy, missing: str) -> None:
    both.set(**{missing: ""})
    assert f"required variable {missing} is missing" in both.compose("up", "-d", ok=False)


def test_the_page_names_the_files(both: Proxy) -> None:
    assert FILES in (both.folder / PAGE).read_text()
    both.shell(commands("Switch it on", 0, PAGE).replace(" --build", ""))
