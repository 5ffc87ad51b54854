"""What people do at the pages, from the first start on, in a real browser."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from tests.nas import PASSWORD as NAS_PASSWORD
from tests.nas import Nas
from tests.pages.chromium import PHONE, Window
from tests.processes import keep_secret
from tests.relying_party import RelyingParty
from tests.server import PASSWORD, Serve, Server

pytestmark = pytest.mark.once
Open = Callable[..., Window]
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
)


@pytest.fixture
def application() -> Iterator[str]:
    """A program that codes are sent to: its address. It answers each request with a word.

    Name it before `window`: it has to be there for as long as a browser may ask it for an icon.
    """

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Photos</title><h1>Photos</h1>")

        def log_message(self, *_: Any) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()


def test_the_link_of_the_log_makes_the_first_administrator(serve: Serve, window: Open) -> None:
    server = serve()
    link = re.search(r"http://localhost[^\"]*", server.wait_for_line("/setup/"))
    assert link
    keep_secret(PASSWORD)
    one = window(server, viewport=PHONE)
    page = one.open(link[0])
    page.get_by_label("Name to sign in with").fill("ada")
    page.get_by_label("Full name").fill("Ada Admin")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Password, once more").fill("short")
    page.locator("form").evaluate("form => { form.noValidate = true }")
    page.locator("main button").click()
    expect(page.get_by_text("too short")).to_be_visible()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password, once more").fill(PASSWORD)
    page.locator("main button").click()
    expect(page.get_by_label("Name or e-mail address")).to_have_value("ada")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    one.click("Sign in")
    assert one.heading() == "Administration"
    assert one.open(link[0]).title().startswith("There is no such page")


def test_a_nas_account_signs_in_agrees_and_ends_it(
    serve: Serve, nas: Nas, application: str, window: Open
) -> None:
    nas.add_user("nina")
    server = serve(**nas.settings)
    photos = RelyingParty(
        server, "Photos", client_type="public", redirect_uris=[f"{application}/callback"]
    )
    phone = window(server, viewport=PHONE, user_agent=IPHONE)
    phone.allowed.append(application)
    page = phone.open(photos.url(scope="openid profile email"))
    expect(page.get_by_text("The password is the one of your NAS.")).to_be_visible()
    page.get_by_label("Name or e-mail address").fill("nina")
    page.get_by_label("Password", exact=True).fill("wrong guess")
    phone.click("Sign in")
    expect(page.get_by_role("alert")).to_have_text("Wrong name or password.")
    page.get_by_label("Password", exact=True).fill(NAS_PASSWORD)
    phone.click("Sign in")
    assert phone.heading() == "Photos wants to know who you are"
    expect(page.get_by_role("listitem")).to_have_text(
        ["who you are", "your name", "your e-mail address"]
    )
    phone.click("Allow")
    page.wait_for_url(f"{application}/callback?**")
    code = keep_secret(parse_qs(urlsplit(page.url).query)["code"][0])
    tokens = photos.exchange(code).json()
    assert photos.userinfo(tokens["access_token"]).status_code == 200

    phone.open("/account/sessions/")
    expect(page.get_by_text("Safari on iPhone")).to_be_visible()
    page.get_by_role("button", name="End the access of Photos").click()
    expect(page.get_by_role("status")).to_have_text("Photos has no access any more.")
    assert photos.userinfo(tokens["access_token"]).status_code == 401
    page = phone.open("/account/password/")
    expect(page.get_by_text("Your password is the one of the NAS")).to_be_visible()
    assert page.locator("input[type=password]").count() == 0


def test_who_does_not_agree_goes_back_with_that(
    server: Server, application: str, window: Open
) -> None:
    server.make_user("nora")
    photos = RelyingParty(
        server, "Pictures", client_type="public", redirect_uris=[f"{application}/callback"]
    )
    one = window(server)
    one.allowed.append(application)
    one.sign_in("nora", path=photos.url())
    one.click("Do not allow")
    one.page.wait_for_url(f"{application}/callback?error=access_denied&**")


def test_a_session_is_ended_from_another_browser(server: Server, window: Open) -> None:
    server.make_user("sue")
    phone, laptop = window(server, user_agent=IPHONE), window(server)
    phone.sign_in("sue")
    laptop.sign_in("sue")
    page = laptop.open("/account/sessions/")
    page.get_by_role("button", name=re.compile("End Safari on iPhone")).click()
    expect(page.get_by_role("status")).to_have_text("Safari on iPhone is signed out.")
    phone.open("/account/")
    assert phone.heading() == "Sign in"
    laptop.open("/account/")
    assert laptop.heading() == "My data"
    laptop.click("Sign out")
    assert laptop.heading() == "Sign in"


def test_a_device_password_is_shown_once_and_ends(server: Server, window: Open) -> None:
    server.make_user("dora")
    one = window(server)
    one.sign_in("dora")
    page = one.open("/account/service-users/")
    page.get_by_label("For which device or program?").fill("Thunderbird on the laptop")
    expect(page.get_by_label("Name to sign in with")).to_have_value("dora-1")
    one.click("Make a password")
    password = keep_secret(page.get_by_role("group", name="Password").inner_text())
    assert len(password.replace("-", "")) == 32
    asked = {"username": "dora-1", "password": password, "domain": "localhost"}
    with server.database():
        from authserver.accounts.addresses import create_domain
        from authserver.domains.keys import make_key

        make_key(create_domain("localhost", "tests"), "jwt", "tests")
    browser = server.browser()
    assert browser.post("/checkpassword/", json=asked).status_code == 200
    one.click("I have it", role="link")
    assert password not in page.content()
    expect(page.get_by_role("listitem").filter(has_text="dora-1")).to_contain_text("Thunderbird")
    one.click("End dora-1")
    expect(page.get_by_role("status")).to_contain_text("dora-1 has ended")
    assert browser.post("/checkpassword/", json=asked).status_code == 401


def test_docker_logs_in_by_the_line_that_is_shown_and_is_ended(
    server: Server, window: Open
) -> None:
    server.make_user("dan")
    with server.database():
        from authserver.accounts.addresses import create_domain
        from authserver.registry.registries import create_registry

        domain = create_domain("registry.example", "tests")
        create_registry(
            "tests", name="Family", client_id="r.example", domain=domain, user_namespaces=True
        )
    one = window(server, viewport=PHONE)
    page = one.sign_in("dan")
    page.get_by_role("link", name=re.compile("Family")).click()
    assert one.heading() == "Docker images"
    line = page.get_by_role("group", name="Log in").inner_text()
    assert line == "docker login --username dan r.example"
    assert page.get_by_text("r.example/dan/*").is_visible()
    asked = {"service": line.split()[-1], "offline_token": "true", "client_id": "docker"}
    url = f"{server.base}/docker/token/"
    answer = httpx.get(url, params=asked, auth=("dan", PASSWORD), trust_env=False)
    form = {
        "service": "r.example",
        "grant_type": "refresh_token",
        "refresh_token": keep_secret(answer.json()["refresh_token"]),
    }
    assert httpx.post(url, data=form, trust_env=False).status_code == 200
    one.open("/account/sessions/")
    one.click("End the login at Family")
    expect(page.get_by_role("status")).to_have_text("The login at Family has ended.")
    assert httpx.post(url, data=form, trust_env=False).status_code == 401


def test_a_password_is_changed_by_who_knows_it(server: Server, window: Open) -> None:
    server.make_user("pia")
    new = keep_secret("quite another password")
    phone, laptop = window(server), window(server)
    phone.sign_in("pia")
    laptop.sign_in("pia")
    page = laptop.open("/account/password/")
    for current, said in (("not my password", "This is not your password."), (PASSWORD, "")):
        page.get_by_label("Current password").fill(keep_secret(current))
        page.get_by_label("New password", exact=True).fill(new)
        page.get_by_label("New password, once more").fill(new)
        laptop.click("Change password")
        if said:
            expect(page.get_by_text(said)).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("Your password is changed.")
    phone.open("/account/")
    assert phone.heading() == "Sign in"
    phone.sign_in("pia", new)
    assert phone.heading() == "Hello, Pia"


def test_a_device_is_let_in_by_its_code(server: Server, window: Open) -> None:
    server.make_user("tom")
    television = RelyingParty(
        server, "Television", client_type="public", device_code=True, redirect_uris=[]
    )
    asked = {"client_id": television.client_id, "scope": "openid"}
    answer = television.http.post("/o2/device_authorization/", data=asked).json()
    keep_secret(answer["device_code"])
    phone = window(server, viewport=PHONE)
    page = phone.sign_in("tom", path="/device/")
    page.get_by_label("Code").fill(answer["user_code"].lower())
    phone.click("Go on")
    assert phone.heading() == "Let Television in on a device?"
    phone.click("Allow")
    assert phone.heading() == "Television is connected"
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": answer["device_code"],
    }
    assert television.kept(television.post("/o2/token/", **form)).status_code == 200


def test_all_of_it_works_by_the_keyboard(server: Server, window: Open) -> None:
    server.make_user("kay")
    one = window(server)
    page = one.open("/account/login/")
    page.keyboard.type("kay")  # the first field has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(keep_secret(PASSWORD))
    page.keyboard.press("Enter")
    assert one.heading() == "Hello, Kay"
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for name in ("Applications", "My data"):
        while page.evaluate("document.activeElement.innerText") != name:
            page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert one.heading() == "My data"
