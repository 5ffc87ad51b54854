"""The sign-in at /account/login/: who comes in, what a refusal says, where it goes on to."""

import re
import time

import pytest
from django.test import RequestFactory

from authserver.accounts import users
from authserver.accounts.login import LoginRefused
from authserver.accounts.models import Domain, EmailAlias, Session, User
from authserver.accounts.service_users import create_service_user
from authserver.accounts.sessions import SessionStore, digest_of, sign_in
from tests.server import PASSWORD, Serve, Server

WRONG = "Wrong name or password."
LOGIN = "/account/login/"


@pytest.fixture(scope="module")
def jane(server: Server) -> User:
    user = server.make_user("Jane", fullname="Jane Doe")
    with server.database():
        domain = Domain.objects.create(name="example.org")
        EmailAlias.objects.create(mailprefix="jane.doe", domain=domain, user=user)
    return user


WIDE = "\uff2a\uff41\uff4e\uff45"  # Jane in the wide letters of Japanese keyboards


@pytest.mark.parametrize(
    "name", ["Jane", "jane", " JANE ", WIDE, "jane.doe@example.org", "Jane.Doe@EXAMPLE.ORG"]
)
def test_name_and_address_are_compared_as_people_type_them(
    server: Server, jane: User, name: str
) -> None:
    assert server.browser().sign_in(name, PASSWORD).status_code == 302


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("Jane", "wrong guess"),
        ("Jane", PASSWORD + " "),
        ("Jane", PASSWORD.upper()),
        ("Jane", "x" * 73),
        ("Jane", "x" * 4000),
        ("Jane", ""),
        ("Jane", "nul\0in it"),
        ("nobody", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("nobody@elsewhere.example", PASSWORD),
        ("jane\0", PASSWORD),
        ("", PASSWORD),
        ("x" * 3000, PASSWORD),
        ("<script>alert(1)</script>", PASSWORD),
    ],
)
def test_every_refusal_is_the_same(server: Server, jane: User, name: str, password: str) -> None:
    answer = server.browser("127.0.0.2").sign_in(name, password)
    assert answer.status_code == 200
    assert WRONG in answer.text
    assert "<script>alert" not in answer.text
    assert "authserver=" not in answer.headers.get("set-cookie", "")


def test_an_inactive_account_is_refused_like_a_wrong_password(server: Server) -> None:
    user = server.make_user("inactive")
    with server.database():
        users.set_active(user, False, "tests")
    answer = server.browser().sign_in("inactive", PASSWORD)
    assert (answer.status_code, WRONG in answer.text) == (200, True)


def test_a_service_user_never_signs_in_to_the_pages(server: Server) -> None:
    user = server.make_user("owner")
    with server.database():
        service, password = create_service_user(user, "owner-mail", "", "tests")
    for path in (LOGIN, "/admin/login/"):
        answer = server.browser().sign_in(service.username, password, path)
        assert (answer.status_code, WRONG in answer.text) == (200, True)


def test_a_form_without_its_token_is_refused(server: Server, jane: User) -> None:
    browser = server.browser()
    browser.get(LOGIN)
    for fields in ({}, {"csrfmiddlewaretoken": "x" * 64}):
        answer = browser.post(LOGIN, data={"login": "jane", "password": PASSWORD, **fields})
        assert answer.status_code == 403
        assert not browser.is_signed_in()


