"""Signing out by an application (OpenID Connect RP-Initiated Logout 1.0)."""

from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
import pytest

from tests.browser import Browser
from tests.relying_party import RelyingParty, signed_in
from tests.server import Server

AFTER = "https://app.example.org/signed-out"


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(
        server, "Photos", post_logout_redirect_uris=[AFTER], skip_authorization=True
    )


def logout(browser: Browser, method: str = "GET", **parameters: str) -> httpx.Response:
    given = {k: v for k, v in parameters.items() if v}
    if method == "POST":
        return browser.post("/o2/logout/", data=given)
    return browser.get("/o2/logout/?" + urlencode(given))


def confirm(browser: Browser, allow: str, **parameters: str) -> httpx.Response:
    return browser.submit("/o2/logout/?" + urlencode(parameters), allow=allow)


def is_in(browser: Browser) -> bool:
    return browser.is_signed_in()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_hints_session_ends_without_a_question_and_the_browser_goes_back(
    server: Server, application: RelyingParty, method: str
) -> None:
    browser = signed_in(server)
    tokens = application.tokens(browser)
    lasting = application.tokens(browser, scope="openid offline_access")
    other = RelyingParty(server, skip_authorization=True)
    others = other.tokens(browser, scope="openid offline_access")
    answer = logout(
        browser,
        method,
        id_token_hint=tokens["id_token"],
        post_logout_redirect_uri=AFTER,
        state="a&b",
    )
    assert answer.status_code in (302, 303)
    assert answer.headers["Location"] == f"{AFTER}?state=a%26b"
    assert not is_in(browser)
    assert not application.is_alive(tokens["access_token"])
    assert application.is_alive(lasting["access_token"])  # offline_access lives on
    assert other.is_alive(others["access_token"])


def test_a_form_of_the_applications_page_comes_without_the_cookie_and_works(
    server: Server, application: RelyingParty
) -> None:
    browser = signed_in(server)
    hint = application.tokens(browser)["id_token"]
    given = {"id_token_hint": hint, "post_logout_redirect_uri": AFTER}
    stranger = server.browser()
    answer = stranger.post("/o2/logout/", data=given, headers={"Origin": "https://app.example.org"})
    assert answer.status_code == 303
    answer = browser.get(answer.headers["Location"])
    assert answer.headers["Location"] == AFTER
    assert not is_in(browser)


def test_without_a_place_to_go_back_to_there_is_a_page(
    server: Server, application: RelyingParty
) -> None:
    browser = signed_in(server)
    answer = logout(browser, id_token_hint=application.tokens(browser)["id_token"], state="x")
    assert answer.status_code == 200
    assert "signed out" in answer.text
    assert not is_in(browser)


def test_without_a_hint_the_user_is_asked(server: Server, application: RelyingParty) -> None:
    browser = signed_in(server)
    for given in ({}, {"client_id": application.client_id}, {"state": "x"}):
        page = logout(browser, **given)
        assert page.status_code == 200
        assert is_in(browser)
    stay = confirm(browser, "no", client_id=application.client_id)
    assert stay.headers["Location"] == "/"
    assert is_in(browser)
    path = {"client_id": application.client_id, "post_logout_redirect_uri": AFTER, "state": "s"}
    page = logout(browser, **path)
    assert "form-action 'self' https://app.example.org;" in page.headers["Content-Security-Policy"]
    answer = confirm(browser, "yes", **path)
    assert answer.headers["Location"] == f"{AFTER}?state=s"
    assert not is_in(browser)


def test_the_question_needs_its_csrf_token(server: Server) -> None:
    browser = signed_in(server)
    action, fields = browser.form("/o2/logout/")
    sent = {"question": fields["question"], "allow": "yes"}
    headers = {"Origin": browser.base}
    assert browser.post(action, data=sent, headers=headers).status_code == 403
    sent |= {"csrfmiddlewaretoken": fields["csrfmiddlewaretoken"], "question": "forged"}
    assert browser.post(action, data=sent, headers=headers).status_code == 403
    assert is_in(browser)


def test_the_hints_session_ends_and_another_ones_browser_is_asked(
    server: Server, application: RelyingParty
) -> None:
    phone, desk = signed_in(server, "two-browsers"), server.browser()
    from tests.server import PASSWORD

    desk.signed_in("two-browsers", PASSWORD)
    tokens = application.tokens(phone)
    hint = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": AFTER}
    page = logout(desk, **hint)
    assert page.status_code == 200
    assert not is_in(phone)
    assert not application.is_alive(tokens["access_token"])
    assert is_in(desk)
    answer = confirm(desk, "yes", **hint)
    assert answer.headers["Location"] == AFTER
    assert not is_in(desk)


def test_another_users_hint_ends_only_the_others_session(
    server: Server, application: RelyingParty
) -> None:
    one, other = signed_in(server), signed_in(server)
    page = logout(other, id_token_hint=application.tokens(one)["id_token"])
    assert page.status_code == 200
    assert not is_in(one)
    assert is_in(other)


def test_a_browser_without_a_session_goes_back_at_once(
    server: Server, application: RelyingParty
) -> None:
    browser = signed_in(server)
    hint = application.tokens(browser)["id_token"]
    stranger = server.browser()
    answer = logout(stranger, id_token_hint=hint, post_logout_redirect_uri=AFTER)
    assert answer.headers["Location"] == AFTER
    assert not is_in(browser)
    answer = logout(stranger, client_id=application.client_id, post_logout_redirect_uri=AFTER)
    assert answer.headers["Location"] == AFTER
    assert logout(stranger).status_code == 200


def test_an_expired_hint_is_understood(server: Server, application: RelyingParty) -> None:
    from authserver import signing
    from authserver.oidc import keys

    browser = signed_in(server)
    claims = jwt.decode(
        application.tokens(browser)["id_token"], options={"verify_signature": False}
    )
    with server.database():
        old = signing.sign(keys.signing_key().private_pem, {**claims, "exp": 1, "iat": 0})
    logout(browser, id_token_hint=old)
    assert not is_in(browser)


def changed(token: str) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{jwt.utils.base64url_encode(b'{}').decode()}.{signature}"


def test_what_cannot_be_right_is_a_page_and_ends_nothing(
    server: Server, application: RelyingParty
) -> None:
    browser = signed_in(server)
    hint = application.tokens(browser)["id_token"]
    other = RelyingParty(server, post_logout_redirect_uris=["https://other.example/out"])
    wrong: list[dict[str, Any]] = [
        {"id_token_hint": "nonsense"},
        {"id_token_hint": changed(hint)},
        {"id_token_hint": hint, "client_id": other.client_id},
        {"id_token_hint": hint, "post_logout_redirect_uri": "https://other.example/out"},
        {"id_token_hint": hint, "post_logout_redirect_uri": AFTER + "/"},
        {"id_token_hint": hint, "post_logout_redirect_uri": AFTER + "?x"},
        {"id_token_hint": hint, "post_logout_redirect_uri": "https://app.example.org/callback"},
        {"post_logout_redirect_uri": AFTER},
        {"client_id": "unknown"},
        {"client_id": "a\0b"},
        {"client_id": other.client_id, "post_logout_redirect_uri": AFTER},
    ]
    for given in wrong:
        answer = logout(browser, **given)
        assert answer.status_code == 400, given
        assert "Location" not in answer.headers
        assert is_in(browser)
    twice = f"/o2/logout/?id_token_hint={hint}&id_token_hint={hint}"
    assert browser.get(twice).status_code == 400
    assert is_in(browser)
