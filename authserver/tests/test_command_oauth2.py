"""authserver oauth2, authserver oidc, and what permissions applications have."""

import json
from pathlib import Path

import pytest

from authserver.oidc.applications import is_secret
from authserver.oidc.models import Application, SigningKey
from tests.command_line import done, run
from tests.processes import keep_secret

pytestmark = pytest.mark.django_db
URI = "https://wiki.example.org/callback"


def create(*arguments: str) -> Application:
    result = done("oauth2", "create", *arguments, "wiki")
    keep_secret(result.out.strip())
    return Application.objects.get(name="wiki")


def test_its_secret_is_alone_on_stdout_and_its_client_id_on_stderr() -> None:
    result = done("oauth2", "create", "--redirect-uri", URI, "wiki")
    secret = keep_secret(result.out.removesuffix("\n"))
    application = Application.objects.get()
    assert is_secret(application, secret)
    assert len(secret) >= 43  # 256 bits in base64
    assert application.client_id in result.err
    assert secret not in result.err
    assert application.redirect_uris == URI
    assert application.authorization_code


def test_options_become_values() -> None:
    done("domain", "create", "example.org")
    application = create(
        "--redirect-uri", URI, "--redirect-uri", URI + "2", "--post-logout-redirect-uri",
        "https://wiki.example.org/", "--skip-authorization", "--skip-pkce", "--resource-server",
        "--grant-type", "authorization-code", "--grant-type", "client-credentials",
        "--domain", "example.org", "--client-type", "confidential",
    )  # fmt: skip
    assert application.redirect_uri_list == [URI, URI + "2"]
    assert application.post_logout_redirect_uri_list == ["https://wiki.example.org/"]
    assert application.skip_authorization
    assert application.skip_pkce
    assert application.resource_server
    assert application.client_credentials
    assert not application.device_code
    assert str(application.domain) == "example.org"


def test_a_public_application_has_no_secret() -> None:
    result = done("oauth2", "create", "--client-type", "public", "--redirect-uri", URI, "app")
    assert result.out == ""
    assert run("oauth2", "reset-secret", "app").status == 1


def test_it_is_published_to_stdout_as_json() -> None:
    result = done("oauth2", "create", "--publish-to-stdout", "--redirect-uri", URI, "wiki")
    published = json.loads(result.out)
    keep_secret(published["client_secret"])
    application = Application.objects.get()
    assert list(published) == ["name", "client_id", "client_secret"]
    assert published["name"] == "wiki"
    assert published["client_id"] == application.client_id
    assert is_secret(application, published["client_secret"])


def test_it_is_published_to_a_file_of_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "client.json"
    result = done("oauth2", "create", "--publish-to-file", str(file), "wiki")
    assert result.out == ""
    assert file.stat().st_mode & 0o777 == 0o600
    assert is_secret(Application.objects.get(), json.loads(file.read_text())["client_secret"])


def test_where_the_file_cannot_be_written_nothing_is_made(tmp_path: Path) -> None:
    file = tmp_path / "no" / "client.json"
    result = run("oauth2", "create", "--publish-to-file", str(file), "wiki")
    assert (result.status, result.out) == (1, "")
    assert not Application.objects.exists()


def test_creating_what_exists_is_2_and_says_whether_it_is_the_same() -> None:
    application = create("--redirect-uri", URI)
    result = run("oauth2", "create", "--redirect-uri", URI, "wiki")
    assert (result.status, result.out) == (2, "")
    assert "same values" in result.err
    result = run("oauth2", "create", "--redirect-uri", URI + "/other", "wiki")
    assert (result.status, result.out) == (2, "")
    assert "other values" in result.err
    digest = application.secret_digest
    application.refresh_from_db()
    assert application.secret_digest == digest


@pytest.mark.parametrize("grant_type", ["implicit", "password", "openid-hybrid"])
def test_what_rfc_9700_forbids_is_refused_with_what_to_use_instead(grant_type: str) -> None:
    result = run("oauth2", "create", "--grant-type", grant_type, "wiki")
    assert result.status == 1
    assert "authorization-code" in result.err
    assert not Application.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--redirect-uri", "https://wiki.example.org/#fragment"),
        ("--redirect-uri", "http://wiki.example.org/"),
        ("--redirect-uri", "https:///callback"),
        ("--domain", "nowhere.org"),
        ("--client-type", "public", "--skip-pkce"),
        ("--client-type", "public", "--grant-type", "client-credentials"),
    ],
)
def test_what_can_never_be_right_is_refused(arguments: tuple[str, ...]) -> None:
    assert run("oauth2", "create", *arguments, "wiki").status == 1
    assert not Application.objects.exists()