def test_a_form_from_another_site_is_refused(server: Server, jane: User) -> None:
    browser = server.browser()
    _, fields = browser.form(LOGIN)
    data = {**fields, "login": "jane", "password": PASSWORD}
    answer = browser.post(LOGIN, data=data, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403


def test_signing_in_makes_a_new_session_key(server: Server, jane: User) -> None:
    browser = server.browser().signed_in("jane", PASSWORD)
    first = browser.cookies["authserver"]
    browser.signed_in("jane", PASSWORD)
    second = browser.cookies["authserver"]
    assert first != second
    stale = server.browser()
    stale.cookies.set("authserver", first)
    assert not stale.is_signed_in()
    assert browser.is_signed_in()


def test_a_planted_session_key_is_never_taken_over(server: Server, jane: User) -> None:
    browser = server.browser()
    browser.cookies.set("authserver", "planted" * 6)
    browser.sign_in("jane", PASSWORD)
    planted = server.browser()
    planted.cookies.set("authserver", "planted" * 6)
    assert not planted.is_signed_in()


def test_signing_in_again_keeps_the_session_and_renews_when(server: Server, jane: User) -> None:
    browser = server.browser().signed_in("jane", PASSWORD)
    with server.database():
        row = Session.objects.get(digest=digest_of(browser.cookies["authserver"]))
        Session.objects.filter(pk=row.pk).update(authenticated_at="2001-01-01T00:00:00Z")
    browser.signed_in("jane", PASSWORD)
    with server.database():
        again = Session.objects.get(digest=digest_of(browser.cookies["authserver"]))
    assert again.sid == row.sid
    assert again.authenticated_at
    assert again.authenticated_at.year > 2001


def test_another_user_in_the_same_browser_ends_the_session(server: Server, jane: User) -> None:
    server.make_user("other")
    browser = server.browser().signed_in("jane", PASSWORD)
    with server.database():
        sid = Session.objects.get(digest=digest_of(browser.cookies["authserver"])).sid
    browser.signed_in("other", PASSWORD)
    with server.database():
        assert not Session.objects.filter(sid=sid).exists()
        row = Session.objects.get(digest=digest_of(browser.cookies["authserver"]))
        assert row.user
        assert row.user.identifier == "other"


def test_the_name_can_be_filled_in(server: Server) -> None:
    _, fields = server.browser().form(LOGIN + "?login=jane%22%3E%3Cb%3E")
    assert fields["login"] == 'jane"><b>'


@pytest.mark.parametrize("path", ["/account/", "/account/sessions/?a=1#b", "{base}/account/"])
def test_next_is_followed_within_the_server(server: Server, jane: User, path: str) -> None:
    wanted = path.format(base=server.base)
    answer = server.browser().submit(LOGIN, login="jane", password=PASSWORD, next=wanted)
    assert answer.headers["location"] == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "http://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "http:///evil.example",
        "javascript:alert(1)",
        " //evil.example",
        "\t//evil.example",
        "http://localhost.evil.example/",
        "http://localhost:1/",
        "http://localhost@evil.example/",
        "https://localhost/",
        "ftp://localhost/",
        "//",
        " //",
        "{other_scheme}/account/",
    ],
)
def test_next_is_not_followed_elsewhere(server: Server, jane: User, wanted: str) -> None:
    wanted = wanted.format(other_scheme=server.base.replace("http:", "https:"))
    answer = server.browser().submit(LOGIN, login="jane", password=PASSWORD, next=wanted)
    assert answer.status_code == 302
    assert answer.headers["location"] == "/"


def test_the_admin_has_the_same_sign_in(server: Server) -> None:
    server.make_user("boss", staff=True)
    browser = server.browser()
    first = browser.get("/admin/")
    assert first.headers["location"].startswith("/admin/login/")
    answer = browser.submit(first.headers["location"], login="boss", password=PASSWORD)
    assert answer.headers["location"] == "/admin/"
    assert browser.get("/admin/").status_code == 200


def test_who_is_no_administrator_does_not_see_the_admin(server: Server, jane: User) -> None:
    browser = server.browser().signed_in("jane", PASSWORD)
    assert browser.get("/admin/").status_code in (302, 403)
    assert browser.get("/admin/accounts/user/").status_code in (302, 403)


