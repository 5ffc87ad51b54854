"""Who reaches the container: this machine, the LAN with token and certificate, authentik."""

import http.client
import ssl
import subprocess
from pathlib import Path

import pytest
from etc import right
from proxy import BOUND, IMAGE, TOKEN, Proxy, make_certificate, until
from repository import commands
from terminal import Session, converse

pytest_plugins = ["proxy"]
pytestmark = pytest.mark.docker


def test_by_default_other_machines_do_not_reach_it(proxy: Proxy, lan: str) -> None:
    proxy.up()
    with pytest.raises(ConnectionRefusedError):
        proxy.ask("GET", "/health", address=lan)


LOGIN = ("Username: ", "sha512"), ("Password: ", right("sha512"))
CHECK_LOGIN = commands("Quick start", 1)


def check_login(proxy: Proxy) -> Session:
    """README's command, with the name and the password of an account typed."""
    return converse(["sh", "-euc", CHECK_LOGIN], LOGIN, proxy.environ, proxy.folder)


@pytest.mark.parametrize("missing", ["AUTH_TOKEN", "TLS_DIR"])
def test_lan_is_refused_without_token_or_certificate(
    proxy: Proxy, certificate: Path, missing: str
) -> None:
    given = {"AUTH_TOKEN": TOKEN, "TLS_DIR": certificate}
    del given[missing]
    proxy.set(COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.lan.yml", **given)
    for command in (["up", "-d"], ["config"]):
        assert f"required variable {missing} is missing" in proxy.compose(*command, ok=False)
    proxy.set(COMPOSE_FILE="docker-compose.yml")
    assert proxy.container == ""


def test_lan_is_refused_without_the_files_of_the_certificate(proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    proxy.set(
        COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.lan.yml",
        AUTH_TOKEN=TOKEN,
        TLS_DIR=tmp_path / "tls",
    )
    proxy.compose("up", "-d")
    until(lambda: proxy.inspect(".State.Status") == "restarting")
    assert "TLS_CERT: cannot be loaded" in proxy.compose("logs")


def test_lan_works_with_token_and_certificate(proxy: Proxy, certificate: Path, lan: str) -> None:
    proxy.set(
        COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.lan.yml",
        AUTH_TOKEN=TOKEN,
        TLS_DIR=certificate,
    )
    tls = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    tls.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 and later do by themselves
    proxy.up(lan, tls)
    assert proxy.valid("sha512", right("sha512"), token=TOKEN, address=lan, tls=tls)
    status, _ = proxy.ask(
        "POST", "/validate", {"username": "sha512", "password": right("sha512")}, "", lan, tls
    )
    assert status == 401
    with pytest.raises((http.client.HTTPException, OSError)):
        proxy.ask("GET", "/health", address=lan)
    assert check_login(proxy).status == 0


def test_on_the_network_of_authentik_no_port_is_published(network: str, proxy: Proxy) -> None:
    proxy.set(
        COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.authentik.yml",
        AUTHENTIK_NETWORK=network,
    )
    assert "required variable AUTH_TOKEN is missing" in proxy.compose("up", "-d", ok=False)
    proxy.set(AUTH_TOKEN=TOKEN)
    proxy.compose("up", "-d")
    until(lambda: "event=start" in proxy.compose("logs"))
    assert proxy.inspect("json .NetworkSettings.Ports") in ('{"8080/tcp":null}', "{}")
    ask = (
        "import urllib.request; "
        "print(urllib.request.urlopen('http://ugos-auth-proxy:8080/ready', timeout=30).read())"
    )
    answer = proxy.engine.docker(
        "run", "--rm", f"--network={network}", "--entrypoint=python3", IMAGE, "-c", ask
    )
    assert '{"status": "ready"}' in answer
    proxy.compose("down")


def test_hup_takes_up_a_renewed_certificate(proxy: Proxy, lan: str) -> None:
    make_certificate(proxy.folder, lan)
    old = proxy.folder / "tls/cert.pem"
    proxy.set(
        COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.lan.yml",
        AUTH_TOKEN=TOKEN,
        TLS_DIR="./tls",
    )
    before = ssl.create_default_context(cafile=str(old))
    proxy.up(lan, before)
    process = proxy.pid()

    (proxy.folder / "new").mkdir()
    make_certificate(proxy.folder / "new", lan)
    after = ssl.create_default_context(cafile=str(proxy.folder / "new/tls/cert.pem"))
    for name in ("key.pem", "cert.pem"):  # each replaced by rename, as tools do it
        (proxy.folder / "new/tls" / name).rename(proxy.folder / "tls" / name)
    proxy.reachable(lan, before)
    proxy.shell("docker compose kill -s HUP")
    proxy.reachable(lan, after)
    with pytest.raises(ssl.SSLCertVerificationError):
        proxy.ask("GET", "/health", address=lan, tls=before)
    assert proxy.pid() == process


def test_readmes_quick_start_ends_with_a_login(network: str, proxy: Proxy) -> None:
    (proxy.folder / ".env").unlink()
    start = commands("Quick start")
    assert "docker compose up -d --wait" in start
    given = {
        "HOST_ETC": str(proxy.etc.path),
        "AUTHENTIK_NETWORK": network,
        "IMAGE": IMAGE,
    }
    proxy.environ |= given
    proxy.shell(start)
    session = check_login(proxy)
    assert session.status == 0, session.shown
    token = (proxy.folder / ".env").read_text().split("\nAUTH_TOKEN=")[-1].split()[0]
    assert token not in session.shown
    assert right("sha512") not in session.shown
    proxy.compose("down")


def test_the_command_for_a_token_makes_one(proxy: Proxy) -> None:
    command = next(
        line for line in (proxy.folder / ".env").read_text().splitlines() if "openssl rand" in line
    )
    subprocess.run(["sh", "-ec", command.lstrip("# ")], cwd=proxy.folder, timeout=BOUND, check=True)
    proxy.up()
    status, _ = proxy.ask("POST", "/validate", {"username": "sha512", "password": right("sha512")})
    assert status == 401
    token = (proxy.folder / ".env").read_text().split("AUTH_TOKEN=")[-1].strip()
    assert proxy.valid("sha512", right("sha512"), token=token)
