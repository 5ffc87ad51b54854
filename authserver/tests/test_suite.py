"""The suite's own ground: a real server, a browser, the NAS and the database are what they say."""

from pathlib import Path

import pytest

from authserver.accounts.models import User
from tests import databases
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.nas import TOKEN, Nas
from tests.processes import LOGGED, leaks
from tests.server import PASSWORD, Serve, Server


def test_a_user_of_the_rules_signs_in_at_the_server(server: Server) -> None:
    server.make_user("jane")
    browser = server.browser()
    assert browser.sign_in("jane", "wrong password").status_code == 200
    assert browser.sign_in("jane", PASSWORD).status_code == 302


def test_a_browser_has_an_address_of_its_own(server: Server) -> None:
    server.make_user("afar")
    server.browser("127.0.0.9").signed_in("afar", PASSWORD)
    with server.database():
        assert User.objects.get(identifier="afar").sessions.get().client == "127.0.0.9"


def test_the_database_is_the_one_that_was_asked_for(
    server: Server, pytestconfig: pytest.Config
) -> None:
    scheme = server.environment["DATABASE_URL"].partition(":")[0]
    assert scheme == pytestconfig.getoption("database")


@pytest.mark.django_db
def test_rules_work_in_the_tests_own_process_too() -> None:
    from authserver.accounts.users import create_user

    assert create_user("here", "Here", "tests").pk in User.objects.values_list("pk", flat=True)


def test_two_servers_share_a_database(serve: Serve) -> None:
    one = serve()
    two = serve(DATABASE_URL=one.environment["DATABASE_URL"])
    one.make_user("both")
    two.browser().signed_in("both", PASSWORD)


def test_a_command_runs_on_the_servers_database(server: Server) -> None:
    assert server.run("--version").stdout.startswith("authserver ")
    assert server.run("migrate", "--check").returncode == 0


def test_the_nas_answers_with_real_pam(nas: Nas) -> None:
    import httpx

    nas.add_user("bob")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for password, valid in ((NAS_PASSWORD, True), ("wrong guess", False)):
        answer = httpx.post(
            nas.url + "/validate", json={"username": "bob", "password": password}, headers=headers
        )
        assert answer.json()["valid"] is valid
    assert len(nas.asked("/validate")) == 2


def test_a_secret_in_a_log_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    line = f'{{"event": "oops", "given": "{PASSWORD}"}}'
    LOGGED.append(line)
    try:
        assert line in leaks()
    finally:
        LOGGED.remove(line)


def test_a_new_database_may_lack_its_migrations(tmp_path: Path) -> None:
    url = databases.new_database(tmp_path, empty=True)
    databases.migrate({"DATABASE_URL": url, "DATA_DIR": str(tmp_path)})
    databases.drop_database(url)
