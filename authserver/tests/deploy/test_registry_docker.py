"""A real Docker engine at the registry of docs/registry.md: login, push, pull and logout."""

import io
import json
import shutil
import tarfile
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from docker_engine import BASE, Engine

from authserver.accounts.models import User
from authserver.accounts.service_users import create_service_user
from authserver.registry.tokens import end_refresh_token, logins_of
from tests.deploy.nas import until
from tests.deploy.registry import SERVICE, Place, documented, run
from tests.deploy.test_https import replaced
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.nas import Nas
from tests.processes import BOUND, free_port, keep_secret
from tests.server import PASSWORD

CERTIFICATES = Path("/etc/docker/certs.d")  # the engine's, by the registry's name


class Docker:
    """The command `docker` of one person, who has logins of his own."""

    def __init__(self, engine: Engine, place: Place, folder: Path) -> None:
        self.engine, self.place, self.folder = engine, place, folder

    def __call__(self, *command: str, stdin: str = "") -> str:
        """What it says where that worked, nothing where it did not."""
        host = {"DOCKER_HOST": self.engine.environ.get("DOCKER_HOST", "unix:///run/docker.sock")}
        done = run(["docker", *command], self.folder, stdin, **host)
        self.said = done.stdout
        return "" if done.returncode else f"done {done.stdout}"

    def login(self, name: str, password: str) -> str:
        options = ("--username", name, "--password-stdin")
        return self("login", *options, self.place.address, stdin=password)

    def push(self, repo: str) -> str:
        """Push an image with one small file, which the engine does not keep."""
        image, archive = f"{self.place.address}/{repo}", self.folder / "image.tar"
        with tarfile.open(archive, mode="w") as tar:
            entry = tarfile.TarInfo(repo.replace("/", "-"))
            entry.size = 5
            tar.addfile(entry, io.BytesIO(b"hello"))
        self.engine.docker("import", archive, image)
        try:
            return self("push", image)
        finally:
            self.engine.docker("rmi", image)

    def pull(self, repo: str) -> str:
        """Pull an image, which the engine does not keep."""
        image = f"{self.place.address}/{repo}"
        try:
            return self("pull", image)
        finally:
            self.engine.docker("rmi", image, ok=False)

    def stored(self) -> dict[str, dict[str, str]]:
        """What it keeps of its logins."""
        found = json.loads((self.folder / ".docker/config.json").read_text())
        return dict(found.get("auths", {}))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    running = Engine(tmp_path_factory.mktemp("engine"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nas]:
    running = Nas(tmp_path_factory.mktemp("nas"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def place(engine: Engine, nas: Nas, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """At the address of the engine's bridge: names of loopback an engine takes without TLS too."""
    for program in ("docker-registry", "nginx"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}: apt install {program}")
    template = "{{(index .IPAM.Config 0).Gateway}}"
    bridge = engine.docker("network", "inspect", "--format", template, "bridge").strip()
    made = Place(tmp_path_factory.mktemp("registry"), bridge, **nas.settings)
    trusted = CERTIFICATES / made.address
    try:
        trusted.mkdir(parents=True)
        shutil.copy(made.authority, trusted / "ca.crt")
        yield made
    finally:
        shutil.rmtree(trusted)
        if not any(CERTIFICATES.iterdir()):
            CERTIFICATES.rmdir()
        made.stop()


@pytest.fixture
def docker(engine: Engine, place: Place, tmp_path: Path) -> Docker:
    return Docker(engine, place, tmp_path)


def test_an_engine_that_does_not_trust_the_certificate_sends_no_password(
    docker: Docker, place: Place
) -> None:
    trusted = CERTIFICATES / place.address / "ca.crt"
    text = trusted.read_text()
    trusted.unlink()
    try:
        assert not docker.login("jane", "a password for nobody")
        assert "certificate" in docker.said
    finally:
        trusted.write_text(text)


def test_a_nas_user_logs_in_pushes_pulls_and_logs_out(
    docker: Docker, place: Place, nas: Nas
) -> None:
    nas.add_user("nils")
    assert not docker.login("nils", "a wrong guess")
    assert docker.login("nils", NAS_PASSWORD)
    assert docker.push("nils/app:v1")
    assert docker.pull("nils/app:v1")
    assert not docker.push("family/app:v1")
    (kept,) = docker.stored().values()
    assert keep_secret(kept["identitytoken"]).startswith("ugr_")  # instead of the password
    assert b64decode(kept["auth"]) == b"nils:"
    with place.server.database():
        assert logins_of(User.objects.get(identifier="nils")).count() == 1
    assert docker("logout", place.address)
    assert docker.stored() == {}
    assert not docker.pull("nils/app:v1")


def test_a_nas_user_who_is_locked_there_pushes_and_pulls_no_more(
    docker: Docker, place: Place, nas: Nas
) -> None:
    nas.add_user("lotte")
    assert docker.login("lotte", NAS_PASSWORD)
    assert docker.push("lotte/app:v1")
    nas.change("lotte", locked=True)
    place.ask_nas_again("lotte")
    assert not docker.pull("lotte/app:v1")
    assert not docker.push("lotte/app:v2")
    assert not docker.login("lotte", NAS_PASSWORD)


def test_a_service_user_pushes_for_its_owner_until_it_is_removed(
    docker: Docker, place: Place
) -> None:
    with place.server.database():
        jane = User.objects.get(identifier="jane")
        _, password = create_service_user(jane, "builder", "", "tests")
    assert docker.login("builder", keep_secret(password))
    assert docker.push("family/built:v1")
    assert docker.pull("family/built:v1")
    assert docker.push("jane/built:v1")
    assert not docker.push("builder/built:v1")
    for kept in docker.stored().values():
        keep_secret(kept["identitytoken"])
    place.follow("authserver serviceuser remove --yes builder")
    assert not docker.pull("family/built:v1")


def test_a_group_pulls_and_does_not_push(docker: Docker, place: Place) -> None:
    assert docker.login("jane", PASSWORD)
    assert docker.push("family/app:v1")
    place.server.make_user("otto")
    assert docker.login("otto", PASSWORD)
    assert not docker.pull("family/app:v1")
    place.follow("authserver permissions grant membership otto family")
    assert docker.pull("family/app:v1")
    assert not docker.push("family/app:v2")


def test_anybody_pulls_what_everybody_may_pull(docker: Docker, place: Place) -> None:
    place.follow(
        "authserver dockerauth repo create --registry Family 'public/*'\n"
        "authserver dockerauth repo grant --registry Family 'public/*' --user jane pull push"
    )
    assert docker.login("jane", PASSWORD)
    assert docker.push("public/app:v1")
    assert docker("logout", place.address)
    assert not docker.pull("public/app:v1")
    place.follow("authserver dockerauth repo grant --registry Family 'public/*' --anonymous pull")
    assert docker.pull("public/app:v1")
    assert not docker.push("public/app:v2")


def test_a_login_that_is_ended_at_the_server_pulls_no_more(docker: Docker, place: Place) -> None:
    assert docker.login("jane", PASSWORD)
    assert docker.push("jane/app:v1")
    assert docker.pull("jane/app:v1")
    with place.server.database():
        for login in logins_of(User.objects.get(identifier="jane")):
            end_refresh_token(login, "tests")
    assert not docker.pull("jane/app:v1")


def test_skopeo_trusts_by_the_file_of_the_engine(docker: Docker, place: Place) -> None:
    logins = ("--authfile", str(docker.folder / "auth.json"))
    name = ("--username", "jane", "--password-stdin")
    done = run(["skopeo", "login", *logins, *name, place.address], docker.folder, PASSWORD)
    assert done.returncode == 0, done.stdout
    there = f"docker://{place.address}/jane/copied"
    done = run(["skopeo", "copy", *logins, place.image, there], docker.folder)
    assert done.returncode == 0, done.stdout


def test_the_lines_of_the_document_work(docker: Docker, place: Place) -> None:
    archive = docker.folder / "app.tar"
    tarfile.open(archive, mode="w").close()
    docker.engine.docker("import", archive, "app-of-tests")
    login = f"docker login {SERVICE}"
    lines = replaced(
        documented(2),
        (f"{login}\n", f"{login} --username jane --password-stdin\n"),
        ("docker tag app ", "docker tag app-of-tests "),
        (SERVICE, place.address),
    )
    host = docker.engine.environ.get("DOCKER_HOST", "unix:///run/docker.sock")
    done = run(["sh", "-ec", lines], docker.folder, PASSWORD, DOCKER_HOST=host)
    docker.engine.docker("rmi", "app-of-tests", f"{place.address}/family/app", ok=False)
    assert done.returncode == 0, done.stdout


IMAGE = """\
FROM {base}
COPY docker-registry /usr/bin/registry
COPY config.yml /etc/docker/registry/config.yml
ENTRYPOINT ["registry", "serve", "/etc/docker/registry/config.yml"]
"""
# as in the published image: its own has no more but headers and a health check
CONFIGURATION = """\
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000"}
"""


def test_the_service_for_compose_takes_the_tokens(docker: Docker, place: Place) -> None:
    """Debian's registry in an image of ours: the published one is the same program."""
    engine, folder, port, image = docker.engine, docker.folder, free_port(), "registry-of-tests"
    (folder / "Dockerfile").write_text(IMAGE.format(base=BASE))
    (folder / "config.yml").write_text(CONFIGURATION)
    shutil.copy("/usr/bin/docker-registry", folder)
    engine.docker("build", "--tag", image, folder)
    shown = place.follow("authserver dockerauth registry show --format compose Family")
    service = replaced(shown, ("registry:2", image), ("127.0.0.1:5000:", f"127.0.0.1:{port}:"))
    (folder / "docker-compose.yml").write_text(service)
    shutil.copy(place.folder / "authserver.pem", folder / "registry.pem")
    compose = ("compose", "--project-name", "registry-of-tests", "--project-directory", folder)
    engine.docker(*compose, "up", "--detach")
    try:
        url = f"http://127.0.0.1:{port}/v2/"
        refused = until(lambda: answer(url))
        assert f'realm="{place.server.base}/docker/token/"' in refused.headers["WWW-Authenticate"]
        assert refused.status_code == 401
        token = place.token("jane", "repository:jane/app:pull")
        welcomed = answer(url, Authorization=f"Bearer {token}")
        assert welcomed is not None
        assert welcomed.status_code == 200
    finally:
        engine.docker(*compose, "down", "--volumes")
        engine.docker("rmi", image)


def answer(url: str, **headers: str) -> httpx.Response | None:
    try:
        return httpx.get(url, headers=headers, trust_env=False, timeout=BOUND)
    except httpx.TransportError:
        return None  # it is about to listen
