"""The logs: JSON lines that say what happened, and no secret in any of them, at any level."""

import datetime
import json
import re

import pytest
from django.db import connection
from django.utils import timezone

from authserver.accounts import invitations
from authserver.accounts.models import Session, SetupToken, User
from authserver.accounts.service_users import create_service_user
from authserver.audit import record as audit
from authserver.audit.models import Event
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.nas import TOKEN, Nas
from tests.server import PASSWORD, SECRET_KEY, Serve, Server


@pytest.fixture
def used(serve: Serve, nas: Nas) -> tuple[Server, set[str]]:
    """A server at DEBUG that everything has been typed into, and what must not be in its log."""
    server = serve(LOG_LEVEL="DEBUG", **nas.settings)
    nas.add_user("of-the-nas")
    user = server.make_user("jane")
    secrets = {PASSWORD, SECRET_KEY, TOKEN, NAS_PASSWORD, "typed into the name", "wrong guess"}
    with server.database():
        _, service_password = create_service_user(user, "jane-mail", "", "tests")
        link = invitations.link_for(user).removeprefix(server.base)
        secrets |= {service_password, link.rstrip("/").rpartition("/")[2]}
    browser = server.browser().signed_in("jane", PASSWORD)
    other = server.browser().signed_in("of-the-nas", NAS_PASSWORD)
    for name, password in (
        ("jane", "wrong guess"),
        ("typed into the name", "wrong guess"),
        ("of-the-nas", "wrong guess"),
        ("jane-mail", service_password),
    ):
        server.browser().sign_in(name, password)
    browser.get(link)
    browser.get(f"/nowhere/{PASSWORD}/?password={PASSWORD}")
    browser.post("/account/login/", data={"login": "jane", "password": PASSWORD})  # no CSRF token
    browser.post(link, data={"password": "wrong guess", "again": "wrong guess"})  # nor here
    browser.post("/checkpassword/", json={"username": "jane-mail", "password": service_password})
    browser.post("/checkpassword/", content=b'{"password": "wrong guess"', headers={"X": PASSWORD})
    for each in (browser, other):
        secrets |= {value for _, value in each.cookies.items()}
    return server, secrets


def test_no_secret_is_in_any_line_at_debug(used: tuple[Server, set[str]]) -> None:
    server, secrets = used
    break_database(server, next(secret for secret in secrets if len(secret) == 39))  # a link's
    server.stop()
    text = "\n".join(server.lines)
    for secret in secrets:
        forms = (secret, json.dumps(secret)[1:-1], secret.replace(" ", "+"), secret.encode().hex())
        assert not any(form in text for form in forms), secret[:4]
    assert "Traceback" not in text
    assert "OperationalError" in text or "DatabaseError" in text
    assert '"event": "django.request: 503"' in text


def break_database(server: Server, token: str) -> None:
    """A request with a token in its path fails, and is logged as an error."""
    url = server.environment["DATABASE_URL"]
    with server.database():
        user = User.objects.get(identifier="jane")
    path = f"/account/password/set/{user.pk}/{token}/"
    if url.startswith("sqlite"):
        with server.database(), connection.cursor() as cursor:
            cursor.execute("ALTER TABLE accounts_user RENAME TO gone")
    else:
        from tests.databases import drop_database

        drop_database(url)
    answer = server.browser().get(path + f"?password={PASSWORD}")
    assert answer.status_code == 503


def test_every_line_is_json_and_says_when_and_what(used: tuple[Server, set[str]]) -> None:
    server, _ = used
    server.stop()
    assert server.lines
    for line in server.lines:
        found = json.loads(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["time"])
        assert found["level"] in ("DEBUG", "INFO", "WARNING", "ERROR")
        assert found["event"]


def test_only_the_link_of_the_first_start_is_told(serve: Serve) -> None:
    server = serve()
    server.wait_for_line("token=")
    with server.database():
        token = SetupToken.objects.get().token
    server.browser().get(f"/setup/?token={token}")
    server.browser().get(f"/setup/?token={token[:-1]}")
    server.stop()
    assert len([line for line in server.lines if token in line]) == 1


def test_what_happens_is_in_the_audit_log(server: Server) -> None:
    user = server.make_user("watched")
    browser = server.browser("127.0.0.61")
    browser.sign_in("watched", "wrong guess")
    browser.signed_in("watched", PASSWORD)
    page = browser.get("/account/").text
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    browser.post("/account/logout/", data={"csrfmiddlewaretoken": token[1]})
    with server.database():
        rows = Event.objects.filter(subject="watched").order_by("pk")
        kinds = [(row.kind, row.actor, row.client) for row in rows]
        assert kinds == [
            ("user.created", "tests", ""),
            ("login.refused", "", "127.0.0.61"),
            ("login", "", "127.0.0.61"),
            ("logout", "", "127.0.0.61"),
        ]
        assert not Session.objects.filter(user=user).exists()
    for kind in ("login.refused", "login", "logout"):
        line = server.events(kind)[-1]
        assert (line["subject"], line["client"]) == ("watched", "127.0.0.61")


def test_a_typed_name_is_kept_only_where_such_an_account_exists(server: Server) -> None:
    server.browser().sign_in("surely nobody", "wrong guess")
    with server.database():
        row = Event.objects.filter(kind="login.refused").latest("pk")
        assert row.subject == ""
        assert "surely nobody" not in str(row.details)


@pytest.mark.django_db
def test_an_event_is_kept_for_ninety_days() -> None:
    for days in (89, 91):
        audit.record("aged", days=days)
    for row in Event.objects.all():
        age = datetime.timedelta(days=row.details["days"])
        Event.objects.filter(pk=row.pk).update(at=timezone.now() - age)
    assert audit.clear_old() == 1
    assert [row.details["days"] for row in Event.objects.all()] == [89]


@pytest.mark.django_db
def test_a_batch_is_cleared_at_a_time() -> None:
    Event.objects.bulk_create(Event(kind="old", at="2020-01-01T00:00:00Z") for _ in range(25))
    assert [audit.clear_old(10) for _ in range(4)] == [10, 10, 5, 0]
