"""Authorization codes: for whom, how long and how often they work (RFC 6749, 4.1.2; RFC 9700)."""

import datetime
from typing import Any

import pytest
from django.utils import timezone

from tests.browser import Browser
from tests.relying_party import CALLBACK, RelyingParty, signed_in
from tests.server import Server


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, redirect_uris=[CALLBACK, CALLBACK + "/2"], skip_authorization=True)


def refused(answer: Any, error: str = "invalid_grant") -> bool:
    assert answer.json()["error"] == error, answer.text
    assert answer.status_code == 400
    return True


def row_of(code: str) -> Any:
    from authserver.accounts.sessions import digest_of
    from authserver.oidc.models import Grant

    return Grant.objects.get(code_digest=digest_of(code))


def test_a_code_lives_for_60_seconds(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    code = application.code(browser)
    with server.database():
        row = row_of(code)
        assert row.expires_at - row.created_at <= datetime.timedelta(seconds=60.5)
        row.expires_at = timezone.now() - datetime.timedelta(milliseconds=1)
        row.save()
    assert refused(application.exchange(code))


def test_a_code_is_for_its_client_only_and_another_cannot_spoil_it(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    other = RelyingParty(server)
    other.verifier = application.verifier
    code = application.code(browser)
    assert refused(other.exchange(code))
    assert application.exchange(code).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uri": CALLBACK + "/2"},
        {"redirect_uri": None},
        {"redirect_uri": CALLBACK.upper()},
        {"code_verifier": "x" * 43},
        {"code_verifier": None},
        {"code_verifier": "short"},
    ],
)
def test_a_failed_exchange_leaves_the_code(
    browser: Browser, application: RelyingParty, changed: dict[str, str | None]
) -> None:
    code = application.code(browser)
    assert refused(application.exchange(code, **changed))
    assert application.exchange(code).status_code == 200


def test_a_failed_client_authentication_leaves_the_code(
    browser: Browser, application: RelyingParty
) -> None:
    code = application.code(browser)
    assert application.exchange(code, client_secret="wrong").status_code == 401
    assert application.exchange(code).status_code == 200


def test_a_second_use_is_refused_and_revokes_what_the_first_brought(
    browser: Browser, application: RelyingParty
) -> None:
    code = application.code(browser, scope="openid offline_access")
    first = application.exchange(code).json()
    second = application.refresh(first["refresh_token"]).json()
    assert application.is_alive(second["access_token"])
    assert refused(application.exchange(code))
    for token in (first["access_token"], second["access_token"], second["refresh_token"]):
        assert not application.is_alive(token)
    assert application.userinfo(second["access_token"]).status_code == 401
    assert refused(application.refresh(second["refresh_token"]))


def test_a_second_use_by_another_client_revokes_nothing(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    code = application.code(browser)
    tokens = application.exchange(code).json()
    assert refused(RelyingParty(server).exchange(code))
    assert application.is_alive(tokens["access_token"])


def test_a_second_use_is_noticed_for_30_days(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    from authserver.oidc import tokens as rules

    code = application.code(browser, scope="openid offline_access")
    tokens = application.exchange(code).json()
    with server.database():
        row = row_of(code)
        assert row.expires_at - row.code_used_at == datetime.timedelta(days=30)
        type(row).objects.filter(pk=row.pk).update(
            code_used_at=timezone.now() - datetime.timedelta(days=29),
        )
        rules.clear_old_grants()
    assert refused(application.exchange(code))
    assert not application.is_alive(tokens["refresh_token"])


def test_an_unknown_code_and_none_at_all_are_errors(application: RelyingParty) -> None:
    assert refused(application.exchange("x" * 43))
    assert refused(application.exchange("a\0b\u2603"))
    assert refused(application.exchange(""), "invalid_request")


def test_the_nonce_comes_back_whatever_it_is(browser: Browser, application: RelyingParty) -> None:
    for nonce in ("0", " ", "ü\u2603", "x" * 1000, "a&b=c"):
        tokens = application.tokens(browser, nonce=nonce)
        assert application.claims(tokens["id_token"])["nonce"] == nonce
    tokens = application.tokens(browser)
    assert "nonce" not in application.claims(tokens["id_token"])


def test_without_openid_there_is_no_id_token(browser: Browser, application: RelyingParty) -> None:
    tokens = application.tokens(browser, scope="profile")
    assert "id_token" not in tokens
    assert tokens["refresh_token"]
