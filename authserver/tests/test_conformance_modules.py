"""The OpenID Foundation's conformance suite, module by module.

The suite itself needs Java and MongoDB. Its plans `oidcc-basic-certification-test-plan`,
`oidcc-config-certification-test-plan` and `oidcc-rp-initiated-logout-certification-test-plan` name
the modules below (openid-certification/conformance-suite, OIDCC*TestPlan.java). Each has a test
here or elsewhere, which is named, or the reason why it does not apply.
"""

import importlib
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.relying_party import RelyingParty, query_of, signed_in
from tests.server import Server

HERE = "test_conformance_modules"
NOT_OFFERED = "does not apply: "
MODULES = {
    # basic
    "oidcc-server": "test_oidc_code_flow.test_a_code_becomes_tokens_that_say_who_it_is",
    "oidcc-response-type-missing": (
        "test_authorization_requests.test_other_errors_go_back_to_the_client_with_state_and_issuer"
    ),
    "oidcc-idtoken-signature": (
        "test_discovery.test_a_key_is_rsa_with_its_thumbprint_and_without_its_private_half"
    ),
    "oidcc-idtoken-unsigned": NOT_OFFERED + "id_tokens are signed with RS256, never with none",
    "oidcc-userinfo-get": (
        "test_userinfo.test_the_token_comes_in_the_header_or_in_the_form_of_a_post"
    ),
    "oidcc-userinfo-post-header": (
        "test_userinfo.test_the_token_comes_in_the_header_or_in_the_form_of_a_post"
    ),
    "oidcc-userinfo-post-body": (
        "test_userinfo.test_the_token_comes_in_the_header_or_in_the_form_of_a_post"
    ),
    "oidcc-ensure-request-without-nonce-succeeds-for-code-flow": (
        "test_codes.test_the_nonce_comes_back_whatever_it_is"
    ),
    "oidcc-scope-profile": "test_userinfo.test_each_scope_gives_its_claims",
    "oidcc-scope-email": (
        "test_userinfo.test_email_is_the_mailbox_else_the_contact_address_else_absent"
    ),
    "oidcc-scope-address": f"{HERE}.test_scopes_that_are_not_supported_are_left_out",
    "oidcc-scope-phone": f"{HERE}.test_scopes_that_are_not_supported_are_left_out",
    "oidcc-scope-all": f"{HERE}.test_scopes_that_are_not_supported_are_left_out",
    "oidcc-ensure-other-scope-order-succeeds": f"{HERE}.test_scopes_may_come_in_any_order",
    "oidcc-display-page": f"{HERE}.test_what_is_only_a_wish_is_ignored",
    "oidcc-display-popup": f"{HERE}.test_what_is_only_a_wish_is_ignored",
    "oidcc-prompt-login": (
        "test_prompt.test_login_asks_for_the_password_again_and_auth_time_is_new"
    ),
    "oidcc-prompt-none-not-logged-in": "test_prompt.test_none_says_that_a_sign_in_is_needed",
    "oidcc-prompt-none-logged-in": "test_prompt.test_none_gives_a_code_to_who_is_signed_in",
    "oidcc-max-age-1": "test_prompt.test_a_passed_max_age_asks_for_the_password_again",
    "oidcc-max-age-10000": f"{HERE}.test_a_max_age_that_has_not_passed_asks_for_nothing",
    "oidcc-ensure-request-with-unknown-parameter-succeeds": (
        "test_authorization_requests.test_unknown_parameters_and_resource_are_ignored"
    ),
    "oidcc-id-token-hint": (
        "test_prompt.test_a_hint_about_another_user_is_not_answered_for_this_one"
    ),
    "oidcc-login-hint": "test_oidc_code_flow.test_who_is_not_signed_in_does_so_on_the_way",
    "oidcc-ui-locales": f"{HERE}.test_what_is_only_a_wish_is_ignored",
    "oidcc-claims-locales": f"{HERE}.test_what_is_only_a_wish_is_ignored",
    "oidcc-ensure-request-with-acr-values-succeeds": f"{HERE}.test_what_is_only_a_wish_is_ignored",
    "oidcc-codereuse": (
        "test_codes.test_a_second_use_is_refused_and_revokes_what_the_first_brought"
    ),
    "oidcc-codereuse-30seconds": "test_codes.test_a_second_use_is_noticed_for_30_days",
    "oidcc-ensure-registered-redirect-uri": (
        "test_authorization_requests.test_without_a_client_and_its_redirect_uri_there_is_a_page"
    ),
    "oidcc-ensure-post-request-succeeds": (
        "test_oidc_code_flow.test_an_application_may_send_the_request_as_a_form"
    ),
    "oidcc-server-client-secret-post": (
        "test_token_endpoint.test_a_confidential_client_proves_itself_by_basic_or_in_the_body"
    ),
    "oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported": (
        "test_authorization_requests.test_other_errors_go_back_to_the_client_with_state_and_issuer"
    ),
    "oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported": (
        "test_authorization_requests.test_other_errors_go_back_to_the_client_with_state_and_issuer"
    ),
    "oidcc-claims-essential": f"{HERE}.test_what_is_only_a_wish_is_ignored",
    "oidcc-ensure-request-object-with-redirect-uri": NOT_OFFERED
    + "request objects are refused, as request_not_supported",
    "oidcc-refresh-token": (
        "test_refresh_tokens.test_each_use_brings_a_new_one_and_a_new_id_token"
    ),
    "oidcc-ensure-request-with-valid-pkce-succeeds": (
        "test_pkce.test_skip_pkce_frees_one_confidential_application_that_may_still_use_it"
    ),
    # config
    "oidcc-discovery-endpoint-verification": (
        "test_discovery.test_each_endpoint_that_is_named_is_there"
    ),
    # RP-initiated logout
    "oidcc-rp-initiated-logout-discovery-endpoint-verification": (
        "test_discovery.test_each_endpoint_that_is_named_is_there"
    ),
    "oidcc-rp-initiated-logout": (
        "test_rp_initiated_logout."
        "test_the_hints_session_ends_without_a_question_and_the_browser_goes_back"
    ),
    "oidcc-rp-initiated-logout-bad-post-logout-redirect-uri": (
        "test_rp_initiated_logout.test_what_cannot_be_right_is_a_page_and_ends_nothing"
    ),
    "oidcc-rp-initiated-logout-modified-id-token-hint": (
        "test_rp_initiated_logout.test_what_cannot_be_right_is_a_page_and_ends_nothing"
    ),
    "oidcc-rp-initiated-logout-no-id-token-hint": (
        "test_rp_initiated_logout.test_what_cannot_be_right_is_a_page_and_ends_nothing"
    ),
    "oidcc-rp-initiated-logout-no-params": (
        "test_rp_initiated_logout.test_without_a_hint_the_user_is_asked"
    ),
    "oidcc-rp-initiated-logout-no-post-logout-redirect-uri": (
        "test_rp_initiated_logout.test_without_a_place_to_go_back_to_there_is_a_page"
    ),
    "oidcc-rp-initiated-logout-no-state": (
        "test_rp_initiated_logout.test_a_browser_without_a_session_goes_back_at_once"
    ),
    "oidcc-rp-initiated-logout-only-state": (
        "test_rp_initiated_logout.test_without_a_hint_the_user_is_asked"
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_a_test_or_a_reason(module: str) -> None:
    if MODULES[module].startswith(NOT_OFFERED):
        return
    file, _, name = MODULES[module].partition(".")
    assert Path(__file__).with_name(f"{file}.py").exists()
    assert callable(getattr(importlib.import_module(f"tests.{file}"), name))


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True)


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


def test_scopes_that_are_not_supported_are_left_out(
    browser: Browser, application: RelyingParty
) -> None:
    tokens = application.tokens(browser, scope="openid profile email address phone")
    assert tokens["scope"] == "openid profile email"
    assert "address" not in application.userinfo(tokens["access_token"]).json()


def test_scopes_may_come_in_any_order(browser: Browser, application: RelyingParty) -> None:
    assert "id_token" in application.tokens(browser, scope="email openid")


def test_what_is_only_a_wish_is_ignored(browser: Browser, application: RelyingParty) -> None:
    for wish in (
        {"display": "page"},
        {"display": "popup"},
        {"ui_locales": "se"},
        {"claims_locales": "se"},
        {"acr_values": "1 2"},
        {"claims": '{"userinfo": {"name": {"essential": true}}}'},
    ):
        assert "code" in query_of(browser.get(application.url(**wish)))


def test_a_max_age_that_has_not_passed_asks_for_nothing(
    browser: Browser, application: RelyingParty
) -> None:
    first = application.claims(application.tokens(browser)["id_token"])
    second = application.claims(application.tokens(browser, max_age="10000")["id_token"])
    assert second["auth_time"] == first["auth_time"]
