"""PKCE: S256 only, and required (RFC 7636; RFC 9700, 2.1.1)."""

import pytest

from tests.browser import Browser
from tests.relying_party import RelyingParty, query_of, s256, signed_in
from tests.server import Server


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True)


@pytest.fixture(scope="module")
def freed(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True, skip_pkce=True)


NOT_S256 = [
    {"code_challenge": "x" * 43, "code_challenge_method": "plain"},
    {"code_challenge": "x" * 43, "code_challenge_method": None},
    {"code_challenge": "x" * 43, "code_challenge_method": "s256"},
    {"code_challenge": "x" * 43, "code_challenge_method": "S512"},
    {"code_challenge": None, "code_challenge_method": "S256"},
    {"code_challenge": "x" * 42, "code_challenge_method": "S256"},
    {"code_challenge": "x" * 44, "code_challenge_method": "S256"},
    {"code_challenge": "+" * 43, "code_challenge_method": "S256"},
    {"code_challenge": None, "code_challenge_method": "plain"},
]


@pytest.mark.parametrize("changed", NOT_S256)
def test_anything_but_s256_is_refused(
    browser: Browser,
    application: RelyingParty,
    freed: RelyingParty,
    changed: dict[str, str | None],
) -> None:
    for each in (application, freed):
        assert query_of(browser.get(each.url(**changed)))["error"] == "invalid_request"


def test_it_is_required(browser: Browser, application: RelyingParty) -> None:
    answer = browser.get(application.url(code_challenge=None, code_challenge_method=None))
    assert query_of(answer)["error"] == "invalid_request"


def test_a_verifier_of_a_plain_challenge_is_not_taken(
    browser: Browser, application: RelyingParty
) -> None:
    code = application.code(browser)
    answer = application.exchange(code, code_verifier=s256(application.verifier))
    assert answer.json()["error"] == "invalid_grant"


def test_skip_pkce_frees_one_confidential_application_that_may_still_use_it(
    browser: Browser, freed: RelyingParty
) -> None:
    without = {"code_challenge": None, "code_challenge_method": None}
    answer = freed.exchange(freed.code(browser, **without), code_verifier=None)
    assert answer.status_code == 200
    code = freed.code(browser)
    assert freed.exchange(code, code_verifier=None).json()["error"] == "invalid_grant"
    assert freed.exchange(code).status_code == 200


def test_a_verifier_without_a_challenge_is_refused(browser: Browser, freed: RelyingParty) -> None:
    code = freed.code(browser, code_challenge=None, code_challenge_method=None)
    assert freed.exchange(code).json()["error"] == "invalid_grant"
    assert freed.exchange(code, code_verifier=None).status_code == 200
