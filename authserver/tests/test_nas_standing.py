"""What is open follows the NAS: sessions and programs of its accounts, while they are in use.

Time is not waited for: the row with the NAS's last answer is made older instead.
"""

import datetime
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from django.utils import timezone

from authserver.accounts import standing
from authserver.accounts.models import Domain, NasStanding, User
from authserver.accounts.service_users import create_service_user
from authserver.audit.models import Event
from authserver.domains.keys import make_key
from tests.browser import Browser
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.nas import Nas
from tests.server import PASSWORD, Serve, Server

RECHECK, GRACE = 60, 900


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nas]:
    running = Nas(tmp_path_factory.mktemp("nas"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, nas: Nas) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), **nas.settings)
    with running.database():
        make_key(Domain.objects.create(name="localhost"), "jwt", "tests")
    yield running
    running.stop()


@pytest.fixture
def reachable(nas: Nas) -> Iterator[None]:
    """Whatever a test does to the NAS, the next one can reach it."""
    yield
    nas.let_go()
    if nas.program.process.poll() is not None:
        nas.start()


def signed_in(server: Server, nas: Nas, name: str) -> Browser:
    nas.add_user(name)
    return server.browser().signed_in(name, NAS_PASSWORD)


def make_older(server: Server, name: str, seconds: float) -> None:
    """Let the NAS's last answer about an account, and the last ask that failed, be older."""
    with server.database():
        at = timezone.now() - datetime.timedelta(seconds=seconds)
        rows = NasStanding.objects.filter(user__identifier=name)
        rows.update(answered_at=at, failed_at=None, asking_until=None)


def standing_of(server: Server, name: str) -> NasStanding:
    with server.database():
        return NasStanding.objects.get(user__identifier=name)


def has_session(server: Server, name: str) -> bool:
    with server.database():
        return User.objects.get(identifier=name).sessions.exists()


def asked(nas: Nas) -> int:
    return len(nas.asked("/user-info"))


def test_within_the_recheck_time_the_nas_is_not_asked(server: Server, nas: Nas) -> None:
    browser = signed_in(server, nas, "recent")
    before = asked(nas)
    make_older(server, "recent", RECHECK - 20)
    for _ in range(3):
        assert browser.is_signed_in()
    assert asked(nas) == before


def test_after_it_the_nas_is_asked_once_and_again_later(server: Server, nas: Nas) -> None:
    browser = signed_in(server, nas, "asked")
    make_older(server, "asked", RECHECK + 1)
    before = asked(nas)
    for _ in range(3):
        assert browser.is_signed_in()
    assert asked(nas) == before + 1
    assert standing.age_of(standing_of(server, "asked")) < RECHECK


@pytest.mark.parametrize("change", ["removed", "uid", "locked", "expired"])
def test_when_the_nas_says_otherwise_everything_ends(server: Server, nas: Nas, change: str) -> None:
    name = f"otherwise-{change}"
    browser = signed_in(server, nas, name)
    if change == "removed":
        nas.remove_user(name)
    elif change == "uid":
        nas.change(name, uid=44_000)
    elif change == "locked":
        nas.change(name, locked=True)
    else:
        nas.change(name, aging="19000:0:99999:7::19001:")
    make_older(server, name, RECHECK + 1)
    assert not browser.is_signed_in()
    assert not has_session(server, name)
    with server.database():
        assert Event.objects.filter(kind="sessions.ended", subject=name).exists()
    # a no is remembered like a yes
    before = asked(nas)
    assert not browser.is_signed_in()
    assert asked(nas) == before


def test_a_service_user_follows_its_owner(server: Server, nas: Nas) -> None:
    signed_in(server, nas, "mailer")
    with server.database():
        owner = User.objects.get(identifier="mailer")
        service, password = create_service_user(owner, "mailer-phone", "", "tests")

    def check() -> int:
        fields = {"username": service.username, "password": password}
        return httpx.post(
            server.base + "/checkpassword/", json=fields, timeout=60, trust_env=False
        ).status_code

    assert check() == 200
    nas.remove_user("mailer")
    make_older(server, "mailer", RECHECK + 1)
    assert check() == 401
    nas.add_user("mailer", uid=owner.nas_uid)
    make_older(server, "mailer", RECHECK + 1)
    assert check() == 200


def test_while_it_cannot_be_reached_the_last_answer_counts_for_a_while(
    server: Server, nas: Nas, reachable: None
) -> None:
    browser = signed_in(server, nas, "graced")
    nas.stop()
    make_older(server, "graced", GRACE - 60)
    assert browser.is_signed_in()
    make_older(server, "graced", GRACE + 1)
    assert not browser.is_signed_in()
    answer = browser.get("/account/")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("/account/login/")
    assert has_session(server, "graced")  # nothing is ended for that
    nas.start()
    with server.database():
        NasStanding.objects.filter(user__identifier="graced").update(failed_at=None)
    assert browser.is_signed_in()


