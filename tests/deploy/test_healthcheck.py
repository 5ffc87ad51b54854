"""The image's health check says whether a login could succeed."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from docker_engine import Engine
from etc import Etc
from proxy import Proxy, child, until

pytest_plugins = ["proxy"]
pytestmark = pytest.mark.docker


@pytest.mark.parametrize(
    "settings",
    [[], ["PORT=9000"], ["HOST=127.0.0.2"], ["HOST=::"], ["HOST=::1"], ["TLS_CERT=/tls/cert.pem"]],
    ids=str,
)
def test_health_check_follows_the_settings(
    engine: Engine, run: Callable[..., str], etc: Etc, certificate: Path, settings: list[str]
) -> None:
    options = [f"--volume={etc.path}:/host/etc:ro"]
    options += [f"--env={setting}" for setting in settings]
    if "TLS_CERT" in str(settings):
        options += ["--env=TLS_KEY=/tls/key.pem", f"--volume={certificate}:/tls:ro"]
    if "::" in str(settings):
        options += [
            "--sysctl=net.ipv6.conf.lo.disable_ipv6=0",
            "--sysctl=net.ipv6.conf.all.disable_ipv6=0",
        ]
    container = run("--health-interval=1s", "--health-retries=3", *options)
    until(lambda: engine.inspect(container, ".State.Health.Status") != "starting")
    health = json.loads(engine.inspect(container, "json .State.Health"))
    assert health["Status"] == "healthy", health


def test_health_check_fails_while_the_service_hangs(
    engine: Engine, run: Callable[..., str], etc: Etc
) -> None:
    mount = f"--volume={etc.path}:/host/etc:ro"
    container = run(
        mount, "--init", "--health-interval=1s", "--health-timeout=1s", "--health-retries=1"
    )
    until(lambda: engine.inspect(container, ".State.Health.Status") == "healthy")
    os.kill(child(int(engine.inspect(container, ".State.Pid"))), signal.SIGSTOP)
    until(lambda: engine.inspect(container, ".State.Health.Status") == "unhealthy")


def test_up_waits_until_a_login_could_succeed_and_fails_where_none_can(proxy: Proxy) -> None:
    proxy.hasten_health_checks()
    proxy.compose("up", "-d", "--wait")
    assert proxy.inspect(".State.Health.Status") == "healthy"
    (proxy.etc.path / "shadow").chmod(0o600)
    until(lambda: proxy.inspect(".State.Health.Status") == "unhealthy")
    assert "unhealthy" in proxy.compose("ps")
    proxy.compose("down", "--timeout", "5")
    assert "is unhealthy" in proxy.compose("up", "-d", "--wait", ok=False)
    assert "RUN_AS=0:42 in .env" in proxy.inspect("json .State.Health")
