"""prompt, max_age and id_token_hint (OpenID Connect Core, 3.1.2.1)."""

import datetime
from typing import Any

import jwt
import pytest
from django.utils import timezone

from tests.browser import Browser
from tests.relying_party import RelyingParty, query_of, signed_in
from tests.server import PASSWORD, Server


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True)


def claims_of(application: RelyingParty, answer: Any) -> dict[str, Any]:
    tokens = application.exchange(query_of(answer)["code"]).json()
    return application.claims(tokens["id_token"])


def moved(server: Server, identifier: str, **by: int) -> None:
    """Let the sign-ins of a user have been earlier."""
    from authserver.accounts.models import Session

    with server.database():
        for session in Session.objects.filter(user__identifier=identifier):
            assert session.authenticated_at
            session.authenticated_at -= datetime.timedelta(**by)
            session.save()


def sign_in_again(browser: Browser, answer: Any, login: str) -> Any:
    """Follow an answer to the sign-in, and back from there."""
    assert answer.headers["Location"].startswith("/account/login/?"), answer.headers
    answer = browser.sign_in(login, PASSWORD, answer.headers["Location"])
    return browser.get(answer.headers["Location"])


def test_none_says_that_a_sign_in_is_needed(server: Server, application: RelyingParty) -> None:
    answer = server.browser().get(application.url(prompt="none"))
    assert query_of(answer)["error"] == "login_required"


def test_none_says_that_consent_is_needed(server: Server) -> None:
    application, browser = RelyingParty(server), signed_in(server)
    assert query_of(browser.get(application.url(prompt="none")))["error"] == "consent_required"
    application.code(browser)
    assert "code" in query_of(browser.get(application.url(prompt="none")))
    wider = application.url(prompt="none", scope="openid email")
    assert query_of(browser.get(wider))["error"] == "consent_required"


def test_none_gives_a_code_to_who_is_signed_in(server: Server, application: RelyingParty) -> None:
    assert "code" in query_of(signed_in(server).get(application.url(prompt="none")))


@pytest.mark.parametrize("prompt", ["login", "select_account"])
def test_login_asks_for_the_password_again_and_auth_time_is_new(
    server: Server, application: RelyingParty, prompt: str
) -> None:
    name = f"again-{prompt}"
    browser = signed_in(server, name)
    moved(server, name, minutes=5)
    first = claims_of(application, browser.get(application.url()))
    answer = browser.get(application.url(prompt=prompt))
    again = answer.headers["Location"]
    assert browser.get(again).status_code == 200  # the form, to who is signed in, too
    second = claims_of(application, sign_in_again(browser, answer, name))
    assert second["auth_time"] - first["auth_time"] >= 300
    assert second["sid"] == first["sid"]


def test_login_is_not_satisfied_by_coming_back_without_a_password(
    server: Server, application: RelyingParty
) -> None:
    from urllib.parse import parse_qs, urlsplit

    browser = signed_in(server)
    answer = browser.get(application.url(prompt="login"))
    back = parse_qs(urlsplit(answer.headers["Location"]).query)["next"][0]
    assert browser.get(back).headers["Location"].startswith("/account/login/")
    forged = application.url(prompt="login", asked_at="1:forged")
    assert browser.get(forged).headers["Location"].startswith("/account/login/")


def test_login_with_none_is_refused(server: Server, application: RelyingParty) -> None:
    answer = signed_in(server).get(application.url(prompt="login none"))
    assert query_of(answer)["error"] == "invalid_request"


def test_a_passed_max_age_asks_for_the_password_again(
    server: Server, application: RelyingParty
) -> None:
    browser = signed_in(server, "aged")
    assert "code" in query_of(browser.get(application.url(max_age="300")))
    moved(server, "aged", seconds=301)
    assert query_of(browser.get(application.url(max_age="300", prompt="none")))["error"] == (
        "login_required"
    )
    before = timezone.now().timestamp()
    answer = sign_in_again(browser, browser.get(application.url(max_age="300")), "aged")
    assert claims_of(application, answer)["auth_time"] >= int(before)


def test_max_age_zero_always_asks(server: Server, application: RelyingParty) -> None:
    browser = signed_in(server, "zero")
    answer = browser.get(application.url(max_age="0"))
    assert "code" in query_of(sign_in_again(browser, answer, "zero"))
    assert browser.get(application.url(max_age="0")).headers["Location"].startswith("/account/")


def test_consent_asks_also_where_it_is_skipped_or_was_given(server: Server) -> None:
    application, browser = RelyingParty(server, skip_authorization=True), signed_in(server)
    assert browser.get(application.url()).status_code == 302
    for _ in range(2):
        assert browser.get(application.url(prompt="consent")).status_code == 200
        assert "code" in query_of(browser.submit(application.url(prompt="consent"), allow="yes"))


def test_a_hint_about_another_user_is_not_answered_for_this_one(
    server: Server, application: RelyingParty
) -> None:
    mine, other = signed_in(server, "hinted"), signed_in(server, "another")
    hint = application.tokens(mine)["id_token"]
    assert "code" in query_of(mine.get(application.url(id_token_hint=hint, prompt="none")))
    silent = other.get(application.url(id_token_hint=hint, prompt="none"))
    assert query_of(silent)["error"] == "login_required"
    answer = other.get(application.url(id_token_hint=hint))
    answer = sign_in_again(other, answer, "another")  # still not the one that was meant
    assert query_of(answer)["error"] == "login_required"
    answer = other.get(application.url(id_token_hint=hint))
    assert "code" in query_of(sign_in_again(other, answer, "hinted"))


def test_an_expired_hint_is_understood_and_a_changed_one_is_not(
    server: Server, application: RelyingParty
) -> None:
    from authserver import signing
    from authserver.oidc import keys

    browser = signed_in(server)
    token = application.tokens(browser)["id_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    with server.database():
        old = signing.sign(keys.signing_key().private_pem, {**claims, "exp": 1, "iat": 0})
        foreign = signing.sign(keys.signing_key().private_pem, {**claims, "iss": "https://x"})
        stranger = signing.sign(signing.make_private_key(), claims)
    assert "code" in query_of(browser.get(application.url(id_token_hint=old, prompt="none")))
    body = token.split(".")
    changed = ".".join([body[0], body[1][:-4] + "AAAA", body[2]])
    none = jwt.encode(claims, "", algorithm="none")
    for hint in (changed, none, foreign, stranger):
        answer = browser.get(application.url(id_token_hint=hint, prompt="none"))
        assert query_of(answer)["error"] == "invalid_request"


def test_a_sign_in_counts_for_the_request_that_asked_for_it_and_not_for_ever(
    server: Server, application: RelyingParty
) -> None:
    """Going back to the address that the sign-in led to asks once more after five minutes."""
    from authserver.oidc import authorization

    browser = signed_in(server, "went-back")
    with server.database():
        moment = timezone.now() - datetime.timedelta(minutes=30)
        note = authorization.ASKED_AT.sign(str(int(moment.timestamp() * 1_000_000)))
    for wish in ({"prompt": "login"}, {"max_age": "60"}):
        url = application.url(asked_at=note, **wish)
        assert "code" in query_of(browser.get(url))
        moved(server, "went-back", minutes=6)
        assert browser.get(url).headers["Location"].startswith("/account/login/")
        moved(server, "went-back", minutes=-6)
