"""The first start: while there is no administrator, a link makes the first."""

import logging
import secrets

from django.conf import settings
from django.db import transaction

from authserver import locks
from authserver.accounts.models import SetupToken, User
from authserver.accounts.users import create_user

log = logging.getLogger(__name__)


class Over(Exception):
    """There is an administrator by now."""


@transaction.atomic
def setup_token() -> str:
    """The token of the link, the same until it is used; "" where there is an administrator."""
    locks.hold("setup")
    if User.objects.filter(is_staff=True).exists():
        SetupToken.objects.all().delete()
        return ""
    row = SetupToken.objects.first()
    return (row or SetupToken.objects.create(token=secrets.token_urlsafe(32))).token


def is_setup_token(token: str) -> bool:
    """Whether the link with `token` may make the first administrator now."""
    row = SetupToken.objects.first()
    if row is None or User.objects.filter(is_staff=True).exists():
        return False
    return secrets.compare_digest(row.token.encode(), token.encode("utf-8", "replace"))


@transaction.atomic
def make_first(token: str, identifier: str, fullname: str, password: str) -> User:
    """The first administrator; raises Over, or ValidationError for what cannot be."""
    locks.hold("setup")
    if not is_setup_token(token):
        raise Over
    user = create_user(identifier, fullname, "the first start", password=password, staff=True)
    SetupToken.objects.all().delete()
    return user


def log_link() -> None:
    if token := setup_token():
        link = f"{settings.BASE_URL}/setup/?token={token}"
        log.warning(
            "setup", extra={"fields": {"open": link, "why": "there is no administrator yet"}}
        )
