"""Tokens: how codes, refresh tokens and client credentials become them, and when they count.

Of several processes that use a code or a refresh token at once, one wins: the database says which,
by an update that only one can make.
"""

import base64
import datetime
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from authserver.accounts.models import User
from authserver.accounts.sessions import digest_of
from authserver.audit.record import record
from authserver.oidc import id_token
from authserver.oidc.errors import OAuthError, no_grant
from authserver.oidc.models import Application, DeviceCode, Grant, Token
from authserver.oidc.scopes import (
    missing_permissions,
    read_scope,
    scope_of_application,
    scope_of_user,
    some,
)
from authserver.oidc.standing import counts
from authserver.queries import one
from authserver.waits import Results

ACCESS_SECONDS = 3600
ACCESS_LIFE = datetime.timedelta(seconds=ACCESS_SECONDS)
REFRESH_LIFE = datetime.timedelta(days=30)  # since the last use; a used code is remembered as long
REUSE_GRACE = datetime.timedelta(seconds=10)  # for a client that sends the same refresh twice
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, 4.1


class Lost(Exception):
    """Another was faster. Ends the transaction; nothing was written."""


@dataclass(frozen=True)
class Exchange:
    """What a client sends for a code."""

    code: str
    redirect_uri: str
    code_verifier: str


def s256(verifier: str) -> str:
    """RFC 7636, 4.2."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def end_grant(grant: Grant, why: str) -> None:
    """End a grant, and with it all its tokens."""
    if Grant.objects.filter(pk=grant.pk).delete()[0]:
        record("tokens.ended", subject=grant.user, application=grant.application, why=why)


def check_account(grant: Grant, now: datetime.datetime, results: Results) -> None:
    """Raises OAuthError where the session or the account behind a grant has ended, or where the
    user may not use the application any more; a Wait where the NAS has to be asked."""
    if not grant.is_alive(now):
        raise no_grant("The session has ended.")
    if not counts(grant.user, results):
        raise no_grant("The account is not active.")
    if grant.user and missing_permissions(grant.application, grant.user):
        raise no_grant("The user may not use the application any more.")


def issue(
    grant: Grant, scope: list[str], now: datetime.datetime, *, refresh: bool
) -> dict[str, Any]:
    """Make the tokens of a grant, in the caller's transaction; what the client is answered."""
    access = secrets.token_urlsafe(32)
    rows = [
        Token(
            digest=digest_of(access),
            kind=Token.ACCESS,
            grant=grant,
            scope=" ".join(scope),
            created_at=now,
            expires_at=now + ACCESS_LIFE,
        )
    ]
    answer: dict[str, Any] = {
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": ACCESS_SECONDS,
        "scope": " ".join(scope),
    }
    if refresh:
        answer["refresh_token"] = secrets.token_urlsafe(32)
        rows.append(
            Token(
                digest=digest_of(answer["refresh_token"]),
                kind=Token.REFRESH,
                grant=grant,
                scope=grant.scope,
                created_at=now,
                expires_at=now + REFRESH_LIFE,
            )
        )
    Token.objects.bulk_create(rows)
    return answer


def with_id_token(answer: dict[str, Any], grant: Grant, nonce: str = "") -> dict[str, Any]:
    """Signed after the transaction: nobody waits for a signature."""
    if "openid" in answer["scope"].split(" "):
        answer["id_token"] = id_token.make(grant, answer["access_token"], nonce)
    return answer


# --- Codes ---------------------------------------------------------------------------------------

# What an exchange needs of the row of a code and of those behind it: see ROWS.
GRANTS = Grant.objects.select_related("user", "session").only(
    *("offline", "scope", "nonce", "authenticated_at", "amr", "redirect_uri", "code_challenge"),
    *("code_used_at", "expires_at", "session__sid", "session__expires_at"),
    *("user__identifier", "user__is_active", "user__source", "user__nas_uid"),
)


