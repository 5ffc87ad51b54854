"""With many users and tokens no request reads a table of theirs from one end to the other."""

import datetime
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from authserver import housekeeping
from authserver.accounts import login, throttle, users
from authserver.accounts.models import Session, User
from authserver.accounts.sessions import SessionStore, digest_of, open_sessions
from authserver.accounts.standing import end_everything
from authserver.oidc import tokens
from authserver.oidc.applications import create_application
from authserver.oidc.errors import OAuthError
from authserver.oidc.models import Application, Grant
from authserver.waits import Results

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]

# what grows with users, logins and tokens
BIG = (
    *("accounts_user", "accounts_session", "accounts_emailalias", "accounts_serviceuser"),
    *("accounts_refusal", "accounts_knownclient", "accounts_knowndevice", "audit_event"),
    *("oidc_grant", "oidc_token", "oidc_devicecode", "oidc_consent"),
    "registry_registryrefreshtoken",
)
WRITES = ("ModifyTable", "LockRows")
CODE = "a-code-of-this-test"


@pytest.fixture
def anna() -> User:
    return users.create_user("anna", "Anna", "tests")


@pytest.fixture
def application() -> Application:
    return create_application("wiki", "tests", redirect_uris=["https://wiki.example/cb"])[0]


@pytest.fixture(autouse=True)
def no_choice(db: None) -> None:
    """With this PostgreSQL reads a table from one end to the other only where no index helps,
    however few rows there are."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")


def read_through(run: Callable[[], object]) -> list[dict[str, Any]]:
    """The steps that read a big table through, in the plans of what `run` asks the database."""
    with CaptureQueriesContext(connection) as asked:
        run()
    statements = [query["sql"] for query in asked.captured_queries]
    planned = [sql for sql in statements if sql.startswith(("SELECT", "UPDATE", "DELETE"))]
    assert planned
    found = []
    with connection.cursor() as cursor:
        for sql in planned:
            cursor.execute("EXPLAIN (FORMAT JSON) " + sql)
            for (plans,) in cursor.fetchall():
                found += [step for plan in plans for step in steps_of(plan["Plan"]) if reads(step)]
    return found


def steps_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from steps_of(inner)


def reads(step: dict[str, Any]) -> bool:
    """Whether a step of a plan reads all of a big table: itself, or by an index without a
    condition."""
    if step.get("Relation Name") not in BIG or step["Node Type"] in ("Bitmap Heap Scan", *WRITES):
        return False
    return "Index Cond" not in step


def make_code(user: User, application: Application) -> None:
    now = timezone.now()
    Grant.objects.create(
        application=application,
        user=user,
        offline=True,
        scope="openid profile",
        authenticated_at=now,
        code_digest=digest_of(CODE),
        redirect_uri="https://wiki.example/cb",
        code_challenge=tokens.s256("v" * 43),
        expires_at=now + datetime.timedelta(seconds=60),
    )


def exchange(application: Application) -> str:
    given = tokens.Exchange(CODE, "https://wiki.example/cb", "v" * 43)
    answer = tokens.exchange_code(application, given, Results())
    return str(answer["refresh_token"])


def test_what_reads_through_is_found(anna: User) -> None:
    assert read_through(lambda: list(User.objects.filter(fullname="Anna")))


def test_a_code_is_exchanged_by_indexes(anna: User, application: Application) -> None:
    make_code(anna, application)
    assert read_through(lambda: exchange(application)) == []


def test_a_refresh_token_is_used_by_indexes(anna: User, application: Application) -> None:
    make_code(anna, application)
    token = exchange(application)
    assert read_through(lambda: tokens.refresh(application, token, "", Results())) == []


def test_a_token_is_shown_by_indexes(anna: User, application: Application) -> None:
    make_code(anna, application)
    token = exchange(application)
    assert read_through(lambda: tokens.find_live(token, Results())) == []


def test_a_family_is_ended_by_indexes(anna: User, application: Application) -> None:
    make_code(anna, application)
    exchange(application)

    def again() -> None:
        with pytest.raises(OAuthError):
            exchange(application)

    assert read_through(again) == []


def test_a_session_is_found_and_ended_by_indexes(anna: User) -> None:
    life = timezone.now() + datetime.timedelta(days=1)
    Session.objects.create(digest=digest_of("a-key"), user=anna, expires_at=life)
    assert read_through(lambda: SessionStore("a-key").load()) == []
    assert read_through(lambda: list(open_sessions(anna))) == []
    assert read_through(lambda: tokens.open_grants(anna)) == []
    assert read_through(lambda: end_everything(anna, "a test")) == []


@pytest.mark.parametrize("name", ["anna", "nobody", "anna@example.org"])
def test_a_login_is_judged_by_indexes(anna: User, name: str) -> None:
    assert read_through(lambda: login.find_account(name)) == []
    assert read_through(lambda: throttle.is_known(anna, "192.0.2.1")) == []
    digest = throttle.name_digest(name)
    assert read_through(lambda: throttle.check(digest, "192.0.2.1", known=False)) == []


def test_what_is_past_its_time_is_found_by_indexes(anna: User, application: Application) -> None:
    old = timezone.now() - datetime.timedelta(days=400)
    make_code(anna, application)
    exchange(application)
    Grant.objects.update(expires_at=old)
    Session.objects.create(digest="old", user=anna, expires_at=old)
    for clear in housekeeping.CLEARING:
        assert read_through(partial(clear, 1000)) == []
