"""A whole sign-in with a code (RFC 6749, 4.1; OpenID Connect Core, 3.1)."""

import time
from urllib.parse import parse_qsl, urlsplit

import jwt

from tests.relying_party import CALLBACK, RelyingParty, query_of, signed_in
from tests.server import PASSWORD, Server

ID_TOKEN_CLAIMS = {
    *("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid", "amr"),
}


def test_a_code_becomes_tokens_that_say_who_it_is(server: Server) -> None:
    user = server.make_user("maria", fullname="Maria Example")
    browser = server.browser().signed_in("maria", PASSWORD)
    application = RelyingParty(server)
    begun = int(time.time())
    code = application.code(browser, scope="openid profile", nonce="n-1")
    answer = application.exchange(code)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    found = answer.json()
    assert found["token_type"] == "Bearer"
    assert found["expires_in"] == 3600
    assert found["scope"] == "openid profile"
    assert jwt.get_unverified_header(found["id_token"])["alg"] == "RS256"
    claims = application.claims(found["id_token"])
    assert set(claims) == ID_TOKEN_CLAIMS
    assert claims["iss"] == server.base
    assert claims["sub"] == str(user.uuid)
    assert claims["nonce"] == "n-1"
    assert claims["amr"] == ["pwd"]
    assert claims["exp"] - claims["iat"] == 3600
    assert begun - 60 <= claims["auth_time"] <= claims["iat"]
    hashed = jwt.get_algorithm_by_name("RS256").compute_hash_digest(found["access_token"].encode())
    assert jwt.utils.base64url_encode(hashed[:16]).decode() == claims["at_hash"]
    told = application.userinfo(found["access_token"]).json()
    assert told["sub"] == claims["sub"]
    assert told["name"] == "Maria Example"
    assert told["preferred_username"] == "maria"


def test_who_is_not_signed_in_does_so_on_the_way(server: Server) -> None:
    server.make_user("anna")
    application = RelyingParty(server, skip_authorization=True)
    browser = server.browser()
    answer = browser.get(application.url(login_hint="anna"))
    assert answer.status_code == 302
    page = answer.headers["Location"]
    assert page.startswith("/account/login/?")
    assert 'value="anna"' in browser.get(page).text
    assert "https://app.example.org" in browser.get(page).headers["Content-Security-Policy"]
    answer = browser.sign_in("anna", PASSWORD, page)
    answer = browser.get(answer.headers["Location"])
    assert answer.headers["Location"].startswith(CALLBACK)
    assert set(query_of(answer)) == {"code", "state", "iss"}


def test_an_application_may_send_the_request_as_a_form(server: Server) -> None:
    application = RelyingParty(server, skip_authorization=True)
    browser = signed_in(server)
    form = query_of_url(application.url())
    answer = browser.post("/o2/authorize/", data=form)
    assert answer.status_code == 303
    assert query_of(answer)["state"] == "the-state"
    # another site's form comes without the cookie, and the GET after it has it
    stranger = server.browser()
    answer = stranger.post("/o2/authorize/", data=form, headers={"Origin": "https://app.example"})
    assert answer.status_code == 303
    answer = browser.get(answer.headers["Location"])
    assert query_of(answer)["state"] == "the-state"


def query_of_url(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))