def exchange_code(application: Application, given: Exchange, results: Results) -> dict[str, Any]:
    """The answer to a code; raises OAuthError. One that fails leaves the code as it is."""
    now = timezone.now()
    found = GRANTS.filter(code_digest=digest_of(given.code), application=application)
    grant = one(found)
    if grant is None:
        raise no_grant("The code is unknown, or it is another client's.")
    grant.application = application
    if grant.code_used_at:
        end_grant(grant, "its code was used again")
        raise no_grant("The code was used before.")
    if grant.expires_at <= now:
        raise no_grant("The code has expired.")
    if given.redirect_uri != grant.redirect_uri:
        raise no_grant("The redirect URI is not the one that the code was made for.")
    check_verifier(grant.code_challenge, given.code_verifier)
    check_account(grant, now, results)
    assert grant.user  # noqa: S101  (codes are made for users)
    scope = some(scope_of_user(grant.scope.split(), grant.user))
    unused = Grant.objects.filter(pk=grant.pk, code_used_at=None)
    with transaction.atomic():
        first = unused.update(code_used_at=now, last_used=now, expires_at=now + REFRESH_LIFE)
        if first:
            answer = issue(grant, scope, now, refresh=True)
            record("tokens.begun", subject=grant.user, application=application, scope=grant.scope)
    if not first:
        end_grant(grant, "its code was used twice at once")
        raise no_grant("The code was used before.")
    return with_id_token(answer, grant, grant.nonce)


def check_verifier(challenge: str, verifier: str) -> None:
    """PKCE, S256 (RFC 7636, 4.6); raises OAuthError."""
    if not challenge and not verifier:
        return
    if not challenge:
        raise no_grant("There is a code_verifier, and there was no code_challenge.")
    if not VERIFIER.fullmatch(verifier) or not constant_time_compare(s256(verifier), challenge):
        raise no_grant("The code_verifier is not the one of the code_challenge.")


# --- Refresh tokens ------------------------------------------------------------------------------


def refresh(
    application: Application, token: str, scope_text: str, results: Results
) -> dict[str, Any]:
    """The answer to a refresh token, which then is used up; raises OAuthError."""
    now = timezone.now()
    row = find(token, Token.REFRESH, application)
    if row is None:
        raise no_grant("The refresh token is unknown, or it is another client's.")
    grant = row.grant
    if row.used_at:
        if now - row.used_at > REUSE_GRACE:
            end_grant(grant, "a refresh token was used again")
        raise no_grant("The refresh token was used before.")
    if row.expires_at <= now:
        raise no_grant("The refresh token has expired.")
    check_account(grant, now, results)
    assert grant.user  # noqa: S101  (refresh tokens are made for users)
    granted = grant.scope.split()
    asked = read_scope(scope_text) if scope_text else granted
    if not set(asked) <= set(granted):
        raise OAuthError("invalid_scope", "The scope is wider than the one that was granted.")
    scope = some(scope_of_user(asked, grant.user))
    unused = Token.objects.filter(pk=row.pk, used_at=None)
    try:
        with transaction.atomic():
            # the grant first, so that who ends it and who refreshes wait for each other
            alive = Grant.objects.filter(pk=grant.pk)
            if not alive.update(last_used=now, expires_at=now + REFRESH_LIFE):
                raise Lost
            if not unused.update(used_at=now, expires_at=now + REFRESH_LIFE):
                raise Lost
            answer = issue(grant, scope, now, refresh=True)
    except Lost:
        raise no_grant("The refresh token was used before.") from None
    return with_id_token(answer, grant)


# --- Client credentials --------------------------------------------------------------------------


def client_credentials(application: Application, scope_text: str) -> dict[str, Any]:
    """A token for the application itself."""
    scope = scope_of_application(application, scope_text)
    now = timezone.now()
    with transaction.atomic():
        grant = Grant.objects.create(
            application=application,
            scope=" ".join(scope),
            last_used=now,
            expires_at=now + ACCESS_LIFE,
        )
        answer = issue(grant, scope, now, refresh=False)
        record("tokens.begun", application=application, scope=grant.scope)
    return answer


