"""Debian's docker-registry with this server as its `auth.token`, by skopeo and buildah."""

import datetime
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.utils import timezone

from authserver.accounts.addresses import create_domain
from authserver.accounts.models import User
from authserver.accounts.service_users import create_service_user
from authserver.accounts.users import set_active
from authserver.registry import registries
from authserver.registry.models import ACTIONS, DockerRegistry, RegistryKey
from tests.processes import BOUND, Program, free_port, keep_secret
from tests.server import PASSWORD, Server

pytestmark = pytest.mark.once

CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
{auth}
"""


class Registry(Program):
    """A running docker-registry, at `address`, that takes the tokens of `server`."""

    def __init__(self, server: Server, folder: Path) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        show = ("dockerauth", "registry", "show", "--format")
        config = server.run(*show, "config", "family").stdout
        bundle = folder / "bundle.pem"
        bundle.write_text(server.run(*show, "cert", "family").stdout)
        auth = config.replace("/etc/docker/registry/authserver.pem", str(bundle))
        text = CONFIG.format(folder=folder, port=port, auth=auth)
        (folder / "config.yml").write_text(text)
        command = ["docker-registry", "serve", str(folder / "config.yml")]
        super().__init__(command, {}, folder)
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://{self.address}/v2/", trust_env=False)
                return
            except httpx.TransportError:
                time.sleep(0.05)  # nothing tells from outside when a port is open
        raise AssertionError("\n".join(self.lines))


class Place:
    """A server, its registry, and an image; `folder` has what skopeo keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder / "server", MAX_FAILURES=0)
        self.maria = self.server.make_user("maria")
        with self.server.database():
            registry = registries.create_registry(
                "tests",
                name="family",
                client_id="registry.example.org",
                domain=create_domain("example.org", "tests"),
                user_namespaces=True,
            )
            for name in ("family/*", "public/*"):
                registries.create_repo(registry, name, "tests")
        self.registry = Registry(self.server, folder)
        self.image = make_image(folder / "image")

    def change(self, repo: str, user: User | None, *actions: str, allowed: bool = True) -> None:
        with self.server.database():
            registry = DockerRegistry.objects.get()
            row = registries.find_repo(registry, repo)
            assert row
            registries.change_rights(row, user, actions or ACTIONS, "tests", allowed=allowed)

    def skopeo(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["skopeo", *arguments],
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.folder),
                "REGISTRY_AUTH_FILE": str(self.folder / "auth.json"),
            },
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND,
        )

    def login(self, name: str, password: str) -> bool:
        options = ("--tls-verify=false", "--username", name, "--password-stdin")
        return not self.skopeo("login", *options, self.registry.address, stdin=password).returncode

    def push(self, repo: str) -> bool:
        there = f"docker://{self.registry.address}/{repo}"
        return not self.skopeo("copy", "--dest-tls-verify=false", self.image, there).returncode

    def pull(self, repo: str, *options: str) -> bool:
        here = f"dir:{self.folder / 'pulled'}"
        there = f"docker://{self.registry.address}/{repo}"
        arguments = ("--src-tls-verify=false", *options, there, here)
        return not self.skopeo("copy", *arguments).returncode

    def delete(self, repo: str) -> bool:
        there = f"docker://{self.registry.address}/{repo}"
        return not self.skopeo("delete", "--tls-verify=false", there).returncode


