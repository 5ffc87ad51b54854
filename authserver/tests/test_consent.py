"""What users agree to, and what they may not use: consent, scopes, required permissions."""

import html
import re

import pytest

from tests.browser import Browser
from tests.relying_party import CALLBACK, RelyingParty, query_of, signed_in
from tests.server import PASSWORD, Server


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


def make_permission(server: Server, name: str, label: str = "") -> None:
    from authserver.accounts.models import Permission

    with server.database():
        Permission.objects.create(name=label or name, permission_name=name)


def hold(server: Server, user: str, name: str) -> None:
    from authserver.accounts.models import Permission, User

    with server.database():
        permission = Permission.objects.get(permission_name=name)
        User.objects.get(identifier=user).permissions.add(permission)


def require(server: Server, application: RelyingParty, name: str) -> None:
    from authserver.accounts.models import Permission
    from authserver.oidc import applications

    with server.database():
        permission = Permission.objects.get(permission_name=name)
        assert applications.require(application.row(), [permission], "tests") == [name]
        assert applications.require(application.row(), [permission], "tests") == []


def test_the_user_is_asked_in_words_and_only_once_for_the_same_scopes(
    server: Server, browser: Browser
) -> None:
    application = RelyingParty(server, "Holiday Photos")
    page = browser.get(application.url(scope="openid profile email"))
    assert page.status_code == 200
    for words in ("Holiday Photos", "your name", "your e-mail address", "app.example.org"):
        assert words in page.text
    assert "your groups" not in page.text
    assert "code" in query_of(
        browser.submit(application.url(scope="openid profile email"), allow="yes")
    )
    assert "code" in query_of(browser.get(application.url(scope="openid profile email")))
    assert "code" in query_of(browser.get(application.url(scope="email openid")))
    assert browser.get(application.url(scope="openid groups")).status_code == 200  # a new one
    assert browser.get(RelyingParty(server).url()).status_code == 200  # another application
    stranger = signed_in(server)
    assert stranger.get(application.url(scope="openid profile email")).status_code == 200


def test_a_permission_is_shown_by_its_label(server: Server) -> None:
    make_permission(server, "photos.print", "Print photos at the shop")
    browser = signed_in(server, "printer")
    hold(server, "printer", "photos.print")
    page = browser.get(RelyingParty(server).url(scope="openid photos.print"))
    assert "Print photos at the shop" in page.text


def test_who_does_not_agree_goes_back_with_access_denied(server: Server, browser: Browser) -> None:
    application = RelyingParty(server)
    found = query_of(browser.submit(application.url(), allow="no"))
    assert (found["error"], found["state"], found["iss"]) == (
        "access_denied",
        "the-state",
        server.base,
    )
    assert browser.get(application.url()).status_code == 200  # nothing was remembered


def test_consent_is_skipped_where_the_application_is_trusted(
    server: Server, browser: Browser
) -> None:
    assert browser.get(RelyingParty(server, skip_authorization=True).url()).status_code == 302


def test_the_form_may_lead_to_the_client_and_nowhere_else(server: Server, browser: Browser) -> None:
    application = RelyingParty(server, redirect_uris=["https://app.example.org:8443/cb"])
    policy = browser.get(application.url()).headers["Content-Security-Policy"]
    assert "form-action 'self' https://app.example.org:8443;" in policy
    assert "unsafe-inline" not in policy


def test_the_form_needs_its_csrf_token_and_cannot_be_changed(
    server: Server, browser: Browser
) -> None:
    application = RelyingParty(server)
    action, fields = browser.form(application.url())
    sent = {**fields, "allow": "yes"}
    headers = {"Origin": browser.base}
    without = {k: v for k, v in sent.items() if k != "csrfmiddlewaretoken"}
    assert browser.post(action, data=without, headers=headers).status_code == 403
    changed = {**sent, "question": sent["question"][:-2] + "AA"}
    assert browser.post(action, data=changed, headers=headers).status_code == 403
    assert browser.get(action).status_code == 405
    evil = {"Origin": "https://evil.example"}
    assert browser.post(action, data=sent, headers=evil).status_code == 403
    assert browser.get(application.url()).status_code == 200
    assert "code" in query_of(browser.post(action, data=sent, headers=headers))


def test_one_users_form_is_not_anothers_consent(server: Server, browser: Browser) -> None:
    application = RelyingParty(server)
    action, fields = browser.form(application.url())
    victim = signed_in(server)
    token = victim.form(application.url())[1]["csrfmiddlewaretoken"]
    sent = {**fields, "csrfmiddlewaretoken": token, "allow": "yes"}
    answer = victim.post(action, data=sent, headers={"Origin": victim.base})
    assert answer.headers["Location"].startswith("/o2/authorize/?")
    assert victim.get(answer.headers["Location"]).status_code == 200  # asked for himself