def test_http_is_for_who_asks_for_it() -> None:
    assert create("--allow-http", "--redirect-uri", "http://wiki.lan/").allow_http


def test_it_is_found_by_client_id_and_by_name() -> None:
    application = create("--redirect-uri", URI)
    for selector in (application.client_id, "wiki"):
        (row,) = done("oauth2", "show", "-f", "json", selector).json
        assert row["client_id"] == application.client_id
        assert row["redirect_uris"] == [URI]
        assert row["grant_types"] == ["authorization-code"]
        assert URI in done("oauth2", "show", selector).out
    (row,) = done("oauth2", "list", "-f", "json").json
    assert "client_secret" not in row
    assert application.client_id in done("oauth2", "list").out
    for option, value in (("id", application.client_id), ("name", "wiki")):
        (found,) = done("oauth2", "list", f"--search-client-{option}", value, "-f", "json").json
        assert found == row
        assert run("oauth2", "list", f"--search-client-{option}", "nobody").status == 1
    for arguments in (("list", "x"), ("show", "x"), ("remove", "x"), ("reset-secret", "x")):
        assert run("oauth2", *arguments).status == 1


def test_it_is_edited() -> None:
    application = create("--redirect-uri", URI, "--skip-authorization")
    done(
        "oauth2", "edit", "wiki", "--redirect-uri", URI + "/new", "--no-skip-authorization",
        "--grant-type", "device-code", "--name", "The wiki",
    )  # fmt: skip
    application.refresh_from_db()
    assert application.redirect_uris == URI + "/new"
    assert not application.skip_authorization
    assert application.device_code
    assert not application.authorization_code
    assert "as it was" in done("oauth2", "edit", "The wiki", "--name", "The wiki").err
    assert run("oauth2", "edit", "The wiki").status == 2
    assert run("oauth2", "edit", "The wiki", "--redirect-uri", "http://x.org/").status == 1


def test_a_new_secret_takes_the_old_ones_place(tmp_path: Path) -> None:
    result = done("oauth2", "create", "wiki")
    old = keep_secret(result.out.strip())
    new = keep_secret(done("oauth2", "reset-secret", "wiki").out.strip())
    application = Application.objects.get()
    assert is_secret(application, new)
    assert not is_secret(application, old)
    assert run("oauth2", "publish", "wiki").status == 2
    published = json.loads(done("oauth2", "publish", "--publish-to-stdout", "wiki").out)
    application.refresh_from_db()
    assert is_secret(application, keep_secret(published["client_secret"]))
    assert not is_secret(application, new)
    assert run("oauth2", "publish", "--publish-to-file", "/nonexistent/x", "wiki").status == 1
    application.refresh_from_db()
    assert is_secret(application, published["client_secret"])


def test_it_is_removed_once() -> None:
    create()
    done("oauth2", "remove", "wiki")
    assert run("oauth2", "remove", "wiki").status == 1


def test_what_its_users_must_hold_is_required_and_dropped() -> None:
    application = create()
    done("permissions", "create", "--name", "Read", "wiki:read")
    for _ in range(2):
        done("permissions", "require", "wiki", "wiki:read")
    (row,) = done("permissions", "show", "application", "-f", "json", "wiki").json
    assert row["permission_name"] == "wiki:read"
    assert run("permissions", "require", "wiki", "no:thing").status == 1
    assert run("permissions", "require", "nobody", "wiki:read").status == 1
    for _ in range(2):
        done("permissions", "drop", application.client_id, "wiki:read")
    assert not application.required_permissions.exists()


def test_what_it_holds_itself_is_granted_and_revoked() -> None:
    application = create("--grant-type", "client-credentials")
    for name in ("wiki:read", "wiki:write"):
        done("permissions", "create", "--name", "X", name)
    done("permissions", "grant", "application", "wiki", "wiki:read", "wiki:write")
    assert application.permissions.count() == 2
    done("permissions", "revoke", "application", "wiki", "wiki:read")
    assert str(application.permissions.get()) == "wiki:write"
    done("permissions", "revoke", "application", "wiki", "--all")
    assert not application.permissions.exists()


def test_a_new_key_signs_an_hour_later_or_at_once() -> None:
    (first,) = done("oidc", "keys", "-f", "json").json
    assert first["state"] == "signs"
    done("oidc", "rotate-key")
    states = [key["state"] for key in done("oidc", "keys", "-f", "json").json]
    assert states == ["signs", "next"]
    done("oidc", "rotate-key", "--now")
    rows = {key["kid"]: key["state"] for key in done("oidc", "keys", "-f", "json").json}
    assert rows[first["kid"]] == "published"
    assert sorted(rows.values()) == ["published", "signs"]
    assert SigningKey.objects.count() == 2