def test_signing_out_is_a_post_and_ends_the_session(server: Server, jane: User) -> None:
    browser = server.browser().signed_in("jane", PASSWORD)
    key = browser.cookies["authserver"]
    assert browser.get("/account/logout/").status_code == 405
    page = browser.get("/account/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token
    answer = browser.post("/account/logout/", data={"csrfmiddlewaretoken": token[1]})
    assert answer.status_code == 302
    stale = server.browser()
    stale.cookies.set("authserver", key)
    assert not stale.is_signed_in()


def test_the_session_cookie_is_for_this_host_and_no_script(server: Server, jane: User) -> None:
    answer = server.browser().sign_in("jane", PASSWORD)
    cookie = next(
        value for value in answer.headers.get_list("set-cookie") if value.startswith("authserver=")
    )
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert "Secure" not in cookie
    assert "Max-Age=1209600" in cookie


def test_the_key_of_a_session_is_kept_as_a_digest(server: Server, jane: User) -> None:
    browser = server.browser().signed_in("jane", PASSWORD)
    key = browser.cookies["authserver"]
    with server.database():
        for row in Session.objects.all():
            assert key not in (row.digest, str(row.sid), row.data)


def test_what_is_open_ends_when_the_account_does(server: Server) -> None:
    user = server.make_user("leaver")
    browser = server.browser().signed_in("leaver", PASSWORD)
    assert browser.is_signed_in()
    with server.database():
        users.set_active(user, False, "tests")
    assert not browser.is_signed_in()


def test_an_inactive_account_s_session_does_not_count_even_where_it_is_left(
    server: Server,
) -> None:
    server.make_user("stale")
    browser = server.browser().signed_in("stale", PASSWORD)
    with server.database():
        User.objects.filter(identifier="stale").update(is_active=False)
    assert not browser.is_signed_in()


def test_a_new_password_ends_the_other_sessions(server: Server) -> None:
    server.make_user("changer")
    here = server.browser().signed_in("changer", PASSWORD)
    there = server.browser().signed_in("changer", PASSWORD)
    new = "another horse battery"
    answer = here.submit("/account/password/", current=PASSWORD, new=new, again=new)
    assert answer.status_code == 302
    assert here.is_signed_in()
    assert not there.is_signed_in()
    assert server.browser().sign_in("changer", PASSWORD).status_code == 200
    server.browser().signed_in("changer", new)


def test_a_session_past_its_time_does_not_count(server: Server) -> None:
    server.make_user("late")
    browser = server.browser().signed_in("late", PASSWORD)
    with server.database():
        Session.objects.filter(user__identifier="late").update(expires_at="2020-01-01T00:00:00Z")
    assert not browser.is_signed_in()


@pytest.mark.django_db
@pytest.mark.parametrize("change", ["password", "deactivated", "source"])
def test_what_a_change_ends_cannot_begin_after_it(change: str) -> None:
    user = users.create_user("raced", "", "tests", password=PASSWORD)
    as_it_was = User.objects.get(pk=user.pk)  # as the sign-in has loaded it
    if change == "password":
        users.set_password(user, "another horse battery", "tests")
    elif change == "deactivated":
        users.set_active(user, False, "tests")
    else:
        users.edit_user(user, "tests", source="nas")
    request = RequestFactory().post(LOGIN)
    request.META["authserver.client"] = "192.0.2.1"
    request.session = SessionStore()
    with pytest.raises(LoginRefused):
        sign_in(request, as_it_was)
    assert not Session.objects.exists()
    if change == "password":
        assert sign_in(request, User.objects.get(pk=user.pk)).user == user


def test_a_refusal_takes_its_time_whatever_its_cause(serve: Serve) -> None:
    server = serve(REFUSAL_SECONDS=1.2)
    user = server.make_user("slow")
    with server.database():
        users.set_active(server.make_user("off"), False, "tests")
        service, _ = create_service_user(user, "slow-mail", "", "tests")
    for name in ("slow", "nobody", "off", service.username, "a/b", "who@example.org", ""):
        browser = server.browser()
        action, fields = browser.form(LOGIN)
        began = time.monotonic()
        browser.post(action, data={**fields, "login": name, "password": "wrong guess"})
        assert time.monotonic() - began >= 1.2, name
    browser = server.browser()
    action, fields = browser.form(LOGIN)
    began = time.monotonic()
    browser.post(action, data={**fields, "login": "slow", "password": PASSWORD})
    assert time.monotonic() - began < 1.2