def make_image(folder: Path) -> str:
    """An OCI image with one small file, as skopeo names it."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    kind = "application/vnd.oci.image"
    layers = [blob(gzip.compress(layer.getvalue(), mtime=0), f"{kind}.layer.v1.tar+gzip")]
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(config).encode(), f"{kind}.config.v1+json"),
        "layers": layers,
    }
    index = {
        "schemaVersion": 2,
        "manifests": [blob(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")],
    }
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps(index))
    return f"oci:{folder}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if not shutil.which("docker-registry") or not shutil.which("skopeo"):
        pytest.skip("needs Debian's docker-registry and skopeo")
    made = Place(tmp_path_factory.mktemp("registry"))
    yield made
    made.registry.stop()
    made.server.stop()


def test_each_right_counts_when_it_is_granted_and_no_longer(place: Place) -> None:
    assert not place.login("maria", "wrong password")
    assert place.login("maria", PASSWORD)
    assert not place.push("family/app")
    place.change("family/*", place.maria, "pull", "push")
    assert place.push("family/app")
    assert place.pull("family/app")
    assert not place.delete("family/app")
    place.change("family/*", place.maria, "push", allowed=False)
    assert not place.push("family/another")
    assert place.pull("family/app")
    place.change("family/*", place.maria, "delete")
    assert place.delete("family/app")
    place.change("family/*", place.maria, allowed=False)
    assert not place.pull("family/app")


def test_anybody_pulls_what_everybody_may_pull_and_pushes_nothing(place: Place) -> None:
    place.change("public/*", place.maria)
    place.login("maria", PASSWORD)
    assert place.push("public/app")
    place.change("public/*", None, "pull")
    place.skopeo("logout", place.registry.address)
    assert place.pull("public/app")
    assert not place.push("public/app")
    assert not place.pull("family/app")


def test_a_user_has_his_own_namespace(place: Place) -> None:
    place.login("maria", PASSWORD)
    assert place.push("maria/anything/at/all")
    assert not place.push("paul/anything")


def test_a_service_user_pushes_for_its_owner(place: Place) -> None:
    with place.server.database():
        _, password = create_service_user(place.maria, "builder", "", "tests")
    assert place.login("builder", keep_secret(password))
    assert place.push("maria/built")


def test_an_image_is_copied_across_repositories(place: Place) -> None:
    place.login("maria", PASSWORD)
    assert place.push("maria/one")
    address = place.registry.address
    done = place.skopeo(
        "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
        f"docker://{address}/maria/one", f"docker://{address}/maria/two",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tags = place.skopeo("list-tags", "--tls-verify=false", f"docker://{address}/maria/two")
    assert json.loads(tags.stdout)["Tags"] == ["latest"]


def bearer(place: Place, name: str, scope: str) -> dict[str, str]:
    """The header of a request with a new token of a user's."""
    answer = httpx.get(
        f"{place.server.base}/docker/token/",
        params={"service": "registry.example.org", "scope": scope},
        auth=(name, PASSWORD),
        trust_env=False,
        timeout=BOUND,
    )
    return {"Authorization": f"Bearer {keep_secret(answer.json()['token'])}"}


def status(registry: Registry, path: str, header: dict[str, str]) -> int:
    url = f"http://{registry.address}{path}"
    return httpx.get(url, headers=header, trust_env=False, timeout=BOUND).status_code


def test_only_administrators_see_the_catalogue(place: Place) -> None:
    place.server.make_user("chief", staff=True)
    for name, expected in (("chief", 200), ("maria", 401)):
        header = bearer(place, name, "registry:catalog:*")
        assert status(place.registry, "/v2/_catalog", header) == expected


def test_no_push_fails_across_a_rotation_of_the_key(place: Place) -> None:
    place.login("maria", PASSWORD)
    assert place.push("maria/app")
    tags = "/v2/maria/app/tags/list"
    earlier = bearer(place, "maria", "repository:maria/app:pull")
    assert place.server.run("dockerauth", "registry", "rotate-key", "family").returncode == 0
    later = bearer(place, "maria", "repository:maria/app:pull")
    assert place.push("maria/while-the-registry-has-the-old-bundle-only")
    with_both = Registry(place.server, place.folder)
    try:
        assert (place.folder / "bundle.pem").read_text().count("BEGIN CERTIFICATE") == 2
        for registry in (place.registry, with_both):
            assert status(registry, tags, earlier) == status(registry, tags, later) == 200
    finally:
        with_both.stop()
    with place.server.database():
        ended = RegistryKey.objects.exclude(ended_at=None)
        assert ended.update(ended_at=timezone.now() - datetime.timedelta(minutes=7)) == 1
    with_new = Registry(place.server, place.folder)
    try:
        assert (place.folder / "bundle.pem").read_text().count("BEGIN CERTIFICATE") == 1
        assert status(with_new, tags, later) == 200
        assert status(with_new, tags, earlier) == 401
    finally:
        with_new.stop()
    assert place.push("maria/still-with-the-old-bundle")


def test_a_deactivated_user_pushes_no_more(place: Place) -> None:
    eva = place.server.make_user("eva")
    assert place.login("eva", PASSWORD)
    assert place.push("eva/app")
    with place.server.database():
        set_active(User.objects.get(pk=eva.pk), False, "tests")
    assert not place.push("eva/app2")
    assert not place.login("eva", PASSWORD)


def test_buildah_pushes_and_pulls(place: Place) -> None:
    if not shutil.which("buildah"):
        pytest.skip("needs Debian's buildah")
    place.login("maria", PASSWORD)
    storage = ("--storage-driver", "vfs", "--root", f"{place.folder}/storage")
    run = ("--runroot", f"{place.folder}/run")
    there = f"docker://{place.registry.address}/maria/by-buildah"
    for arguments in (
        ("pull", place.image),
        ("push", "--tls-verify=false", "--authfile", f"{place.folder}/auth.json"),
    ):
        command = ["buildah", *storage, *run, *arguments]
        if arguments[0] == "push":
            ids = subprocess.run(
                ["buildah", *storage, *run, "images", "--quiet"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            command += [ids.stdout.split()[0], there]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BOUND)
        assert done.returncode == 0, done.stderr
    assert place.pull("maria/by-buildah")
