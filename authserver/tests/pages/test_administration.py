"""The administrator's daily work takes at most three clicks from the first page of the admin."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from authserver.accounts.models import Refusal, Session, User
from authserver.accounts.throttle import name_digest
from tests.pages.chromium import PHONE, Window
from tests.processes import keep_secret
from tests.server import PASSWORD, Server

pytestmark = pytest.mark.once
Open = Callable[..., Window]


class Clicks:
    """A window at `/admin/`, in which no more than three clicks are made."""

    def __init__(self, window: Window) -> None:
        self.window, self.made = window, 0
        self.page: Page = window.open("/admin/")

    def click(self, role: str, name: str | re.Pattern[str]) -> None:
        self.made += 1
        assert self.made <= 3
        found = self.page.get_by_role(role, name=name)  # type: ignore[arg-type]
        found.first.click()
        self.page.wait_for_load_state()


@pytest.fixture
def ada(server: Server, window: Open) -> Window:
    with server.database():
        known = User.objects.filter(identifier="ada").exists()
    if not known:
        server.make_user("ada", fullname="Ada Admin", staff=True)
    found = window(server)
    found.sign_in("ada")
    return found


def shown(page: Page) -> list[str]:
    return [keep_secret(each.inner_text()) for each in page.locator(".secret").all()]


def test_a_person_comes_in(server: Server, ada: Window, window: Open) -> None:
    clicks = Clicks(ada)
    clicks.click("link", re.compile("Add a person"))
    clicks.page.get_by_label("Identifier").fill("per")
    clicks.page.get_by_label("Full name").fill("Per Son")
    clicks.click("button", re.compile("^Save$"))
    (link,) = shown(clicks.page)
    phone = window(server, viewport=PHONE)
    page = phone.open(link)
    for label in ("Password", "Password, once more"):
        page.get_by_label(label, exact=True).fill(PASSWORD)
    page.locator("main button").click()
    phone.sign_in("per")
    assert phone.heading() == "Hello, Per"


def test_an_application_comes_in_and_its_secret_is_shown_once(ada: Window) -> None:
    clicks = Clicks(ada)
    clicks.click("link", re.compile("Add an application"))
    clicks.page.get_by_label("Name").fill("Calendar")
    clicks.page.get_by_label("Redirect URIs:").fill("https://calendar.example.org/callback")
    clicks.click("button", re.compile("^Save$"))
    client_id, secret = shown(clicks.page)
    assert len(client_id) == 32
    clicks.click("link", "Go on")
    assert client_id in clicks.page.content()
    assert secret not in clicks.page.content()


def test_who_signed_in_is_seen(server: Server, ada: Window) -> None:
    server.make_user("eve")
    server.browser("127.0.0.9").signed_in("eve", PASSWORD)
    clicks = Clicks(ada)
    clicks.click("link", re.compile("Who signed in"))
    row = clicks.page.get_by_role("row").filter(has_text="127.0.0.9")
    expect(row).to_contain_text("eve")


def test_a_locked_out_name_tries_again(server: Server, ada: Window) -> None:
    server.make_user("lou")
    stranger = server.browser("127.0.0.8")
    answer = stranger.sign_in("lou", "wrong guess")
    while answer.status_code != 429:
        answer = stranger.sign_in("lou", "wrong guess")
    clicks = Clicks(ada)
    clicks.click("link", re.compile("Failed logins"))
    expect(clicks.page.get_by_role("row").filter(has_text="lou")).to_contain_text("locked out")
    clicks.click("button", "Forget the failed logins of lou")
    with server.database():
        assert not Refusal.objects.filter(name=name_digest("lou")).exists()
    assert stranger.sign_in("lou", PASSWORD).status_code == 302


def test_the_sessions_of_a_person_end(server: Server, ada: Window) -> None:
    user = server.make_user("max")
    browser = server.browser().signed_in("max", PASSWORD)
    clicks = Clicks(ada)
    clicks.page.get_by_label("Find a person").fill("max")
    clicks.click("button", "Find")
    clicks.click("link", re.compile("^max$"))
    clicks.click("button", "Sign out everywhere")
    assert not browser.is_signed_in()
    with server.database():
        assert not Session.objects.filter(user=user).exists()
