"""Refresh tokens: a new one at each use; what an old one does that comes again (RFC 9700)."""

import datetime
from typing import Any

import jwt
import pytest
from django.utils import timezone

from tests.browser import Browser
from tests.relying_party import RelyingParty, sign_out, signed_in
from tests.server import PASSWORD, Server


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return RelyingParty(server, skip_authorization=True)


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


def used_earlier(server: Server, token: str, **by: int) -> None:
    from authserver.accounts.sessions import digest_of
    from authserver.oidc.models import Token

    with server.database():
        row = Token.objects.get(digest=digest_of(token))
        assert row.used_at
        row.used_at -= datetime.timedelta(**by)
        row.save()


def refused(answer: Any, error: str = "invalid_grant") -> bool:
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == error
    return True


def test_each_use_brings_a_new_one_and_a_new_id_token(
    browser: Browser, application: RelyingParty
) -> None:
    first = application.tokens(browser, nonce="n", scope="openid profile")
    answer = application.refresh(first["refresh_token"])
    second = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert second["scope"] == "openid profile"
    assert second["expires_in"] == 3600
    before, after = (application.claims(each["id_token"]) for each in (first, second))
    for name in ("iss", "sub", "aud", "auth_time", "sid", "amr"):
        assert after[name] == before[name]
    assert "nonce" not in after
    assert after["exp"] - after["iat"] == 3600
    assert application.is_alive(first["access_token"])  # for its hour
    assert application.refresh(second["refresh_token"]).status_code == 200


def test_auth_time_stays_the_first_ones_after_another_sign_in(
    server: Server, application: RelyingParty
) -> None:
    from authserver.accounts.models import Session

    browser = signed_in(server, "first-time")
    first = application.tokens(browser)
    with server.database():
        Session.objects.filter(user__identifier="first-time").update(
            authenticated_at=timezone.now() + datetime.timedelta(minutes=1), amr="pwd otp"
        )
    second = application.refresh(first["refresh_token"]).json()
    before, after = (application.claims(each["id_token"]) for each in (first, second))
    assert (after["auth_time"], after["amr"]) == (before["auth_time"], before["amr"])


