"""The first start: one link, in the log, makes the first administrator, and no other."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from authserver.accounts import setup, users
from authserver.accounts.models import User
from tests.server import PASSWORD, Serve, Server

pytestmark = pytest.mark.django_db
FIELDS: dict[str, Any] = {
    "identifier": "boss",
    "fullname": "The Boss",
    "password": PASSWORD,
    "again": PASSWORD,
}


def link_of(server: Server) -> str:
    """The path and query of the link that it has logged."""
    line = server.wait_for_line('"setup"')
    found = re.search(r'"(http[^"]*/setup/\?token=[^"]+)"', line)
    assert found
    assert found[1].startswith(server.base + "/setup/?token=")
    url = urlsplit(found[1])
    return f"{url.path}?{url.query}"


def test_the_link_makes_the_first_administrator_and_is_void_then(serve: Serve) -> None:
    server = serve()
    link, browser = link_of(server), server.browser()
    assert browser.get(link).status_code == 200
    answer = browser.submit(link, **FIELDS)
    assert answer.status_code == 302
    browser.submit(answer.headers["location"], password=PASSWORD)
    assert browser.get("/admin/").status_code == 200
    assert browser.get(link).status_code == 404
    with server.database():
        user = User.objects.get()
        assert (user.identifier, user.fullname, user.is_staff) == ("boss", "The Boss", True)


def test_without_the_token_there_is_no_page(serve: Serve) -> None:
    server = serve()
    link_of(server)
    browser = server.browser()
    for path in ("/setup/", "/setup/?token=", "/setup/?token=wrong", "/setup/?token=%ff%00"):
        assert browser.get(path).status_code == 404
        page = browser.get("/account/login/").text
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)
        assert token
        data = {**FIELDS, "csrfmiddlewaretoken": token[1]}
        assert browser.post(path, data=data).status_code == 404
    with server.database():
        assert not User.objects.exists()


def test_an_administrator_made_elsewhere_voids_it(serve: Serve) -> None:
    server = serve()
    link = link_of(server)
    server.make_user("nobody-special")
    assert server.browser().get(link).status_code == 200
    server.make_user("boss", staff=True)
    assert server.browser().get(link).status_code == 404


def test_it_is_the_same_over_processes_and_logged_at_every_level(serve: Serve) -> None:
    one = serve()
    two = serve(DATABASE_URL=one.environment["DATABASE_URL"], LOG_LEVEL="ERROR")
    assert link_of(one) == link_of(two)


def test_with_an_administrator_there_is_no_link(serve: Serve) -> None:
    one = serve()
    one.make_user("boss", staff=True)
    two = serve(DATABASE_URL=one.environment["DATABASE_URL"])
    assert two.find("token=") is None
    assert two.browser().get("/setup/?token=").status_code == 404


def test_of_two_at_once_one_is_the_first(serve: Serve) -> None:
    server = serve()
    link = link_of(server)

    browsers = [server.browser() for _ in range(4)]
    forms = [browser.form(link) for browser in browsers]

    def send(number: int) -> int:
        action, fields = forms[number]
        data = {**fields, **FIELDS, "identifier": f"boss{number}"}
        return browsers[number].post(action or link, data=data).status_code

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(send, range(4))) == [302, 404, 404, 404]
    with server.database():
        assert User.objects.filter(is_staff=True).count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"identifier": "a b"},
        {"identifier": ""},
        {"password": "short", "again": "short"},
        {"password": "x" * 73, "again": "x" * 73},
        {"again": "something else"},
        {"fullname": ""},
    ],
)
def test_what_cannot_be_is_said_at_the_form(server: Server, wrong: dict[str, Any]) -> None:
    link = link_of(server)
    answer = server.browser().submit(link, **{**FIELDS, **wrong})
    assert answer.status_code == 200
    assert "errorlist" in answer.text
    with server.database():
        assert not User.objects.exists()


def test_the_rule_itself_knows_that_it_is_over() -> None:
    token = setup.setup_token()
    assert setup.is_setup_token(token)
    users.create_user("boss", "", "tests", staff=True)
    assert not setup.is_setup_token(token)
    assert setup.setup_token() == ""
    with pytest.raises(setup.Over):
        setup.make_first(token, "another", "", PASSWORD)