def test_who_lacks_a_required_permission_sees_what_and_a_way_back(server: Server) -> None:
    application = RelyingParty(server, "The Vault", skip_authorization=True)
    make_permission(server, "vault.open", "Open the vault")
    make_permission(server, "vault.see", "See the vault")
    require(server, application, "vault.open")
    require(server, application, "vault.see")
    browser = signed_in(server, "outsider")
    hold(server, "outsider", "vault.see")
    page = browser.get(application.url())
    assert page.status_code == 403
    assert "The Vault" in page.text
    assert "Open the vault (vault.open)" in page.text
    assert "See the vault" not in page.text
    links = [html.unescape(link) for link in re.findall(r'href="([^"]+)"', page.text)]
    back = next(link for link in links if link.startswith(CALLBACK))
    for part in ("error=access_denied", "state=the-state", "iss=http"):
        assert part in back
    assert query_of(browser.get(application.url(prompt="none")))["error"] == "access_denied"
    hold(server, "outsider", "vault.open")
    assert "code" in query_of(browser.get(application.url()))


def test_a_required_permission_may_come_by_a_group_and_not_by_being_an_administrator(
    server: Server,
) -> None:
    from authserver.accounts.models import Group, Permission, User

    application = RelyingParty(server, skip_authorization=True)
    make_permission(server, "by.group")
    require(server, application, "by.group")
    admin, member = signed_in(server, "the-admin", staff=True), signed_in(server, "the-member")
    with server.database():
        group = Group.objects.create(name="by group")
        group.permissions.add(Permission.objects.get(permission_name="by.group"))
        User.objects.get(identifier="the-member").groups.add(group)
    assert admin.get(application.url()).status_code == 403
    assert member.get(application.url()).status_code == 302


def test_a_scope_that_the_user_does_not_hold_is_left_out(server: Server) -> None:
    make_permission(server, "held.not")
    application, browser = RelyingParty(server), signed_in(server)
    page = browser.get(application.url(scope="openid held.not unknown"))
    assert "held.not" not in page.text
    assert application.tokens(browser, scope="openid held.not unknown")["scope"] == "openid"
    nothing = browser.get(application.url(scope="held.not"))
    assert query_of(nothing)["error"] == "invalid_scope"


def test_no_scope_at_all_is_the_required_permissions(server: Server) -> None:
    make_permission(server, "needed.one")
    application = RelyingParty(server, skip_authorization=True)
    browser = signed_in(server, "needy")
    assert query_of(browser.get(application.url(scope=None)))["error"] == "invalid_scope"
    require(server, application, "needed.one")
    hold(server, "needy", "needed.one")
    assert application.tokens(browser, scope=None)["scope"] == "needed.one"


def test_who_takes_it_back_is_asked_again_and_the_tokens_end(server: Server) -> None:
    from authserver.accounts.models import User
    from authserver.oidc import consent

    application, browser = RelyingParty(server), signed_in(server, "taker")
    tokens = application.tokens(browser, scope="openid offline_access")
    with server.database():
        user = User.objects.get(identifier="taker")
        assert consent.take_back(user, application.row(), "tests")
        assert not consent.take_back(user, application.row(), "tests")
    assert not application.is_alive(tokens["access_token"])
    assert browser.get(application.url()).status_code == 200


def test_signing_out_meanwhile_makes_the_form_ask_who_it_is(server: Server) -> None:
    application, browser = RelyingParty(server), signed_in(server, "meanwhile")
    action, fields = browser.form(application.url())
    browser.signed_in("meanwhile", PASSWORD)  # the same session goes on
    token = browser.form("/account/login/")[1]["csrfmiddlewaretoken"]
    sent = {**fields, "csrfmiddlewaretoken": token, "allow": "yes"}
    answer = browser.post(action, data=sent, headers={"Origin": browser.base})
    assert "code" in query_of(answer)
    other = server.browser()
    token = other.form("/account/login/")[1]["csrfmiddlewaretoken"]
    sent["csrfmiddlewaretoken"] = token
    answer = other.post(action, data=sent, headers={"Origin": other.base})
    assert answer.headers["Location"].startswith("/o2/authorize/?")
    answer = other.get(answer.headers["Location"])
    assert answer.headers["Location"].startswith("/account/login/?")
