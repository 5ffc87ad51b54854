"""The token endpoint: who may ask, and what is malformed (RFC 6749, 2.3, 3.2, 5.2)."""

import base64
from typing import Any

import pytest

from tests.browser import Browser
from tests.relying_party import RelyingParty, signed_in
from tests.server import Server

TOKEN = "/o2/token/"


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True)


@pytest.fixture(scope="module")
def public(server: Server) -> RelyingParty:
    return RelyingParty(server, client_type="public", skip_authorization=True)


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def refused(answer: Any, status: int, error: str) -> bool:
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return True


def test_a_confidential_client_proves_itself_by_basic_or_in_the_body(
    browser: Browser, application: RelyingParty
) -> None:
    assert application.exchange(application.code(browser)).status_code == 200
    assert application.exchange(application.code(browser), basic=True).status_code == 200


def test_a_public_client_names_itself_and_has_no_secret(
    browser: Browser, public: RelyingParty
) -> None:
    assert public.secret == ""
    tokens = public.tokens(browser)
    assert public.refresh(tokens["refresh_token"]).status_code == 200
    answer = public.exchange(public.code(browser), client_secret="made up")
    assert refused(answer, 401, "invalid_client")


@pytest.mark.parametrize("secret", ["wrong", "", None])
def test_a_confidential_client_without_its_secret_is_refused(
    browser: Browser, application: RelyingParty, secret: str | None
) -> None:
    answer = application.exchange(application.code(browser), client_secret=secret)
    assert refused(answer, 401, "invalid_client")


def test_a_failed_basic_answers_401_with_basic(application: RelyingParty) -> None:
    form = {"grant_type": "authorization_code", "code": "x"}
    for headers in (
        basic(application.client_id, "wrong"),
        basic("unknown", "wrong"),
        basic("a\0b", "wrong"),
        {"Authorization": "Basic !"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        {"Authorization": "Bearer " + application.secret},
    ):
        answer = application.http.post(TOKEN, data=form, headers=headers)
        assert refused(answer, 401, "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_basic_is_form_encoded(application: RelyingParty) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in application.secret.encode())
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    answer = application.http.post(TOKEN, data=form, headers=basic(application.client_id, quoted))
    assert refused(answer, 400, "invalid_grant")


def test_two_ways_at_once_are_refused(application: RelyingParty) -> None:
    headers = basic(application.client_id, application.secret)
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    both = {**form, "client_secret": application.secret}
    assert refused(application.http.post(TOKEN, data=both, headers=headers), 400, "invalid_request")
    other = {**form, "client_id": "another"}
    answer = application.http.post(TOKEN, data=other, headers=headers)
    assert refused(answer, 400, "invalid_request")
    same = {**form, "client_id": application.client_id}
    assert refused(application.http.post(TOKEN, data=same, headers=headers), 400, "invalid_grant")


def test_a_secret_counts_until_a_new_one_is_made(server: Server, browser: Browser) -> None:
    from authserver.oidc import applications

    application = RelyingParty(server, skip_authorization=True)
    with server.database():
        new = applications.reset_secret(application.row(), "tests")
    assert application.exchange(application.code(browser)).status_code == 401
    application.secret = new
    assert application.exchange(application.code(browser)).status_code == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password", "username": "a", "password": "b"}, "unsupported_grant_type"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
        (
            {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "x"},
            "unauthorized_client",
        ),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
    ],
)
def test_malformed_requests_are_errors_in_json(
    application: RelyingParty, form: dict[str, Any], error: str
) -> None:
    assert refused(application.post(TOKEN, **form), 400, error)


def test_a_parameter_that_is_there_twice_is_refused(application: RelyingParty) -> None:
    form = {
        "client_id": application.client_id,
        "client_secret": application.secret,
        "grant_type": ["refresh_token", "refresh_token"],
        "refresh_token": "x",
    }
    assert refused(application.http.post(TOKEN, data=form), 400, "invalid_request")


def test_nothing_is_taken_from_the_query(browser: Browser, application: RelyingParty) -> None:
    code = application.code(browser)
    query = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": application.client_id,
        "client_secret": application.secret,
        "redirect_uri": application.redirect_uri,
        "code_verifier": application.verifier,
    }
    assert application.http.post(TOKEN, params=query).status_code == 401
    assert application.http.get(TOKEN, params=query).status_code == 405
    assert application.exchange(code).status_code == 200


def test_a_form_in_parts_is_no_form(browser: Browser, application: RelyingParty) -> None:
    """RFC 6749, 3.2 and appendix B: application/x-www-form-urlencoded."""
    code = application.code(browser)
    parts = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": application.redirect_uri,
        "code_verifier": application.verifier,
        "client_id": application.client_id,
        "client_secret": application.secret,
    }
    answer = application.http.post(TOKEN, files={k: (None, v) for k, v in parts.items()})
    assert refused(answer, 401, "invalid_client")
    answer = application.http.post(TOKEN, data=parts)
    assert answer.status_code == 200


def test_json_is_no_form(application: RelyingParty) -> None:
    answer = application.http.post(TOKEN, json={"grant_type": "authorization_code"})
    assert refused(answer, 401, "invalid_client")


def test_only_digests_are_kept(server: Server, browser: Browser, application: RelyingParty) -> None:
    from django.apps import apps

    code = application.code(browser)
    tokens = application.exchange(code).json()
    waiting = application.code(browser)
    secrets = {
        code,
        waiting,
        application.secret,
        tokens["access_token"],
        tokens["refresh_token"],
        tokens["id_token"],
    }
    rows = []
    with server.database():
        for app in ("accounts", "oidc", "audit"):
            for model in apps.get_app_config(app).get_models():
                rows.append(str(list(model._default_manager.values())))
    text = "\n".join(rows)
    assert application.client_id in text
    assert not [secret for secret in secrets if secret in text]


def test_client_credentials_bring_what_the_application_was_granted(server: Server) -> None:
    from authserver.accounts.models import Permission
    from authserver.oidc import applications

    application = RelyingParty(server, grant_types=["client-credentials"], redirect_uris=[])
    answer = application.post(TOKEN, grant_type="client_credentials", scope="jobs.run")
    assert refused(answer, 400, "invalid_scope")
    assert refused(application.post(TOKEN, grant_type="client_credentials"), 400, "invalid_scope")
    with server.database():
        run, read, _ = (
            Permission.objects.create(name=name, permission_name=name)
            for name in ("jobs.run", "jobs.read", "jobs.other")
        )
        assert applications.give(application.row(), [run, read], "tests") == [
            "jobs.run",
            "jobs.read",
        ]
    asked = application.post(
        TOKEN, grant_type="client_credentials", scope="openid jobs.run jobs.other nothing"
    ).json()
    assert set(asked) == {"access_token", "token_type", "expires_in", "scope"}
    assert asked["scope"] == "jobs.run"
    everything = application.post(TOKEN, grant_type="client_credentials", basic=True).json()
    assert everything["scope"].split() == ["jobs.read", "jobs.run"]
    told = application.introspect(asked["access_token"])
    assert told["active"] is True
    assert told["sub"] == told["client_id"] == application.client_id
    assert "username" not in told
    assert application.userinfo(asked["access_token"]).status_code == 403
    with server.database():
        applications.take(application.row(), [run], "tests")
    assert application.introspect(everything["access_token"])["scope"] == "jobs.read"


def test_a_public_application_has_no_client_credentials(public: RelyingParty) -> None:
    answer = public.post(TOKEN, grant_type="client_credentials", scope="openid")
    assert refused(answer, 400, "unauthorized_client")
