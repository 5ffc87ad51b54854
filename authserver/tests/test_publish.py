"""authserver oauth2 create, publish, reset-secret: the secret into Vault and Consul, or nowhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from authserver.environment import Environment
from authserver.oidc.applications import is_secret
from authserver.oidc.models import Application
from tests.command_line import done, run
from tests.processes import free_port, keep_secret
from tests.vault import TOKEN, Stub

pytestmark = [pytest.mark.django_db, pytest.mark.once]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    stub = Stub(tmp_path_factory.mktemp("vault"))
    yield stub
    stub.stop()


@pytest.fixture
def stub(running: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    running.fault, running.tokens = None, {TOKEN}
    running.written.clear()
    given(running, monkeypatch)
    return running


def given(stub: Stub, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Let the settings be those of the stub."""
    texts = {name: str(value) for name, value in {**stub.settings, **changes}.items()}
    monkeypatch.setattr(settings, "ENV", Environment({"APPCONFIG_DIR": "/nonexistent", **texts}))


def check(written: dict[str, Any]) -> None:
    """It names the application, with the secret that counts."""
    application = Application.objects.get()
    assert list(written) == ["name", "client_id", "client_secret"]
    assert (written["name"], written["client_id"]) == ("wiki", application.client_id)
    assert is_secret(application, keep_secret(written["client_secret"]))


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("secret/apps/wiki", "secret/data/apps/wiki"),
        ("/secret/data/apps/wiki", "secret/data/apps/wiki"),
        ("kv/apps/wiki", "kv/apps/wiki"),
    ],
)
def test_create_publishes_into_both_versions_of_vault_s_store(
    stub: Stub, path: str, where: str
) -> None:
    result = done("oauth2", "create", "--publish-to-vault", path, "wiki")
    assert result.out == ""
    check(stub.written[where])


def test_publish_writes_a_new_secret_into_consul_vault_a_file_and_stdout(
    stub: Stub, tmp_path: Path
) -> None:
    result = done("oauth2", "create", "--publish-to-consulkv", "apps/wiki", "wiki")
    assert result.out == ""
    first = stub.written["kv/apps/wiki"]
    check(first)
    file = tmp_path / "client.json"
    everywhere = (
        "--publish-to-vault", "secret/wiki", "--publish-to-consulkv", "apps/the wiki",
        "--publish-to-file", str(file), "--publish-to-stdout",
    )  # fmt: skip
    for verb in ("publish", "reset-secret"):
        result = done("oauth2", verb, *everywhere, "wiki")
        check(result.json)
        assert result.json["client_secret"] != first["client_secret"]
        assert stub.written["kv/apps/the%20wiki"] == result.json
        assert stub.written["secret/data/wiki"] == result.json
        assert Path(file).read_text() == result.out


WAYS = [("--publish-to-vault", "secret/wiki"), ("--publish-to-consulkv", "wiki")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "fault",
    [
        (503, {"errors": ["Vault is sealed"]}),
        (403, {"errors": ["permission denied"]}),
        (500, {"errors": ["internal error"]}),
        (307, None),
        (200, False),
        (200, None),
        (200, ["path"]),
    ],
)
def test_where_it_is_refused_nothing_is_made_or_changed(
    stub: Stub, way: tuple[str, str], fault: Any
) -> None:
    stub.fault = fault
    result = run("oauth2", "create", *way, "wiki")
    assert (result.status, result.out) == (1, "")
    assert stub.url in result.err
    assert not Application.objects.exists()
    stub.fault = None
    secret = keep_secret(done("oauth2", "create", "wiki").out.strip())
    stub.fault = fault
    for verb in ("publish", "reset-secret"):
        result = run("oauth2", verb, *way, "wiki")
        assert (result.status, result.out) == (1, "")
        assert is_secret(Application.objects.get(), secret)
    assert not stub.written


@pytest.mark.parametrize("way", WAYS)
def test_only_the_authority_that_is_given_counts(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: tuple[str, str]
) -> None:
    other = Stub(tmp_path)
    given(stub, monkeypatch, VAULT_CA=other.ca, CONSUL_CACERT=other.ca)
    before = len(stub.asked)
    result = run("oauth2", "create", *way, "wiki")
    other.stop()
    assert (result.status, result.out) == (1, "")
    assert "cannot be reached" in result.err
    assert len(stub.asked) == before
    assert not Application.objects.exists()


@pytest.mark.parametrize("way", WAYS)
def test_one_that_is_not_there_is_a_refusal(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, way: tuple[str, str]
) -> None:
    nowhere = f"https://localhost:{free_port()}"
    given(stub, monkeypatch, VAULT_ADDR=nowhere, CONSUL_HTTP_ADDR=nowhere)
    result = run("oauth2", "create", *way, "wiki")
    assert (result.status, result.out) == (1, "")
    assert nowhere in result.err


@pytest.mark.parametrize("way", WAYS)
def test_without_an_address_it_says_which_setting_is_missing(way: tuple[str, str]) -> None:
    result = run("oauth2", "create", *way, "wiki")
    assert (result.status, result.out) == (1, "")
    assert "_ADDR must be set" in result.err
    assert not Application.objects.exists()


def test_what_exists_is_published_nowhere(stub: Stub) -> None:
    keep_secret(done("oauth2", "create", "wiki").out.strip())
    result = run("oauth2", "create", "--publish-to-vault", "secret/wiki", "wiki")
    assert (result.status, result.out) == (2, "")
    assert not stub.written
