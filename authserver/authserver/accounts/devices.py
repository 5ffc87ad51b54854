"""What a user signs in with: the first sign-in with a device is told him by mail.

A device is known by a cookie that it got at an earlier sign-in, whoever's it was, or by its network
and name (`User-Agent`), since a browser may keep no cookies.
"""

import datetime
import hashlib
import re
import secrets

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from authserver import outbox
from authserver.accounts.models import KnownClient, KnownDevice, User
from authserver.http import client, network_of

COOKIE = f"{settings.SESSION_COOKIE_NAME}_device"
DAYS = 400  # the longest that browsers keep a cookie


def digest_of(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def greet(request: HttpRequest, user: User) -> None:
    """Remember the device that a user signs in with; tell him by mail where it is a new one."""
    cookie = request.COOKIES.get(COOKIE, "")
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", cookie):
        cookie = secrets.token_urlsafe(32)
    request.device_cookie = cookie  # type: ignore[attr-defined]
    network = network_of(client(request))
    digests = (
        digest_of("cookie", cookie),
        digest_of("network", network, request.headers.get("User-Agent", "")),
    )
    is_new = not KnownDevice.objects.filter(user=user, digest__in=digests).exists()
    for digest in digests:
        KnownDevice.objects.update_or_create(
            user=user, digest=digest, defaults={"last_login": timezone.now()}
        )
    if is_new:
        tell(request, user)


def keep_cookie(request: HttpRequest, response: HttpResponse) -> None:
    """Set the cookie of a device that has just signed in."""
    if cookie := getattr(request, "device_cookie", ""):
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=DAYS * 86_400,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )


def address_of(user: User) -> str:
    """Where notices to a user go: his mailbox, or what the NAS says; "" where there is none."""
    return user.delivery_mailbox.alias if user.delivery_mailbox else user.contact_email


def tell(request: HttpRequest, user: User) -> None:
    address = address_of(user)
    if not address:
        return
    agent = re.sub(r"[^ -~]", " ", request.headers.get("User-Agent", ""))[:200]
    outbox.send(
        address,
        f"New sign-in at {request.get_host()}",
        f"""\
Somebody has signed in as {user.identifier} at {settings.BASE_URL} with a device that was not used
for that before:

    Time:     {timezone.now():%Y-%m-%d %H:%M} UTC
    Address:  {client(request)}
    Browser:  {agent or "did not say"}

If that was you, there is nothing to do. If not, change your password, and end that session at
{settings.BASE_URL}/account/sessions/
""",
    )


def clear_old(batch: int = 1000) -> int:
    """Forget a batch of devices and clients that were not used for long; how many."""
    before = timezone.now() - datetime.timedelta(days=DAYS)
    count = 0
    for model in (KnownDevice, KnownClient):
        rows = model.objects.filter(last_login__lt=before)
        count += model.objects.filter(
            pk__in=list(rows.values_list("pk", flat=True)[:batch])
        ).delete()[0]
    return count
