"""The JWT of `/checkpassword/`: what it says of a login, and in whose name."""

import time
from collections.abc import Iterable

from authserver import signing
from authserver.accounts.models import User
from authserver.accounts.permissions import permissions_of
from authserver.domains.models import DomainKey

AUDIENCE = "net.maurus.authclient"
EARLY, LIFE = 5, 3600  # seconds: clocks differ; a token is kept no longer


def canonical_username(user: User) -> str:
    """The delivery mailbox; the identifier where there is none."""
    return user.delivery_mailbox.alias if user.delivery_mailbox else user.identifier


def make_token(
    key: DomainKey,
    user: User,
    *,
    sent_name: str,
    authenticated: bool,
    wanted: Iterable[str],
    nonce: str,
) -> str:
    """The signed token. `authorized`: whether the user holds all the scopes that are `wanted`."""
    held, now = permissions_of(user), int(time.time())
    claims = {
        "sub": sent_name,
        "canonical_username": canonical_username(user),
        "authenticated": authenticated,
        "authorized": held.issuperset(wanted),
        "scopes": sorted(held),
        "nbf": now - EARLY,
        "exp": now + LIFE,
        "iss": key.domain.name,
        "aud": AUDIENCE,
    }
    if nonce:
        claims["nonce"] = nonce
    return signing.sign(key.private_key, claims)