# --- Tokens that are shown -----------------------------------------------------------------------


# What a use of a token needs of its row and of those behind it, in one query. Naming the columns
# halves what the query costs; any other is fetched when it is asked for.
ROWS = Token.objects.select_related("grant__user", "grant__session", "grant__application").only(
    *("kind", "scope", "created_at", "used_at", "expires_at"),
    *("grant__offline", "grant__scope", "grant__authenticated_at", "grant__amr"),
    *("grant__session__sid", "grant__session__expires_at"),
    *("grant__application__client_id", "grant__application__name"),
    *("grant__user__identifier", "grant__user__fullname", "grant__user__contact_email"),
    *("grant__user__delivery_mailbox", "grant__user__is_active", "grant__user__source"),
    *("grant__user__nas_uid", "grant__user__updated_at"),
)


def find(token: str, kind: str = "", application: Application | None = None) -> Token | None:
    """The row of a token whose grant exists, used or expired ones too; None where there is none."""
    row = one(ROWS.filter(digest=digest_of(token)))
    if row is None or (kind and row.kind != kind):
        return None
    if application and row.grant.application_id != application.pk:
        return None
    return row


def find_live(token: str, results: Results, kind: str = "") -> Token | None:
    """The row of a token that counts; raises a Wait where the NAS has to be asked, OAuthError
    (503) where it cannot be."""
    now = timezone.now()
    row = find(token, kind)
    if row is None or row.used_at or row.expires_at <= now or not row.grant.is_alive(now):
        return None
    return row if counts(row.grant.user, results) else None


def scope_now(row: Token) -> list[str]:
    """The scopes of a token that its user, or its application, holds by now."""
    scope = row.scope.split()
    if row.grant.user:
        return scope_of_user(scope, row.grant.user)
    held = row.grant.application.permissions.filter(permission_name__in=scope)
    names = set(held.values_list("permission_name", flat=True))
    return [name for name in scope if name in names]


def revoke(application: Application, token: str) -> None:
    """RFC 7009: a refresh token ends with its family, an access token alone."""
    row = find(token)
    if row is None:
        return
    if row.grant.application_id != application.pk:
        raise OAuthError("unauthorized_client", "The token is another client's.")
    if row.kind == Token.REFRESH:
        end_grant(row.grant, "revoked by the application")
        return
    Token.objects.filter(pk=row.pk).delete()
    record("token.revoked", subject=row.grant.user, application=application)


# --- What is open --------------------------------------------------------------------------------


def open_grants(user: User) -> list[Grant]:
    """What applications hold of a user by now, the last used first."""
    now = timezone.now()
    grants = Grant.objects.filter(user=user, expires_at__gt=now).exclude(code_used_at=None)
    rows = grants.select_related("application", "session").order_by(F("last_used").desc())
    return [grant for grant in rows if grant.is_alive(now)]


def on_ended(*, user: User, **_: object) -> None:
    """All that a user granted ends: what `accounts.signals.ended` says."""
    DeviceCode.objects.filter(user=user).delete()
    if Grant.objects.filter(user=user).delete()[0]:
        record("tokens.ended", subject=user, why="all of the account's tokens end")


# --- Housekeeping --------------------------------------------------------------------------------


def clear_old_grants(batch: int = 1000) -> int:
    old = Grant.objects.filter(expires_at__lt=timezone.now()).values_list("pk", flat=True)[:batch]
    return Grant.objects.filter(pk__in=list(old)).delete()[0]


def clear_old_tokens(batch: int = 1000) -> int:
    old = Token.objects.filter(expires_at__lt=timezone.now()).values_list("pk", flat=True)[:batch]
    return Token.objects.filter(pk__in=list(old)).delete()[0]
