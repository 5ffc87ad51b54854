"""The page that says which repositories a user may pull and push, registry by registry."""

import re
from html import unescape

from authserver.accounts import addresses, groups
from authserver.accounts.models import User
from authserver.registry import registries
from tests.server import PASSWORD, Server

PAGE = "/account/registries/"


def shown(server: Server, name: str) -> str:
    """The text of the page, in one line."""
    browser = server.browser().signed_in(name, PASSWORD)
    text = re.sub(r"<[^>]*>", " ", browser.get(PAGE).text.partition("<main")[2])
    return " ".join(unescape(text).split())


def test_it_says_what_each_user_may_do_and_how_to_log_in(server: Server) -> None:
    maria, paul = server.make_user("Maria"), server.make_user("paul")
    server.make_user("ada", staff=True)
    assert "no registry in which you may do anything" in shown(server, "paul")
    assert "Docker images" not in server.browser().signed_in("paul", PASSWORD).get("/").text
    with server.database():
        domain = addresses.create_domain("example.org", "tests")
        home = registries.create_registry(
            "tests", name="Home", client_id="home.example.org", domain=domain, user_namespaces=True
        )
        club = registries.create_registry(
            "tests", name="Club", client_id="club.example.org", domain=domain
        )
        group = groups.create_group("family", "tests")
        groups.join(User.objects.get(pk=maria.pk), [group], "tests")
        for registry, name, holder, actions in (
            (home, "family/*", group, ["pull"]),
            (home, "family/app", maria, ["push"]),
            (club, "public/*", None, ["pull"]),
            (club, "secret/*", paul, ["pull"]),
        ):
            repo = registries.create_repo(registry, name, "tests")
            registries.change_rights(repo, holder, actions, "tests", allowed=True)
    text = shown(server, "Maria")
    assert "docker login --username Maria home.example.org" in text
    assert "home.example.org/family/* pull home.example.org/family/app push" in text
    assert "home.example.org/maria/* pull, push, delete" in text
    assert "docker login --username Maria club.example.org" in text
    assert "club.example.org/public/* pull" in text
    assert "secret" not in text
    assert "In every repository" not in text
    text = shown(server, "paul")
    assert "family" not in text
    assert "club.example.org/secret/* pull" in text
    text = shown(server, "ada")
    assert text.count("In every repository you may pull, push, delete.") == 2
    assert "family" not in text
    assert "Docker images" in server.browser().signed_in("paul", PASSWORD).get("/").text


def test_nobody_sees_it_without_a_session(server: Server) -> None:
    answer = server.browser().get(PAGE)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/account/login/")


def test_a_name_that_a_shell_reads_otherwise_is_quoted(server: Server) -> None:
    server.make_user("o'neil;ls")
    with server.database():
        domain = addresses.create_domain("quoted.example", "tests")
        registries.create_registry(
            "tests", name="Q", client_id="q", domain=domain, allow_unauthenticated_pull=True
        )
    text = shown(server, "o'neil;ls")
    assert """docker login --username 'o'"'"'neil;ls' q""" in text
    assert "In every repository you may pull." in text
