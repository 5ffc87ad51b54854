"""Which authorization requests are answered, and how (RFC 6749, 4.1.2.1; OpenID Core, 3.1.2.6)."""

from urllib.parse import urlencode

import pytest

from tests.browser import Browser
from tests.relying_party import CALLBACK, RelyingParty, query_of, signed_in
from tests.server import Server


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, "Photos", skip_authorization=True)


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"client_id": None}, "not known here"),
        ({"client_id": "unknown"}, "not known here"),
        ({"client_id": "a\0b"}, "not known here"),
        ({"redirect_uri": None}, "redirect_uri"),
        ({"redirect_uri": "https://evil.example/callback"}, "redirect_uri"),
        ({"redirect_uri": CALLBACK + "/"}, "redirect_uri"),
        ({"redirect_uri": CALLBACK + "?a=b"}, "redirect_uri"),
        ({"redirect_uri": "HTTPS://app.example.org/callback"}, "redirect_uri"),
        ({"redirect_uri": "https://APP.example.org/callback"}, "redirect_uri"),
        ({"redirect_uri": "https://app.example.org:443/callback"}, "redirect_uri"),
        ({"redirect_uri": "https://app.example.org/%63allback"}, "redirect_uri"),
    ],
)
def test_without_a_client_and_its_redirect_uri_there_is_a_page(
    browser: Browser, application: RelyingParty, changed: dict[str, str | None], says: str
) -> None:
    answer = browser.get(application.url(**changed))
    assert answer.status_code == 400
    assert says in answer.text
    assert "Location" not in answer.headers


@pytest.mark.parametrize("twice", ["client_id", "redirect_uri"])
def test_a_client_or_redirect_uri_that_is_there_twice_is_a_page(
    browser: Browser, application: RelyingParty, twice: str
) -> None:
    value = {"client_id": application.client_id, "redirect_uri": CALLBACK}[twice]
    answer = browser.get(application.url() + "&" + urlencode({twice: value}))
    assert answer.status_code == 400
    assert "twice" in answer.text


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
        ({"request_uri": "https://app.example.org/r"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"scope": "unknown another"}, "invalid_scope"),
        ({"scope": 'openid "'}, "invalid_scope"),
        ({"scope": "openid\\"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "dance"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1.5"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"nonce": "a\0b"}, "invalid_request"),
        ({"id_token_hint": "not.a.token"}, "invalid_request"),
        ({"id_token_hint": "x"}, "invalid_request"),
    ],
)
def test_other_errors_go_back_to_the_client_with_state_and_issuer(
    server: Server,
    browser: Browser,
    application: RelyingParty,
    changed: dict[str, str | None],
    error: str,
) -> None:
    answer = browser.get(application.url(**changed))
    assert answer.headers["Location"].startswith(f"{CALLBACK}?")
    found = query_of(answer)
    assert found.pop("error_description", "-")
    assert found == {"error": error, "state": "the-state", "iss": server.base}


@pytest.mark.parametrize("name", ["scope", "state", "nonce", "prompt", "code_challenge"])
def test_a_parameter_that_is_there_twice_is_an_error(
    browser: Browser, application: RelyingParty, name: str
) -> None:
    url = application.url(nonce="n", prompt="consent") + "&" + urlencode({name: "openid"})
    assert query_of(browser.get(url))["error"] == "invalid_request"


def test_unknown_parameters_and_resource_are_ignored(
    browser: Browser, application: RelyingParty
) -> None:
    more = (
        "&resource=https://a.example&resource=https://b.example&unknown=1&unknown=2&claims=%7B%7D"
    )
    more += "&response_mode=fragment&acr_values=x&ui_locales=de&display=page"
    answer = browser.get(application.url() + more)
    assert set(query_of(answer)) == {"code", "state", "iss"}
    assert "#" not in answer.headers["Location"]


def test_the_state_comes_back_as_it_was_and_is_left_out_where_there_was_none(
    browser: Browser, application: RelyingParty
) -> None:
    state = 'a b+c%20d&e=f#g"ü\u2603'
    assert query_of(browser.get(application.url(state=state)))["state"] == state
    assert set(query_of(browser.get(application.url(state=None)))) == {"code", "iss"}


def test_the_answer_is_appended_to_a_query_that_the_redirect_uri_has(
    server: Server, browser: Browser
) -> None:
    uri = "https://app.example.org/?page=callback"
    application = RelyingParty(server, redirect_uris=[uri], skip_authorization=True)
    answer = browser.get(application.url())
    assert answer.headers["Location"].startswith(uri + "&code=")
    assert query_of(answer)["page"] == "callback"


def test_every_answer_carries_the_issuer(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    for parameters in ({}, {"prompt": "none"}, {"scope": "unknown"}, {"response_type": "token"}):
        assert query_of(browser.get(application.url(**parameters)))["iss"] == server.base


def test_an_application_without_the_grant_type_gets_no_code(
    server: Server, browser: Browser
) -> None:
    application = RelyingParty(server, grant_types=["device-code"])
    assert query_of(browser.get(application.url()))["error"] == "unauthorized_client"


def test_other_methods_are_refused(browser: Browser, application: RelyingParty) -> None:
    for method in ("HEAD", "PUT", "DELETE", "PATCH"):
        assert browser.request(method, application.url()).status_code == 405


def test_no_code_is_made_by_a_frame(browser: Browser, application: RelyingParty) -> None:
    page = browser.get(application.url(prompt="consent"))
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
