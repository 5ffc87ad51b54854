"""The first start: while there is no administrator, a link makes the first."""

import logging
import secrets

from django.conf import settings
from django.db import transaction

from authserver import locks
from authserver.accounts.models import SetupToken, User

log = logging.getLogger(__name__)


def setup_token() -> str:
    """The token of the link, the same until it is used; "" where there is an administrator."""
    with transaction.atomic():
        locks.hold("setup")
        if User.objects.filter(is_staff=True).exists():
            SetupToken.objects.all().delete()
            return ""
        row = SetupToken.objects.first()
        return (row or SetupToken.objects.create(token=secrets.token_urlsafe(32))).token


def is_setup_token(token: str) -> bool:
    """Whether the link with `token` may make the first administrator now."""
    kept = setup_token()
    return bool(kept) and secrets.compare_digest(kept.encode(), token.encode("utf-8", "replace"))


def log_link() -> None:
    if token := setup_token():
        link = f"{settings.BASE_URL}/setup/?token={token}"
        log.warning(
            "setup", extra={"fields": {"open": link, "why": "there is no administrator yet"}}
        )
