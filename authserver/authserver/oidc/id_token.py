"""id_tokens (OpenID Connect Core, 2): what they say, and reading one that comes back as a hint."""

import base64
import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from django.conf import settings
from django.utils import timezone
from jwt.algorithms import RSAAlgorithm

from authserver import signing
from authserver.oidc import keys
from authserver.oidc.models import Grant

SECONDS = 3600
LONGEST = 8192  # characters of a hint


def at_hash(access_token: str) -> str:
    """OpenID Connect Core, 3.1.3.6."""
    digest = hashlib.sha256(access_token.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode("ascii")


def make(grant: Grant, access_token: str, nonce: str = "") -> str:
    """The id_token of a grant to a user; `nonce` only with the first one (Core, 12.2)."""
    now = int(timezone.now().timestamp())
    claims: dict[str, Any] = {
        "iss": settings.BASE_URL,
        "sub": str(grant.user_id),
        "aud": grant.application.client_id,
        "iat": now,
        "exp": now + SECONDS,
        "at_hash": at_hash(access_token),
        "sid": str(grant.session_id),
        "amr": grant.amr.split(),
    }
    if grant.authenticated_at:
        claims["auth_time"] = int(grant.authenticated_at.timestamp())
    if nonce:
        claims["nonce"] = nonce
    return signing.sign(keys.signing_key().private_pem, claims)


@dataclass(frozen=True)
class Hint:
    """Whom, which application and which session an id_token of ours spoke of."""

    sub: str
    client_id: str
    sid: UUID | None


def read_hint(token: str) -> Hint:
    """Read an id_token of ours, expired or not; raises ValueError where it is none."""
    if len(token) > LONGEST:
        raise ValueError("not an id_token")
    try:
        jwk = keys.public_jwk(str(jwt.get_unverified_header(token).get("kid", "")))
        if jwk is None:
            raise ValueError("signed with an unknown key")
        claims = jwt.decode(
            token,
            RSAAlgorithm.from_jwk(jwk),  # type: ignore[arg-type]
            algorithms=["RS256"],
            issuer=settings.BASE_URL,
            options={
                "verify_exp": False,
                "verify_aud": False,
                "require": ["iss", "sub", "aud", "exp", "at_hash"],
            },
        )
        sid = UUID(claims["sid"]) if "sid" in claims else None
    except (jwt.InvalidTokenError, TypeError, AttributeError) as error:
        raise ValueError("not an id_token of this server") from error
    return Hint(str(claims["sub"]), str(claims["aud"]), sid)
