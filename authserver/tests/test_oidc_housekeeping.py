"""What has expired is cleared in batches, and what is looked up has an index."""

import datetime
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from authserver import housekeeping
from authserver.accounts.models import User
from authserver.accounts.users import create_user
from authserver.oidc import devices, tokens
from authserver.oidc.applications import create_application
from authserver.oidc.models import Application, DeviceCode, Grant, Token

pytestmark = pytest.mark.django_db
DAY = datetime.timedelta(days=1)


@pytest.fixture
def application() -> Application:
    return create_application("Photos", "tests", grant_types=["authorization-code", "device-code"])[
        0
    ]


@pytest.fixture
def user() -> User:
    return create_user("maria", "Maria", "tests")


def make_grants(application: Application, user: User, count: int, expires_at: Any) -> list[Grant]:
    rows = [
        Grant(
            application=application,
            user=user,
            offline=True,
            scope="openid",
            code_digest=f"{expires_at.timestamp()}-{number}",
            expires_at=expires_at,
        )
        for number in range(count)
    ]
    return Grant.objects.bulk_create(rows)


def test_expired_grants_and_tokens_go_in_batches(application: Application, user: User) -> None:
    now = timezone.now()
    make_grants(application, user, 5, now - DAY)
    (living,) = make_grants(application, user, 1, now + DAY)
    rows = [
        Token(
            digest=f"{number}",
            kind=Token.ACCESS,
            grant=living,
            scope="openid",
            expires_at=now + (DAY if number == 0 else -DAY),
        )
        for number in range(6)
    ]
    Token.objects.bulk_create(rows)
    assert [tokens.clear_old_grants(3) for _ in range(3)] == [3, 2, 0]
    assert [tokens.clear_old_tokens(3) for _ in range(3)] == [3, 2, 0]
    assert Grant.objects.get() == living
    assert Token.objects.get().digest == "0"


def test_expired_device_codes_are_remembered_for_a_day(application: Application) -> None:
    devices.begin(application, "openid")
    DeviceCode.objects.update(expires_at=timezone.now() - DAY / 2)
    assert devices.clear_old() == 0
    DeviceCode.objects.update(expires_at=timezone.now() - DAY * 2)
    assert devices.clear_old() == 1


def test_the_server_does_it_by_itself() -> None:
    for what in (tokens.clear_old_grants, tokens.clear_old_tokens, devices.clear_old):
        assert what in housekeeping.CLEARING


def test_a_token_outlives_neither_its_grant_nor_is_it_found_without(
    application: Application, user: User
) -> None:
    (grant,) = make_grants(application, user, 1, timezone.now() + DAY)
    answer = tokens.issue(grant, ["openid"], timezone.now(), refresh=True)
    Grant.objects.all().delete()
    assert tokens.find(answer["access_token"]) is None
    assert Token.objects.count() == 2  # housekeeping clears them when their time has come


def test_each_lookup_of_a_token_or_a_code_is_by_an_index(
    application: Application, user: User
) -> None:
    lookups = [
        Token.objects.filter(digest="x").select_related("grant__user", "grant__session"),
        Token.objects.filter(expires_at__lt=timezone.now()).order_by()[:1000],
        Grant.objects.filter(code_digest="x"),
        Grant.objects.filter(user=user).order_by(),
        Grant.objects.filter(expires_at__lt=timezone.now()).order_by()[:1000],
        DeviceCode.objects.filter(digest="x"),
        DeviceCode.objects.filter(user_code_digest="x"),
    ]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # small tables are read whole
    for lookup in lookups:
        plan = lookup.explain()
        assert "Seq Scan" not in plan, plan
        assert "SCAN oidc" not in plan, plan
