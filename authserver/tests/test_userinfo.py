"""Userinfo: claims by scope (OpenID Connect Core, 5.3 and 5.4) and Bearer tokens (RFC 6750)."""

from typing import Any

import pytest

from tests.browser import Browser
from tests.relying_party import RelyingParty, signed_in
from tests.server import PASSWORD, Server

USERINFO = "/o2/userinfo/"


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True)


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server, "grace", fullname="Grace Hopper")


def told(application: RelyingParty, browser: Browser, scope: str) -> dict[str, Any]:
    tokens = application.tokens(browser, scope=scope)
    found: dict[str, Any] = application.userinfo(tokens["access_token"]).json()
    return found


def test_each_scope_gives_its_claims(browser: Browser, application: RelyingParty) -> None:
    assert set(told(application, browser, "openid")) == {"sub"}
    profile = told(application, browser, "openid profile")
    assert set(profile) == {"sub", "name", "preferred_username", "updated_at"}
    assert profile["name"] == "Grace Hopper"
    assert profile["preferred_username"] == "grace"
    assert isinstance(profile["updated_at"], int)
    assert set(told(application, browser, "openid groups")) == {"sub", "groups"}
    assert set(told(application, browser, "openid offline_access")) == {"sub"}


def test_updated_at_is_no_sign_in(server: Server, application: RelyingParty) -> None:
    import datetime

    from django.utils import timezone

    from authserver.accounts.models import User

    browser = signed_in(server, "steady")
    with server.database():
        User.objects.filter(identifier="steady").update(
            updated_at=timezone.now() - datetime.timedelta(days=3)
        )
    first = told(application, browser, "openid profile")["updated_at"]
    browser.signed_in("steady", PASSWORD)
    assert told(application, browser, "openid profile")["updated_at"] == first


def test_email_is_the_mailbox_else_the_contact_address_else_absent(
    server: Server, application: RelyingParty
) -> None:
    from authserver.accounts.models import Domain, EmailAlias, User

    browser = signed_in(server, "postman")
    assert set(told(application, browser, "openid email")) == {"sub"}
    with server.database():
        User.objects.filter(identifier="postman").update(contact_email="p@nas.example")
    found = told(application, browser, "openid email")
    assert (found["email"], found["email_verified"]) == ("p@nas.example", False)
    with server.database():
        user = User.objects.get(identifier="postman")
        domain = Domain.objects.create(name="post.example")
        box = EmailAlias.objects.create(mailprefix="Post.Man", domain=domain, user=user)
        EmailAlias.objects.create(mailprefix="other", domain=domain, user=user)
        User.objects.filter(pk=user.pk).update(delivery_mailbox=box)
    found = told(application, browser, "openid email")
    assert (found["email"], found["email_verified"]) == ("Post.Man@post.example", True)


def test_groups_and_held_permissions_are_told(server: Server, application: RelyingParty) -> None:
    from authserver.accounts.models import Group, Permission, User

    browser = signed_in(server, "member")
    with server.database():
        user = User.objects.get(identifier="member")
        names = ("own.one", "group.one", "not.held")
        own, by_group, _ = (
            Permission.objects.create(name=name, permission_name=name) for name in names
        )
        group = Group.objects.create(name="readers")
        group.permissions.add(by_group)
        user.permissions.add(own)
        user.groups.add(group, Group.objects.create(name="aardvarks"))
    scope = "openid groups own.one group.one not.held never.heard"
    tokens = application.tokens(browser, scope=scope)
    assert tokens["scope"] == "openid groups own.one group.one"
    found = application.userinfo(tokens["access_token"]).json()
    assert found["groups"] == ["aardvarks", "readers"]
    assert found["permissions"] == ["group.one", "own.one"]
    assert told(application, browser, "openid own.one")["permissions"] == ["own.one"]
    with server.database():
        user.groups.remove(group)
    assert application.userinfo(tokens["access_token"]).json()["permissions"] == ["own.one"]


def test_an_administrator_holds_no_permission_by_being_one(
    server: Server, application: RelyingParty
) -> None:
    from authserver.accounts.models import Permission

    with server.database():
        Permission.objects.create(name="not for staff", permission_name="staff.not")
    browser = signed_in(server, staff=True)
    assert application.tokens(browser, scope="openid staff.not")["scope"] == "openid"


def test_the_token_comes_in_the_header_or_in_the_form_of_a_post(
    browser: Browser, application: RelyingParty
) -> None:
    token = application.tokens(browser)["access_token"]
    header = {"Authorization": f"Bearer {token}"}
    http = application.http
    assert http.get(USERINFO, headers=header).status_code == 200
    assert http.post(USERINFO, headers=header).status_code == 200
    assert http.get(USERINFO, headers={"Authorization": f"bearer {token}"}).status_code == 200
    assert http.post(USERINFO, data={"access_token": token}).status_code == 200


def test_the_token_never_comes_in_the_query(browser: Browser, application: RelyingParty) -> None:
    token = application.tokens(browser)["access_token"]
    query = {"access_token": token}
    assert application.http.get(USERINFO, params=query).status_code == 401
    assert application.http.post(USERINFO, params=query).status_code == 401


def test_a_form_in_parts_brings_no_token(browser: Browser, application: RelyingParty) -> None:
    """RFC 6750, 2.2: application/x-www-form-urlencoded only."""
    token = application.tokens(browser)["access_token"]
    answer = application.http.post(USERINFO, files={"access_token": (None, token)})
    assert answer.status_code == 401


def test_two_tokens_are_malformed(browser: Browser, application: RelyingParty) -> None:
    token = application.tokens(browser)["access_token"]
    header = {"Authorization": f"Bearer {token}"}
    answer = application.http.post(USERINFO, data={"access_token": token}, headers=header)
    assert answer.status_code == 400
    assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]


def test_without_a_token_there_is_a_challenge_without_an_error(application: RelyingParty) -> None:
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
        answer = application.http.get(USERINFO, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert "error" not in answer.headers["WWW-Authenticate"]


def test_a_wrong_or_expired_token_is_invalid(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    from django.utils import timezone

    from authserver.accounts.sessions import digest_of
    from authserver.oidc.models import Token

    token = application.tokens(browser)["access_token"]
    with server.database():
        row = Token.objects.get(digest=digest_of(token))
        assert (row.expires_at - row.created_at).total_seconds() == 3600
        Token.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    for wrong in (token, "x", "a.b.c", "x" * 5000):
        answer = application.userinfo(wrong)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_without_openid_the_scope_is_insufficient(
    browser: Browser, application: RelyingParty
) -> None:
    answer = application.userinfo(application.tokens(browser, scope="profile")["access_token"])
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