def test_the_old_one_within_ten_seconds_is_only_refused(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    first = application.tokens(browser)
    second = application.refresh(first["refresh_token"]).json()
    assert refused(application.refresh(first["refresh_token"]))
    used_earlier(server, first["refresh_token"], seconds=5)
    assert refused(application.refresh(first["refresh_token"]))
    assert application.is_alive(second["access_token"])
    assert application.refresh(second["refresh_token"]).status_code == 200


def test_the_old_one_later_revokes_the_family(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    first = application.tokens(browser, scope="openid offline_access")
    second = application.refresh(first["refresh_token"]).json()
    third = application.refresh(second["refresh_token"]).json()
    other = application.tokens(browser)
    used_earlier(server, first["refresh_token"], seconds=11)  # the second was used just now
    assert refused(application.refresh(first["refresh_token"]))
    for token in (first, second, third):
        assert not application.is_alive(token["access_token"])
        assert application.userinfo(token["access_token"]).status_code == 401
    assert refused(application.refresh(third["refresh_token"]))
    assert application.is_alive(other["access_token"])  # another family


def test_another_clients_is_refused_and_harms_nothing(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    tokens = application.tokens(browser)
    assert refused(RelyingParty(server).refresh(tokens["refresh_token"]))
    second = application.refresh(tokens["refresh_token"]).json()
    used_earlier(server, tokens["refresh_token"], minutes=5)
    assert refused(RelyingParty(server).refresh(tokens["refresh_token"]))
    assert application.is_alive(second["access_token"])


def test_it_lives_for_30_days_since_the_last_use(
    server: Server, browser: Browser, application: RelyingParty
) -> None:
    from authserver.accounts.sessions import digest_of
    from authserver.oidc.models import Token

    tokens = application.tokens(browser, scope="openid offline_access")
    for _ in range(2):
        with server.database():
            row = Token.objects.get(digest=digest_of(tokens["refresh_token"]))
            assert row.expires_at - row.created_at == datetime.timedelta(days=30)
        tokens = application.refresh(tokens["refresh_token"]).json()
    with server.database():
        Token.objects.filter(digest=digest_of(tokens["refresh_token"])).update(
            expires_at=timezone.now()
        )
    assert refused(application.refresh(tokens["refresh_token"]))


def test_a_scope_may_be_narrower_and_not_wider(browser: Browser, application: RelyingParty) -> None:
    tokens = application.tokens(browser, scope="openid profile email")
    answer = application.refresh(tokens["refresh_token"], scope="openid groups")
    assert refused(answer, "invalid_scope")
    narrow = application.refresh(tokens["refresh_token"], scope="profile").json()
    assert narrow["scope"] == "profile"
    assert "id_token" not in narrow
    again = application.refresh(narrow["refresh_token"]).json()
    assert again["scope"] == "openid profile email"  # RFC 6749, 6: the refresh token keeps it


def test_an_access_token_is_no_refresh_token_nor_the_reverse(
    browser: Browser, application: RelyingParty
) -> None:
    tokens = application.tokens(browser)
    assert refused(application.refresh(tokens["access_token"]))
    assert application.userinfo(tokens["refresh_token"]).status_code == 401
    assert refused(application.refresh("x" * 43))
    assert refused(application.refresh(""), "invalid_request")


def test_without_offline_access_it_ends_with_the_browsers_session(
    server: Server, application: RelyingParty
) -> None:
    browser = signed_in(server, "leaver")
    mortal = application.tokens(browser)
    lasting = application.tokens(browser, scope="openid offline_access")
    sign_out(browser)
    assert refused(application.refresh(mortal["refresh_token"]))
    assert not application.is_alive(mortal["access_token"])
    assert application.userinfo(mortal["access_token"]).status_code == 401
    assert application.is_alive(lasting["access_token"])
    assert application.refresh(lasting["refresh_token"]).status_code == 200


def test_without_offline_access_it_ends_where_the_session_runs_out(
    server: Server, application: RelyingParty
) -> None:
    from authserver.accounts.models import Session

    browser = signed_in(server, "idler")
    tokens = application.tokens(browser)
    code = application.code(browser)
    with server.database():
        Session.objects.filter(user__identifier="idler").update(expires_at=timezone.now())
    assert refused(application.refresh(tokens["refresh_token"]))
    assert application.userinfo(tokens["access_token"]).status_code == 401
    assert refused(application.exchange(code))


def test_who_signs_in_again_keeps_them_and_another_user_ends_them(
    server: Server, application: RelyingParty
) -> None:
    browser = signed_in(server, "returner")
    tokens = application.tokens(browser)
    browser.signed_in("returner", PASSWORD)
    tokens = application.refresh(tokens["refresh_token"]).json()
    assert tokens["access_token"]
    server.make_user("successor")
    browser.signed_in("successor", PASSWORD)
    assert refused(application.refresh(tokens["refresh_token"]))


def ended_by(server: Server, name: str, how: Any) -> None:
    from authserver.accounts.models import User

    with server.database():
        how(User.objects.get(identifier=name))


@pytest.mark.parametrize("how", ["sign-out", "deactivation", "password"])
def test_all_tokens_end_with_sign_out_everywhere_deactivation_and_a_changed_password(
    server: Server, application: RelyingParty, how: str
) -> None:
    from authserver.accounts import users

    name = f"ended-by-{how}"
    browser = signed_in(server, name)
    found = [application.tokens(browser, scope=f"openid {more}") for more in ("", "offline_access")]
    codes = [application.code(browser, scope=f"openid {more}") for more in ("", "offline_access")]
    acts = {
        "sign-out": lambda user: users.sign_out(user, "tests"),
        "deactivation": lambda user: users.set_active(user, False, "tests"),
        "password": lambda user: users.set_password(user, "another password", "tests"),
    }
    ended_by(server, name, acts[how])
    for tokens in found:
        assert not application.is_alive(tokens["access_token"])
        assert not application.is_alive(tokens["refresh_token"])
        assert application.userinfo(tokens["access_token"]).status_code == 401
        assert refused(application.refresh(tokens["refresh_token"]))
    for code in codes:
        assert refused(application.exchange(code))


def test_no_use_counts_of_an_account_that_is_not_active(
    server: Server, application: RelyingParty
) -> None:
    """Even where nothing has ended its tokens: each use asks."""
    from authserver.accounts.models import User

    browser = signed_in(server, "sleeper")
    tokens = application.tokens(browser, scope="openid offline_access")
    code = application.code(browser)
    with server.database():
        User.objects.filter(identifier="sleeper").update(is_active=False)
    assert application.userinfo(tokens["access_token"]).status_code == 401
    assert not application.is_alive(tokens["access_token"])
    assert not application.is_alive(tokens["refresh_token"])
    assert refused(application.refresh(tokens["refresh_token"]))
    assert refused(application.exchange(code))
    assert browser.get(application.url()).headers["Location"].startswith("/account/login/")


def test_a_lost_permission_is_left_out_and_a_lost_required_one_ends_refreshing(
    server: Server,
) -> None:
    from authserver.accounts.models import Permission, User

    application = RelyingParty(server, skip_authorization=True)
    browser = signed_in(server, "loser")
    with server.database():
        user = User.objects.get(identifier="loser")
        nice, needed = (
            Permission.objects.create(name=name, permission_name=name) for name in ("nice", "need")
        )
        user.permissions.add(nice, needed)
        application.row().required_permissions.add(needed)
    tokens = application.tokens(browser, scope="openid nice")
    assert tokens["scope"] == "openid nice"
    with server.database():
        user.permissions.remove(nice)
    assert application.introspect(tokens["access_token"])["scope"] == "openid"
    tokens = application.refresh(tokens["refresh_token"]).json()
    assert tokens["scope"] == "openid"
    with server.database():
        user.permissions.remove(needed)
    assert refused(application.refresh(tokens["refresh_token"]))


def test_sessions_are_named_by_sid_in_the_id_token(
    server: Server, application: RelyingParty
) -> None:
    from authserver.accounts.models import Session

    browser = signed_in(server, "named")
    token = application.tokens(browser)["id_token"]
    with server.database():
        session = Session.objects.get(user__identifier="named")
    assert jwt.decode(token, options={"verify_signature": False})["sid"] == str(session.sid)