def test_a_program_gets_503_after_that_while(server: Server, nas: Nas, reachable: None) -> None:
    signed_in(server, nas, "programmed")
    with server.database():
        owner = User.objects.get(identifier="programmed")
        service, password = create_service_user(owner, "programmed-one", "", "tests")
    nas.stop()
    make_older(server, "programmed", GRACE + 1)
    answer = httpx.post(
        server.base + "/checkpassword/",
        json={"username": service.username, "password": password},
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_after_an_ask_that_failed_there_is_none_for_ten_seconds(
    server: Server, nas: Nas, reachable: None
) -> None:
    browser = signed_in(server, nas, "failing")
    nas.stop()
    make_older(server, "failing", RECHECK + 1)
    before = len(server.events("nas.unreachable"))
    for _ in range(5):
        assert browser.is_signed_in()
    assert server.count_of("nas.unreachable", before + 1) == before + 1
    with server.database():
        at = timezone.now() - datetime.timedelta(seconds=standing.FAILURE_SECONDS + 1)
        NasStanding.objects.filter(user__identifier="failing").update(failed_at=at)
    assert browser.is_signed_in()
    assert server.count_of("nas.unreachable", before + 2) == before + 2


def test_requests_at_once_over_two_processes_ask_once(serve: Serve, nas: Nas) -> None:
    one = serve(**nas.settings)
    two = serve(**nas.settings, DATABASE_URL=one.environment["DATABASE_URL"])
    browser = signed_in(one, nas, "concurrent")
    make_older(one, "concurrent", RECHECK + 1)
    before = asked(nas)
    cookies = dict(browser.cookies)

    def see(number: int) -> int:
        base = (one, two)[number % 2].base
        return httpx.get(
            base + "/account/", cookies=cookies, timeout=60, trust_env=False
        ).status_code

    with ThreadPoolExecutor(20) as threads:
        assert set(threads.map(see, range(20))) == {200}
    assert asked(nas) == before + 1


def request(method: str, path: str, cookies: dict[str, str], body: str = "") -> bytes:
    """A request's bytes: 100 of them are sent faster than 100 clients are made."""
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return (
        f"{method} {path} HTTP/1.1\r\nHost: @\r\nCookie: {cookie}\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        f"\r\n{body}"
    ).encode()


@pytest.mark.parametrize("waiting_for", ["session", "login"])
def test_a_nas_that_hangs_holds_up_nobody_else(
    server: Server, nas: Nas, reachable: None, waiting_for: str
) -> None:
    browser = signed_in(server, nas, f"hanging-{waiting_for}")
    server.make_user(f"bystander-{waiting_for}")
    bystander = server.browser().signed_in(f"bystander-{waiting_for}", PASSWORD)
    make_older(server, f"hanging-{waiting_for}", RECHECK + 1)
    sent = request("GET", "/account/", dict(browser.cookies))
    if waiting_for == "login":
        login = server.browser()
        action, fields = login.form("/account/login/")
        body = urlencode({**fields, "login": "unknown-N0", "password": "some guess"})
        sent = request("POST", action, dict(login.cookies), body)
    sent = sent.replace(b"Host: @", f"Host: {urlsplit(server.base).netloc}".encode())
    port = int(server.environment["PORT"])
    nas.hang()
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    try:
        for number, each in enumerate(waiting):
            each.sendall(sent.replace(b"unknown-N0", b"unknown-%02d" % number))
        assert bystander.is_signed_in()
        assert not select.select(waiting, [], [], 0)[0], "somebody had his answer before"
        for each in waiting:
            status = each.makefile("rb").readline()
            assert b" 200 " in status if waiting_for == "session" else b" 503 " in status
    finally:
        for each in waiting:
            each.close()


def test_owners_of_service_users_are_confirmed_by_and_by(server: Server, nas: Nas) -> None:
    signed_in(server, nas, "mail-owner")
    signed_in(server, nas, "no-mail")
    with server.database():
        create_service_user(User.objects.get(identifier="mail-owner"), "m-o", "", "tests")
    make_older(server, "mail-owner", 7200)
    make_older(server, "no-mail", 7200)
    with server.database():
        assert "mail-owner" in [str(user) for user in standing.unconfirmed_owners(100)]
        assert "no-mail" not in [str(user) for user in standing.unconfirmed_owners(100)]


def test_serve_itself_confirms_them(serve: Serve, nas: Nas) -> None:
    first = serve(**nas.settings)
    signed_in(first, nas, "kept-fresh")
    with first.database():
        create_service_user(User.objects.get(identifier="kept-fresh"), "k-f", "", "tests")
    make_older(first, "kept-fresh", 7200)
    before = asked(nas)
    second = serve(**nas.settings, DATABASE_URL=first.environment["DATABASE_URL"])
    deadline = time.monotonic() + 60
    while asked(nas) == before and time.monotonic() < deadline:
        second.browser().get("/health/")
    assert asked(nas) == before + 1
    nas.program.wait_for_line("path=/user-info")
    while standing.age_of(standing_of(first, "kept-fresh")) > 3600:
        assert time.monotonic() < deadline


def test_a_user_without_a_known_uid_has_nothing_open(server: Server, nas: Nas) -> None:
    account = nas.add_user("uidless")
    with server.database():
        from authserver.accounts import nas as asking

        user = User(identifier="uidless", source="nas")
        good = asking.Account("uidless", account.uid, "", "", (), True)
        assert not standing.is_good(user, good)
        user.nas_uid = account.uid
        assert standing.is_good(user, good)
        assert not standing.is_good(user, asking.Account("uidless", 1, "", "", (), True))
        assert not standing.is_good(user, asking.Account("other", account.uid, "", "", (), True))
        assert not standing.is_good(user, None)
