"""Invitations, forgotten passwords, and the mail of a sign-in from a new device."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from authserver.accounts import invitations, users
from authserver.accounts.models import Domain, EmailAlias, User
from authserver.audit.models import Event
from tests.mailbox import Mailbox, text_of
from tests.processes import keep_secret
from tests.server import PASSWORD, Serve, Server

NEW = keep_secret("another horse battery")
RESET = "/account/password/reset/"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    running = Mailbox()
    yield running
    running.stop()


@pytest.fixture
def mailing(serve: Serve, mailbox: Mailbox) -> Server:
    return serve(EMAIL_URL=mailbox.url, EMAIL_FROM="sso@example.org")


def with_mailbox(server: Server, name: str) -> User:
    user = server.make_user(name)
    with server.database():
        domain, _ = Domain.objects.get_or_create(name="example.org")
        alias = EmailAlias.objects.create(mailprefix=name, domain=domain, user=user)
        user.delivery_mailbox = alias
        user.save()
    return user


def link_in(text: str, server: Server) -> str:
    """The path of the link in a text; it is a secret."""
    found = re.search(re.escape(server.base) + r"(/account/password/set/[^\s\"<]+)", text)
    assert found
    keep_secret(found[1])
    keep_secret(found[1].rstrip("/").rpartition("/")[2])
    return found[1]


def test_an_invitation_sets_a_password_once(server: Server) -> None:
    user = server.make_user("invited", password=None)
    assert server.browser().sign_in("invited", PASSWORD).status_code == 200
    with server.database():
        link = link_in(invitations.invite(user, "tests"), server)
    answer = server.browser().submit(link, password=NEW, again=NEW)
    assert answer.status_code == 302
    assert answer.headers["location"] == "/account/login/?login=invited&next=%2F"
    assert server.browser().get(link).status_code == 404
    server.browser().signed_in("invited", NEW)


def test_the_command_prints_the_link(server: Server) -> None:
    server.make_user("printed", password=None)
    done = server.run("user", "invite", "printed")
    assert done.returncode == 0, done.stderr
    assert server.browser().get(link_in(done.stdout, server)).status_code == 200
    assert server.run("user", "invite", "nobody").returncode == 1


def test_a_link_holds_for_one_of_two_at_once(server: Server) -> None:
    user = server.make_user("raced", password=None)
    with server.database():
        link = link_in(invitations.invite(user, "tests"), server)
    browsers = [server.browser() for _ in range(4)]
    forms = [browser.form(link)[1] for browser in browsers]
    passwords = [keep_secret(f"password number {n}") for n in range(4)]

    def send(n: int) -> int:
        data = {**forms[n], "password": passwords[n], "again": passwords[n]}
        return browsers[n].post(link, data=data).status_code

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(send, range(4)))
    assert found.count(302) == 1
    server.browser().signed_in("raced", passwords[found.index(302)])


@pytest.mark.parametrize("end", ["deactivated", "to the NAS", "signed in", "another password"])
def test_a_link_ends_with(server: Server, end: str) -> None:
    name = end.replace(" ", "-")
    user = server.make_user(name)
    with server.database():
        link = link_in(invitations.link_for(user), server)
    assert server.browser().get(link).status_code == 200
    if end == "signed in":
        server.browser().signed_in(name, PASSWORD)
    with server.database():
        if end == "deactivated":
            users.set_active(user, False, "tests")
        elif end == "to the NAS":
            users.edit_user(user, "tests", source="nas")
        elif end == "another password":
            users.set_password(user, NEW, "tests")
    assert server.browser().get(link).status_code == 404


def test_a_link_for_another_account_or_made_up_is_none(server: Server) -> None:
    one, two = server.make_user("link-one"), server.make_user("link-two")
    with server.database():
        link = link_in(invitations.link_for(one), server)
    for wrong in (
        link.replace(str(one.pk), str(two.pk)),
        link[:-3] + "x/",
        f"/account/password/set/{one.pk}/x/",
        f"/account/password/set/{one.pk}/set-password/",
    ):
        assert server.browser().get(wrong).status_code == 404


def test_by_a_link_everything_that_is_open_ends(server: Server) -> None:
    server.make_user("stolen")
    thief = server.browser().signed_in("stolen", PASSWORD)
    with server.database():
        link = link_in(invitations.link_for(User.objects.get(identifier="stolen")), server)
    server.browser().submit(link, password=NEW, again=NEW)
    assert not thief.is_signed_in()
    assert server.browser().sign_in("stolen", PASSWORD).status_code == 200


def test_a_reset_comes_by_mail(mailing: Server, mailbox: Mailbox) -> None:
    with_mailbox(mailing, "forgetful")
    answer = mailing.browser().submit(RESET, login="Forgetful@example.org")
    assert answer.status_code == 200
    message = mailbox.wait_for(1)
    assert message["To"] == "forgetful@example.org"
    assert message["From"] == "sso@example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    link = link_in(text_of(message), mailing)
    mailing.browser().submit(link, password=NEW, again=NEW)
    mailing.browser().signed_in("forgetful", NEW)


@pytest.mark.parametrize("with_mail", [True, False])
def test_the_answer_is_the_same_for_every_name(
    serve: Serve, mailbox: Mailbox, with_mail: bool
) -> None:
    mail = {"EMAIL_URL": mailbox.url, "EMAIL_FROM": "sso@example.org"} if with_mail else {}
    server = serve(**mail, REFUSAL_SECONDS=0.8)
    with_mailbox(server, "with-mailbox")
    server.make_user("without")
    off = server.make_user("off")
    with server.database():
        users.set_active(off, False, "tests")
        users.edit_user(server.make_user("of-the-nas", password=None), "tests", source="nas")
    pages = set()
    for name in ("with-mailbox", "without", "off", "of-the-nas", "nobody", "no@where.example"):
        browser = server.browser()
        action, fields = browser.form(RESET)
        began = time.monotonic()
        answer = browser.post(action, data={**fields, "login": name})
        assert time.monotonic() - began >= 0.8
        pages.add((answer.status_code, answer.text, tuple(sorted(answer.headers))))
    assert len(pages) == 1
    if with_mail:
        assert mailbox.wait_for(1)["To"] == "with-mailbox@example.org"
    with server.database():  # who administers sees that they have asked
        asked = Event.objects.filter(kind="password.reset_asked").values_list("subject", flat=True)
        assert sorted(asked) == ["with-mailbox", "without"]


def test_nobody_is_flooded_with_mail(mailing: Server, mailbox: Mailbox) -> None:
    with_mailbox(mailing, "flooded")
    for _ in range(6):
        mailing.browser().submit(RESET, login="flooded")
    mailing.make_user("after")
    with_mailbox(mailing, "last")
    mailing.browser().submit(RESET, login="last")
    assert mailbox.wait_for(4)["To"] == "last@example.org"


def test_an_invitation_is_mailed_too(mailing: Server, mailbox: Mailbox) -> None:
    with_mailbox(mailing, "welcome")
    done = mailing.run("user", "invite", "welcome")
    link = link_in(done.stdout, mailing)
    assert link in text_of(mailbox.wait_for(1))


def test_a_mail_server_that_is_down_delays_nothing(serve: Serve) -> None:
    server = serve(EMAIL_URL="smtp://127.0.0.1:9", EMAIL_FROM="sso@example.org")
    with_mailbox(server, "unmailed")
    assert server.browser().submit(RESET, login="unmailed").status_code == 200
    line = server.wait_for_line("mail.failed")
    assert "ConnectionRefusedError" in line


def test_a_new_device_is_told_by_mail_once(mailing: Server, mailbox: Mailbox) -> None:
    with_mailbox(mailing, "mobile")
    phone = {"User-Agent": "Phone <1>"}
    first = mailing.browser("127.0.0.31", **phone).signed_in("mobile", PASSWORD)
    message = mailbox.wait_for(1)
    assert message["To"] == "mobile@example.org"
    text = text_of(message)
    assert "127.0.0.31" in text
    assert "Phone <1>" in text
    assert mailing.base in text
    # the same browser from elsewhere, by its cookie; the same kind from the same place
    elsewhere = mailing.browser("127.0.0.32", **phone)
    elsewhere.cookies.set("authserver_device", first.cookies["authserver_device"])
    elsewhere.signed_in("mobile", PASSWORD)
    mailing.browser("127.0.0.31", **phone).signed_in("mobile", PASSWORD)
    # a wrong password is no sign-in
    mailing.browser("127.0.0.33").sign_in("mobile", "wrong guess")
    mailing.browser("127.0.0.34").signed_in("mobile", PASSWORD)
    assert "127.0.0.34" in text_of(mailbox.wait_for(2))


def test_who_has_no_mailbox_is_not_told(mailing: Server, mailbox: Mailbox) -> None:
    mailing.make_user("unreachable")
    mailing.browser().signed_in("unreachable", PASSWORD)
    with_mailbox(mailing, "reachable")
    mailing.browser().signed_in("reachable", PASSWORD)
    assert mailbox.wait_for(1)["To"] == "reachable@example.org"
