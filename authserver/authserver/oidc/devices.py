"""The device flow (RFC 8628): codes for a device, and what their user says of them."""

import datetime
import secrets
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from authserver.accounts import throttle
from authserver.accounts.models import Session, User
from authserver.accounts.sessions import digest_of
from authserver.audit.record import record
from authserver.oidc import tokens
from authserver.oidc.authorization import lock
from authserver.oidc.errors import OAuthError, no_grant
from authserver.oidc.models import Application, DeviceCode, Grant
from authserver.oidc.scopes import scope_asked, scope_of_user, some
from authserver.waits import Results

SECONDS = 600
INTERVAL = 5  # seconds between two polls; 5 more after each that came too early (3.5)
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so no words (6.1)
LENGTH = 8
REMEMBERED = datetime.timedelta(days=1)  # after its end, to be told so


class UnknownCode(Exception):
    """No device waits under such a code, or not any more."""


def digest_of_user_code(code: str) -> str:
    """With the server's key: so few letters could be found from a plain digest."""
    return salted_hmac("authserver.oidc.user_code", code, algorithm="sha256").hexdigest()


def plain(user_code: str) -> str:
    """A code as it was typed, in the form of `LETTERS`."""
    return "".join(c for c in user_code.upper() if c in LETTERS)[: LENGTH + 1]


def shown(user_code: str) -> str:
    """A code for people: BCDF-GHJK."""
    return f"{user_code[:4]}-{user_code[4:]}"


# --- For the device ------------------------------------------------------------------------------


def begin(application: Application, scope_text: str) -> dict[str, Any]:
    """Codes for a device that asks for `scope_text`; raises OAuthError."""
    scope = scope_asked(application, scope_text)
    device_code = secrets.token_urlsafe(32)
    user_code = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
    DeviceCode.objects.create(
        digest=digest_of(device_code),
        user_code_digest=digest_of_user_code(user_code),
        application=application,
        scope=" ".join(scope),
        interval=INTERVAL,
        expires_at=timezone.now() + datetime.timedelta(seconds=SECONDS),
    )
    page = f"{settings.BASE_URL}/device/"
    return {
        "device_code": device_code,
        "user_code": shown(user_code),
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={shown(user_code)}",
        "expires_in": SECONDS,
        "interval": INTERVAL,
    }


def redeem(application: Application, device_code: str, results: Results) -> dict[str, Any]:
    """The answer to a device that asks whether its user has decided; raises OAuthError."""
    now = timezone.now()
    codes = DeviceCode.objects.select_related("user")
    row = codes.filter(digest=digest_of(device_code), application=application).first()
    if row is None or row.state == DeviceCode.USED:
        raise no_grant("The device code is unknown, another client's, or it was used before.")
    if row.expires_at <= now:
        raise OAuthError("expired_token", "The device code has expired.")
    if row.state == DeviceCode.DENIED:
        raise OAuthError("access_denied", "The user did not agree.")
    if row.state == DeviceCode.PENDING:
        raise wait(row, now)
    grant = grant_of(row, application, now)
    tokens.check_account(grant, now, results)
    assert grant.user  # noqa: S101  (whoever allowed it)
    scope = some(scope_of_user(grant.scope.split(), grant.user))
    allowed = DeviceCode.objects.filter(pk=row.pk, state=DeviceCode.ALLOWED)
    with transaction.atomic():
        if not allowed.update(state=DeviceCode.USED):
            raise no_grant("The device code was used before.")
        grant.save(force_insert=True)
        answer = tokens.issue(grant, scope, now, refresh=True)
        record("tokens.begun", subject=grant.user, application=application, scope=grant.scope)
    return tokens.with_id_token(answer, grant)


def wait(row: DeviceCode, now: datetime.datetime) -> OAuthError:
    """What a device is told that has to wait; `slow_down` where it asks too often."""
    early = row.polled_at is not None and now - row.polled_at < datetime.timedelta(
        seconds=row.interval
    )
    interval = row.interval + INTERVAL if early else row.interval
    DeviceCode.objects.filter(pk=row.pk).update(polled_at=now, interval=interval)
    if early:
        return OAuthError("slow_down", f"Ask every {interval} seconds.")
    return OAuthError("authorization_pending", "The user has not decided yet.")


def grant_of(row: DeviceCode, application: Application, now: datetime.datetime) -> Grant:
    """The grant of a device that was let in, not saved yet; raises OAuthError where it hangs on a
    session that has ended."""
    session = Session.objects.filter(sid=row.sid).first() if row.sid else None
    offline = "offline_access" in row.scope.split()
    if session is None and not offline:
        raise no_grant("The session has ended.")
    grant = Grant(
        application=application,
        user=row.user,
        session_id=row.sid,
        offline=offline,
        scope=row.scope,
        authenticated_at=row.authenticated_at,
        amr=row.amr,
        code_used_at=now,
        expires_at=now + tokens.REFRESH_LIFE,
    )
    if session:
        grant.session = session
    return grant


# --- For the user --------------------------------------------------------------------------------


def find(user: User, user_code: str, results: Results) -> DeviceCode:
    """The device that waits under a code; raises UnknownCode, and Throttled or a Wait after too
    many wrong ones of this user."""
    code = plain(user_code)
    name = throttle.name_digest(f"device/{user.pk}")
    pending = throttle.admit(name, "", True, results)
    found = DeviceCode.objects.filter(
        user_code_digest=digest_of_user_code(code),
        state=DeviceCode.PENDING,
        expires_at__gt=timezone.now(),
    )
    row = found.select_related("application").first()
    throttle.settle(pending, refused=row is None)
    if row is None:
        record("device.unknown_code", subject=user)
        raise UnknownCode
    return row


def allow(row: DeviceCode, session: Session, scope: list[str]) -> bool:
    """Let a device in with `scope`; False where it was decided before, or the session ended."""
    with transaction.atomic():
        if not lock(session):
            return False
        done = DeviceCode.objects.filter(pk=row.pk, state=DeviceCode.PENDING).update(
            state=DeviceCode.ALLOWED,
            scope=" ".join(scope),
            user=session.user,
            sid=session.sid,
            authenticated_at=session.authenticated_at,
            amr=session.amr,
        )
        if done:
            record(
                "grant",
                subject=session.user,
                application=row.application,
                scope=" ".join(scope),
                device=True,
            )
    return bool(done)


def deny(row: DeviceCode, user: User) -> bool:
    """Tell a device no; False where it was decided before."""
    done = DeviceCode.objects.filter(pk=row.pk, state=DeviceCode.PENDING).update(
        state=DeviceCode.DENIED
    )
    if done:
        record("grant.refused", subject=user, application=row.application, device=True)
    return bool(done)


def clear_old(batch: int = 1000) -> int:
    before = timezone.now() - REMEMBERED
    old = DeviceCode.objects.filter(expires_at__lt=before).values_list("pk", flat=True)[:batch]
    return DeviceCode.objects.filter(pk__in=list(old)).delete()[0]
