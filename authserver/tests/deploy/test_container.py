"""The Dockerfile and docker-compose.yml as they are shipped, in a real Docker engine."""

import json
import re
import secrets
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from docker_engine import Engine

from authserver.environment import SETTINGS
from tests.browser import Browser, forms_of
from tests.deploy.nas import NAS_PASSWORD, block, clone, make_etc, until
from tests.processes import LOGGED, free_port, keep_secret

BASE = "http://localhost:8000"
PASSWORD = keep_secret("password of the administrator")
PROJECT = "authserver-test"


class Home:
    """A clone of the repository on a NAS, with `docker compose up -d` done in it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder, self.port = engine, folder / "authserver", free_port()
        clone(folder)
        make_etc(folder / "etc")
        ours = {setting.name for setting in SETTINGS}
        self.environ = {name: value for name, value in engine.environ.items() if name not in ours}
        self.environ["COMPOSE_PROJECT_NAME"] = PROJECT
        self.set(AUTHSERVER_PORT=self.port, HOST_ETC=folder / "etc")

    def set(self, **lines: object) -> None:
        """Write lines into .env, as who runs it would."""
        with (self.folder / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in lines.items())

    def run(self, command: str) -> str:
        """A line of README, in the folder of docker-compose.yml."""
        done = subprocess.run(
            ["sh", "-ec", command], cwd=self.folder, env=self.environ, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}:\n{done.stdout}"
        return done.stdout

    def authserver(self, arguments: str, stdin: str = "") -> str:
        """Run a command in the container that serves."""
        given = f"printf '%s' '{stdin}' | " if stdin else ""
        return self.run(f"{given}docker compose exec -T authserver authserver {arguments}")

    def container(self, service: str) -> str:
        return self.run(f"docker compose ps --all --quiet {service}").strip()

    def inspect(self, service: str) -> dict[str, object]:
        (found,) = json.loads(self.engine.docker("inspect", self.container(service)))
        return dict(found)

    def healthy(self, service: str) -> bool:
        template = ".State.Health.Status"
        return self.engine.inspect(self.container(service), template) == "healthy"

    def browser(self) -> Browser:
        """One at http://localhost:8000, as over ssh -L: the NAS's port is another in tests."""
        return Browser(BASE, f"http://127.0.0.1:{self.port}", "", {})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    running = Engine(tmp_path_factory.mktemp("engine"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def home(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(engine, tmp_path_factory.mktemp("nas") / "ugos-auth-proxy")
    try:
        made.run("docker compose up -d")
        until(lambda: made.healthy("authserver"))
        yield made
    finally:
        LOGGED.extend(made.run("docker compose logs --no-color").splitlines())
        made.run("docker compose down --volumes")


def test_the_log_has_the_link_of_the_first_start_which_makes_the_administrator(home: Home) -> None:
    logs = home.run("docker compose logs authserver")
    found = re.search(rf"{BASE}(/setup/\?token=[\w-]+)", logs)
    assert found
    browser = home.browser()
    _, fields = browser.form(found[1])
    wanted = {name: PASSWORD for name in fields if "password" in name or name in ("again",)}
    fields |= {"identifier": "admin", "fullname": "Admin", **wanted}
    answer = browser.post(found[1], data=fields, headers={"Origin": BASE})
    assert answer.status_code == 302, answer.text
    rows = json.loads(home.authserver("user list -f json"))
    assert [(row["identifier"], row["is_staff"]) for row in rows] == [("admin", True)]
    assert browser.get(found[1]).status_code == 404


def test_an_account_of_the_nas_signs_in_with_its_password_there(home: Home) -> None:
    assert home.browser().sign_in("jane", "a wrong guess").status_code == 200
    home.browser().signed_in("jane", NAS_PASSWORD)
    (row,) = json.loads(home.authserver("user show -f json jane"))
    assert (row["source"], row["fullname"]) == ("nas", "Jane Doe")
    shown = json.loads(home.authserver("permissions show membership -f json jane"))
    assert [group["name"] for group in shown] == ["family"]


def test_it_runs_as_nobody_of_note_and_can_write_to_its_data_only(home: Home) -> None:
    found = home.inspect("authserver")
    host = found["HostConfig"]
    assert isinstance(host, dict)
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    status = home.run("docker compose exec -T authserver cat /proc/1/status")
    assert re.search(r"(?m)^Uid:\s+10001\s", status)
    assert re.search(r"(?m)^CapEff:\s+0+$", status)
    assert re.search(r"(?m)^CapBnd:\s+0+$", status)
    for folder in ("/", "/opt/authserver", "/etc", "/home"):
        script = f"touch {folder}/x 2>/dev/null || echo no"
        assert "no" in home.run(f"docker compose exec -T authserver sh -c '{script}'")
    listed = home.run("docker compose exec -T authserver ls -ln /data")
    assert re.search(r"-rw------- 1 10001 10001 +\d+ .* secret_key", listed)


def test_the_token_is_made_once_and_shared_with_ugos_auth_proxy_only(home: Home) -> None:
    token = keep_secret(home.run("docker compose exec -T ugos-auth-proxy cat /token/token").strip())
    assert re.fullmatch(r"[0-9a-f]{64}", token)
    home.run("docker compose up -d --force-recreate")
    until(lambda: home.healthy("authserver"))
    assert home.run("docker compose exec -T authserver cat /token/token").strip() == token
    home.browser().signed_in("jane", NAS_PASSWORD)
    for service in ("authserver", "ugos-auth-proxy", "prepare"):
        assert token not in json.dumps(home.inspect(service))


def test_only_authserver_is_published_and_at_this_machine_only(home: Home) -> None:
    ports = {
        service: home.engine.docker("port", home.container(service)).split()
        for service in ("authserver", "ugos-auth-proxy")
    }
    assert ports["ugos-auth-proxy"] == []
    assert ports["authserver"] == ["8000/tcp", "->", f"127.0.0.1:{home.port}"]


def test_the_token_of_another_ugos_auth_proxy_takes_its_place(home: Home) -> None:
    token = keep_secret(secrets.token_hex(32))
    (home.folder / "token").write_text(f"{token}\n")
    home.run(block("Docker", 1))
    until(lambda: home.healthy("authserver"))
    assert home.run("docker compose exec -T authserver cat /token/token").strip() == token
    assert home.browser().sign_in("jane", NAS_PASSWORD).status_code == 503  # ours has another
    home.run("docker compose restart ugos-auth-proxy")
    until(lambda: home.healthy("ugos-auth-proxy"))
    home.browser().signed_in("jane", NAS_PASSWORD)


def test_stopping_it_is_quick_and_clean(home: Home) -> None:
    home.run("docker compose stop authserver")
    assert home.engine.inspect(home.container("authserver"), ".State.ExitCode").strip() == "0"
    assert '"event": "stop"' in home.run("docker compose logs authserver")
    home.run("docker compose start authserver")
    until(lambda: home.healthy("authserver"))


def test_a_backup_goes_back_as_readme_says(home: Home) -> None:
    home.authserver("group create before")
    home.run(block("Update, and back"))
    until(lambda: home.healthy("authserver"))
    home.authserver("group create after")
    home.run(block("Update, and back", 1))
    until(lambda: home.healthy("authserver"))
    names = [row["name"] for row in json.loads(home.authserver("group list -f json"))]
    assert "before" in names
    assert "after" not in names
    home.browser().signed_in("jane", NAS_PASSWORD)


def test_https_without_a_public_name_as_readme_says(home: Home, tmp_path: Path) -> None:
    port = free_port()
    base = f"https://nas.home.arpa:{port}"
    home.set(
        BASE_URL=base,
        COMPOSE_FILE="docker-compose.yml:deploy/docker-compose.https.yml",
        HTTPS_PORT=port,
    )
    home.run("docker compose up -d")
    until(lambda: home.healthy("authserver"))
    root = home.folder / "home-ca.crt"
    until(lambda: has_root(home, root))
    trusted = ssl.create_default_context(cafile=str(root))

    def connect() -> httpx.Response | None:
        try:
            return get(port, trusted, "/.well-known/openid-configuration")
        except (httpx.TransportError, ssl.SSLError):
            return None  # Caddy is about to make its certificate

    answer = until(connect)
    assert answer.json()["issuer"] == base
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    with pytest.raises(httpx.TransportError):
        get(port, ssl.create_default_context(), "/")
    page = get(port, trusted, "/account/login/")
    assert "Secure" in page.headers["Set-Cookie"]
    # another container trusts it by the same file, and finds the NAS by its name
    name = home.run("docker compose ps --format '{{.Image}}' authserver").strip()
    script = (
        "import urllib.request as u; "
        f"print(u.urlopen('{base}/.well-known/openid-configuration').status)"
    )
    said = home.engine.docker(
        "run", "--rm", "--add-host", "nas.home.arpa:host-gateway",
        "--volume", f"{root}:/ca.crt:ro", "--env", "SSL_CERT_FILE=/ca.crt",
        "--entrypoint", "python3", name, "-c", script,
    )  # fmt: skip
    assert said.strip() == "200"
    # whose address is known through Caddy
    events = json.loads(home.authserver("audit -f json --kind login"))
    before = len(events)
    sign_in(port, trusted, base)
    events = json.loads(home.authserver("audit -f json --kind login"))
    assert len(events) == before + 1
    assert events[-1]["client"] != ""
    assert events[-1]["client"] not in addresses_of(home, "caddy")


def has_root(home: Home, root: Path) -> bool:
    try:
        home.run(block("The certificate authority"))
    except AssertionError:
        return False
    return root.exists()


def client(port: int, trusted: ssl.SSLContext) -> httpx.Client:
    """One that finds nas.home.arpa at this machine."""
    transport = httpx.HTTPTransport(verify=trusted)
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}", transport=transport, trust_env=False,
        headers={"Host": f"nas.home.arpa:{port}"},
    )  # fmt: skip


def get(port: int, trusted: ssl.SSLContext, path: str) -> httpx.Response:
    with client(port, trusted) as http:
        return http.get(path, extensions={"sni_hostname": "nas.home.arpa"})


def sign_in(port: int, trusted: ssl.SSLContext, base: str) -> None:
    with client(port, trusted) as http:
        sni = {"sni_hostname": "nas.home.arpa"}
        page = http.get("/account/login/", extensions=sni)
        _, fields = forms_of(page.text)[0]
        cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
        answer = http.post(
            "/account/login/",
            data={**fields, "login": "jane", "password": NAS_PASSWORD},
            headers={"Origin": base, "Referer": f"{base}/account/login/", "Cookie": cookies},
            extensions=sni,
        )
        assert answer.status_code == 302, answer.text


def addresses_of(home: Home, service: str) -> list[str]:
    template = "range .NetworkSettings.Networks}}{{.IPAddress}} {{end"
    return home.engine.inspect(home.container(service), template).split()
