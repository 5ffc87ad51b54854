"""Introspection (RFC 7662) and revocation (RFC 7009)."""

import time
from typing import Any

import pytest

from tests.browser import Browser
from tests.relying_party import RelyingParty, signed_in
from tests.server import PASSWORD, Server


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True)


@pytest.fixture(scope="module")
def other(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True)


@pytest.fixture(scope="module")
def public(server: Server) -> RelyingParty:
    return RelyingParty(server, client_type="public", skip_authorization=True)


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


def test_an_application_learns_about_its_own_tokens(
    server: Server, application: RelyingParty
) -> None:
    user = server.make_user("ines")
    browser = server.browser().signed_in("ines", PASSWORD)
    now = int(time.time())
    tokens = application.tokens(browser, scope="openid profile")
    found = application.introspect(tokens["access_token"])
    assert set(found) == {
        *("active", "scope", "client_id", "username", "token_type", "exp", "iat", "sub", "iss"),
    }
    assert found["active"] is True
    assert found["scope"] == "openid profile"
    assert found["client_id"] == application.client_id
    assert found["username"] == "ines"
    assert found["token_type"] == "Bearer"
    assert found["sub"] == str(user.uuid)
    assert found["iss"] == server.base
    assert found["exp"] - found["iat"] == 3600
    assert found["iat"] >= now - 1
    refresh = application.introspect(tokens["refresh_token"])
    assert refresh["active"] is True
    assert refresh["token_type"] != "Bearer"


def test_others_tokens_are_inactive_except_for_a_resource_server(
    server: Server, browser: Browser, application: RelyingParty, other: RelyingParty
) -> None:
    tokens = application.tokens(browser)
    token = tokens["access_token"]
    assert other.introspect(token) == {"active": False}
    resource_server = RelyingParty(server, grant_types=[], redirect_uris=[], resource_server=True)
    assert resource_server.introspect(token)["client_id"] == application.client_id
    assert resource_server.introspect(tokens["refresh_token"]) == {"active": False}


def test_what_is_no_token_is_inactive_and_nothing_more_is_told(
    browser: Browser, application: RelyingParty
) -> None:
    tokens = application.tokens(browser)
    application.refresh(tokens["refresh_token"])
    for token in ("x", "a\0b", tokens["refresh_token"], tokens["id_token"]):
        assert application.introspect(token) == {"active": False}


def test_a_public_or_unknown_client_gets_401(
    browser: Browser, application: RelyingParty, public: RelyingParty
) -> None:
    token = public.tokens(browser)["access_token"]
    for answer in (
        public.post("/o2/introspect/", token=token),
        application.post("/o2/introspect/", token=token, client_secret="wrong"),
        application.http.post("/o2/introspect/", data={"token": token}),
        application.http.post(
            "/o2/introspect/", data={"token": token}, headers={"Authorization": f"Bearer {token}"}
        ),
    ):
        assert answer.status_code == 401
        assert answer.json()["error"] == "invalid_client"
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_request_without_a_token_and_a_get_are_refused(application: RelyingParty) -> None:
    for path in ("/o2/introspect/", "/o2/revoke_token/"):
        answer = application.post(path)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert application.http.get(path).status_code == 405


def revoke(application: RelyingParty, token: str, **more: Any) -> None:
    answer = application.post("/o2/revoke_token/", token=token, **more)
    assert answer.status_code == 200, answer.text


def test_a_refresh_tokens_revocation_ends_its_family(
    browser: Browser, application: RelyingParty
) -> None:
    first = application.tokens(browser, scope="openid offline_access")
    second = application.refresh(first["refresh_token"]).json()
    other_family = application.tokens(browser)
    revoke(application, second["refresh_token"], token_type_hint="refresh_token")
    for token in (first["access_token"], second["access_token"], second["refresh_token"]):
        assert not application.is_alive(token)
    assert application.refresh(second["refresh_token"]).status_code == 400
    assert application.is_alive(other_family["access_token"])


def test_an_access_tokens_revocation_ends_it_alone(
    browser: Browser, application: RelyingParty
) -> None:
    tokens = application.tokens(browser)
    revoke(application, tokens["access_token"], token_type_hint="refresh_token")
    assert application.userinfo(tokens["access_token"]).status_code == 401
    assert application.refresh(tokens["refresh_token"]).status_code == 200


def test_what_is_unknown_is_revoked_already_and_again(
    browser: Browser, application: RelyingParty
) -> None:
    token = application.tokens(browser)["access_token"]
    for each in ("x", token, token):
        revoke(application, each, token_type_hint="of_another_kind")


def test_anothers_token_is_not_revoked(
    browser: Browser, application: RelyingParty, other: RelyingParty
) -> None:
    tokens = application.tokens(browser)
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert other.post("/o2/revoke_token/", token=token).status_code == 400
        assert application.is_alive(token)


def test_a_public_client_revokes_its_own(browser: Browser, public: RelyingParty) -> None:
    tokens = public.tokens(browser)
    revoke(public, tokens["refresh_token"])
    assert public.userinfo(tokens["access_token"]).status_code == 401


def test_revoking_needs_the_clients_secret(browser: Browser, application: RelyingParty) -> None:
    token = application.tokens(browser)["access_token"]
    answer = application.post("/o2/revoke_token/", token=token, client_secret="wrong")
    assert answer.status_code == 401
    assert application.is_alive(token)
