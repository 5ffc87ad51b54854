"""The registry behind TLS, by python-dxf, oras and podman; and what ends amid a push."""

import datetime
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from dxf import DXF, DXFBase
from dxf.exceptions import DXFUnauthorizedError
from oras.client import OrasClient

from authserver.accounts.models import User
from authserver.accounts.service_users import create_service_user
from authserver.registry import keys, registries, tokens
from authserver.registry.models import DockerRegistry
from tests.deploy.registry import SERVICE, Place, run
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.nas import Nas
from tests.processes import BOUND, keep_secret
from tests.server import PASSWORD


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nas]:
    running = Nas(tmp_path_factory.mktemp("nas"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, nas: Nas) -> Iterator[Place]:
    for program in ("docker-registry", "nginx"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}: apt install {program}")
    made = Place(tmp_path_factory.mktemp("registry"), **nas.settings)
    made.server.make_user("maria")
    with made.server.database():
        registries.create_repo(DockerRegistry.objects.get(), "public/*", "tests")
    yield made
    made.stop()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def dxf(place: Place, repo: str, name: str = "", password: str = PASSWORD) -> DXF:
    """python-dxf in a repository: it asks for a token whenever the registry wants one."""

    def authenticate(client: DXFBase, response: object) -> None:
        if name:
            client.authenticate(name, password, response=response)  # type: ignore[arg-type]
        else:
            client.authenticate(response=response)  # type: ignore[arg-type]

    return DXF(place.address, repo, authenticate, tlsverify=str(place.authority), timeout=BOUND)


def push(client: DXF, data: bytes) -> str:
    """The digest of a blob, which is pushed in chunks."""
    return client.push_blob(data=iter([data[:1], data[1:]]), digest=sha256(data))


def pull(client: DXF, digest: str) -> bytes:
    chunks = client.pull_blob(digest)
    assert not isinstance(chunks, tuple)
    return b"".join(chunks)


def test_dxf_pushes_pulls_mounts_and_deletes(place: Place) -> None:
    one, two = (dxf(place, f"maria/{name}", "maria") for name in ("one", "two"))
    digest = push(one, b"a thing in parts")
    one.set_alias("latest", digest)
    assert one.list_aliases() == ["latest"]
    assert pull(one, digest) == b"a thing in parts"
    assert two.mount_blob("maria/one", digest) == digest
    assert pull(two, digest) == b"a thing in parts"
    one.del_alias("latest")
    assert one.list_aliases() == []
    for repo in ("paul/one", "family/one"):
        with pytest.raises(DXFUnauthorizedError):
            push(dxf(place, repo, "maria"), b"x")


def test_dxf_does_not_mount_from_where_it_may_not_pull(place: Place) -> None:
    jane = dxf(place, "jane/own", "jane")
    digest = push(jane, b"jane's")
    assert jane.blob_size(digest) == 6
    with pytest.raises(DXFUnauthorizedError):
        dxf(place, "maria/mounted", "maria").mount_blob("jane/own", digest)
    with pytest.raises(DXFUnauthorizedError):
        dxf(place, "jane/own", "maria").blob_size(digest)


def test_anybody_pulls_with_dxf_what_everybody_may_pull(place: Place) -> None:
    with place.server.database():
        maria = User.objects.get(identifier="maria")
    place.change("public/*", maria)
    digest = push(dxf(place, "public/thing", "maria"), b"y")
    with pytest.raises(DXFUnauthorizedError):
        dxf(place, "public/thing").blob_size(digest)
    place.change("public/*", None, "pull")
    assert dxf(place, "public/thing").blob_size(digest) == 1
    with pytest.raises(DXFUnauthorizedError):
        push(dxf(place, "public/thing"), b"w")


def test_an_administrator_lists_the_catalogue_with_dxf(place: Place) -> None:
    place.server.make_user("chief", staff=True)
    push(dxf(place, "maria/listed", "maria"), b"z")
    assert "maria/listed" in dxf(place, "", "chief").list_repos()
    with pytest.raises(DXFUnauthorizedError):
        dxf(place, "", "maria").list_repos()


def expired(place: Place, name: str, repo: str) -> str:
    """A token as one that was made a quarter of an hour ago."""
    with place.server.database():
        key, user = keys.signing_key(SERVICE), User.objects.get(identifier=name)
        assert key
        access = [{"type": "repository", "name": repo, "actions": ["pull", "push"]}]
        then = datetime.datetime.now().timestamp() - 900
        with mock.patch("time.time", return_value=then):
            return keep_secret(str(tokens.make_token(key, user, access)["token"]))


def test_a_push_goes_on_when_its_token_expires_midway(place: Place) -> None:
    client = dxf(place, "maria/long", "maria")
    first = push(client, b"first")
    client.token = old = expired(place, "maria", "maria/long")
    second = push(client, b"second")
    assert client.token != old
    client.token = old
    client.set_alias("latest", first, second)
    assert client.get_alias("latest") == [first, second]


def test_who_is_locked_on_the_nas_amid_a_push_pushes_no_more(place: Place, nas: Nas) -> None:
    nas.add_user("nils")
    client = dxf(place, "nils/app", "nils", NAS_PASSWORD)
    push(client, b"first")
    nas.change("nils", locked=True)
    client.token = expired(place, "nils", "nils/app")  # what it holds lives five minutes at most
    with pytest.raises(DXFUnauthorizedError):
        push(client, b"second")
    place.ask_nas_again("nils")
    nas.change("nils", locked=False)
    push(client, b"second")


def oras(place: Place, name: str = "", actions: str = "pull") -> OrasClient:
    """oras for maria/notes. It keeps its first token, which is for a look, even where the registry
    wants one to push: so it is given its token."""
    client = OrasClient(hostname=place.address, tls_verify=str(place.authority))
    client.auth.set_token_auth(place.token(name, f"repository:maria/notes:{actions}"))
    return client


def test_oras_pushes_in_chunks_and_pulls(place: Place, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a note in chunks")
    target = f"{place.address}/maria/notes:v1"
    options = {
        "target": target,
        "files": [str(tmp_path / "note.txt")],
        "disable_path_validation": True,
        "do_chunked": True,
        "chunk_size": 7,
    }
    assert oras(place, "maria", "pull,push").push(**options).status_code == 201
    alone = OrasClient(hostname=place.address, tls_verify=str(place.authority))
    alone.auth.set_basic_auth("maria", PASSWORD)  # a pull's first token is the right one
    (pulled,) = alone.pull(target=target, outdir=str(tmp_path / "pulled"))
    assert Path(pulled).read_text() == "a note in chunks"
    for stranger in ("", "jane"):
        with pytest.raises(ValueError, match="Unauthorized"):
            oras(place, stranger).pull(target=target, outdir=str(tmp_path / "stolen"))
        with pytest.raises(ValueError, match="UNAUTHORIZED"):
            oras(place, stranger, "pull,push").push(**options)


def test_podman_logs_in_pushes_pulls_and_logs_out(place: Place) -> None:
    if not shutil.which("podman"):
        pytest.skip("needs podman: apt install podman")
    with place.server.database():
        maria = User.objects.get(identifier="maria")
        _, password = create_service_user(maria, "podman", "", "tests")
    # podman's runroot may have 50 characters
    with tempfile.TemporaryDirectory(prefix="podman", dir="/tmp") as name:
        folder = Path(name)
        (folder / "certs").mkdir()
        shutil.copy(place.authority, folder / "certs/ca.crt")
        storage = (
            "--storage-driver", "vfs", "--root", f"{folder}/storage", "--runroot", f"{folder}/run",
            "--tmpdir", f"{folder}/tmp", "--events-backend", "none",
        )  # fmt: skip
        logins = ("--authfile", f"{folder}/auth.json")
        options = ("--cert-dir", f"{folder}/certs", *logins)

        def podman(*command: str, stdin: str = "") -> str:
            """What it says where that worked, nothing where it did not."""
            done = run(["podman", *storage, *command], folder, stdin)
            return "" if done.returncode else f"done {done.stdout}"

        there = f"{place.address}/maria/by-podman:v1"
        login = ("login", *options, "--username", "podman", "--password-stdin", place.address)
        assert not podman(*login, stdin="a wrong guess")
        assert podman(*login, stdin=keep_secret(password))
        pulled = podman("pull", "--quiet", place.image)
        assert pulled
        image = pulled.split()[-1]
        assert podman("push", *options, image, there)
        assert not podman("push", *options, image, f"{place.address}/paul/app")
        assert podman("rmi", "--all", "--force")
        assert podman("pull", "--quiet", *options, there)
        assert json.loads((folder / "auth.json").read_text())["auths"]
        assert podman("logout", *logins, place.address)
        assert podman("rmi", "--all", "--force")
        assert not podman("pull", "--quiet", *options, there)
