"""The tokens of the registry protocol: the JWT, and the refresh token that `docker login` keeps."""

import datetime
import hashlib
import secrets
import time
import uuid
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from authserver import signing
from authserver.accounts.models import ServiceUser, User
from authserver.audit.record import record
from authserver.registry.keys import TOKEN_SECONDS
from authserver.registry.models import DockerRegistry, RegistryKey, RegistryRefreshToken

REFRESH_DAYS = 90  # since the last use
PREFIX = "ugr_"  # so that one that leaks is known for what it is
TOUCH = datetime.timedelta(hours=1)


def make_token(key: RegistryKey, user: User | None, access: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer of the token endpoint (distribution, `docs/spec/auth/token.md` and `jwt.md`)."""
    now = int(time.time())
    registry = key.registry
    claims = {
        "iss": registry.domain.name,
        "sub": user.identifier if user else "",
        "aud": registry.client_id,
        "exp": now + TOKEN_SECONDS,
        "nbf": now - 10,
        "iat": now,
        "jti": str(uuid.uuid4()),
        "access": access,
    }
    token = signing.sign(key.private_key, claims, x5c=signing.chain(key.certificate + key.bridge))
    issued = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "token": token,
        "access_token": token,
        "expires_in": TOKEN_SECONDS,
        "issued_at": issued,
    }


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def make_refresh_token(
    registry: DockerRegistry,
    user: User,
    service_user: ServiceUser | None,
    client_id: str,
    client: str,
) -> str:
    """A new one for a login, shown once."""
    token = PREFIX + secrets.token_urlsafe(32)
    RegistryRefreshToken.objects.create(
        digest=digest_of(token),
        registry=registry,
        user=user,
        service_user=service_user,
        client_id=client_id[:100],
        client=client,
    )
    record("registry.login", subject=user, application=registry, client=client)
    return token


def find_refresh_token(registry: DockerRegistry, token: str) -> RegistryRefreshToken | None:
    """The row of a refresh token that counts at `registry`, its last use brought up to date."""
    now = timezone.now()
    since = now - datetime.timedelta(days=REFRESH_DAYS)
    rows = RegistryRefreshToken.objects.filter(
        digest=digest_of(token), registry=registry, last_used__gt=since
    )
    row = rows.select_related("user").first()
    if row and now - row.last_used > TOUCH:
        rows.update(last_used=now)
    return row


def logins_of(user: User) -> "QuerySet[RegistryRefreshToken]":
    """What the user's `docker login`s keep and counts, the last used first."""
    since = timezone.now() - datetime.timedelta(days=REFRESH_DAYS)
    found = user.registry_tokens.filter(last_used__gt=since).order_by("-last_used")
    return found.select_related("registry", "service_user")


def end_refresh_token(token: RegistryRefreshToken, by: str) -> None:
    """End what a `docker login` keeps, by whom."""
    record("registry.login_ended", actor=by, subject=token.user, application=token.registry)
    token.delete()


def clear_old(batch: int = 1000) -> int:
    before = timezone.now() - datetime.timedelta(days=REFRESH_DAYS)
    old = RegistryRefreshToken.objects.filter(last_used__lt=before).values_list("pk", flat=True)
    return RegistryRefreshToken.objects.filter(pk__in=list(old[:batch])).delete()[0]
