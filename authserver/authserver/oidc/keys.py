"""The issuer's keys: which one signs, which are published, and how a new one takes over."""

import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from authserver import locks, signing
from authserver.audit.record import record
from authserver.oidc.models import SigningKey

HOUR = datetime.timedelta(hours=1)  # until a new key signs; and how long an id_token lives


def new_key(signs_from: datetime.datetime) -> dict[str, Any]:
    """The fields of a new key (for the first migration too, whose models are not ours)."""
    pem = signing.make_private_key()
    jwk = signing.public_jwk(pem)
    return {"kid": jwk["kid"], "public_jwk": jwk, "private_pem": pem, "signs_from": signs_from}


def signing_key() -> SigningKey:
    """The newest key that may sign by now."""
    keys = SigningKey.objects.only("private_pem")
    found = keys.filter(signs_from__lte=timezone.now()).order_by("-signs_from").first()
    if found is None:
        raise RuntimeError("there is no key: run `authserver oidc rotate-key --now`")
    return found


def published_keys() -> list[SigningKey]:
    """Those that will sign, the one that does, and those that did less than an hour ago."""
    now = timezone.now()
    published: list[SigningKey] = []
    replaced_at: datetime.datetime | None = None  # by the next one, in the order of signing
    for key in SigningKey.objects.defer("private_pem").order_by("-signs_from"):
        if replaced_at and replaced_at + HOUR <= now:
            break
        published.append(key)
        if key.signs_from <= now:
            replaced_at = key.signs_from
    return published


def jwks() -> dict[str, Any]:
    """The JWK set of the published keys (RFC 7517)."""
    return {"keys": [key.public_jwk for key in published_keys()]}


def public_jwk(kid: str) -> dict[str, str] | None:
    """The public part of a key that was ever ours."""
    if "\0" in kid:  # which PostgreSQL does not take
        return None
    return SigningKey.objects.filter(kid=kid).values_list("public_jwk", flat=True).first()


def rotate(*, now: bool = False, actor: object = "") -> SigningKey:
    """Publish a new key, which signs from an hour later; `now`: at once.

    `now` is for the case that keys were seen by others: those that wait for their turn go.
    """
    fields = new_key(timezone.now())
    with transaction.atomic():
        locks.hold("keys")
        if now:
            SigningKey.objects.filter(signs_from__gt=timezone.now()).delete()
        else:
            fields["signs_from"] += HOUR
        key = SigningKey.objects.create(**fields)
    record("key.rotated", actor=actor, kid=key.kid, signs_from=key.signs_from.isoformat())
    return key


def state_of(key: SigningKey) -> str:
    """For people: `next`, `signs`, `published` (an old one) or `retired`."""
    if key.signs_from > timezone.now():
        return "next"
    if key == signing_key():
        return "signs"
    return "published" if key in published_keys() else "retired"


def forget_private_keys(batch: int = 1000) -> int:
    """Delete the private part of the keys that sign no more; how many it were."""
    with transaction.atomic():
        locks.hold("keys")
        signing = SigningKey.objects.filter(signs_from__lte=timezone.now()).last()
        if signing is None:
            return 0
        old = SigningKey.objects.filter(signs_from__lt=signing.signs_from)
        return old.exclude(private_pem="").update(private_pem="")
