"""The authorization request (RFC 6749, 4.1.1; OpenID Connect Core, 3.1.2): read and decided."""

import datetime
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.http import QueryDict
from django.utils import timezone

from authserver.accounts.models import Permission, Session
from authserver.accounts.sessions import digest_of
from authserver.audit.record import record
from authserver.oidc import consent, redirects
from authserver.oidc.applications import by_client_id
from authserver.oidc.errors import OAuthError
from authserver.oidc.id_token import Hint, read_hint
from authserver.oidc.models import Application, Grant
from authserver.oidc.scopes import missing_permissions, scope_asked, scope_of_user, some

AUTHORIZE = "/o2/authorize/"
CODE_LIFE = datetime.timedelta(seconds=60)
KNOWN = (  # each once
    *("client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "prompt"),
    *("max_age", "login_hint", "id_token_hint", "code_challenge", "code_challenge_method"),
    *("request", "request_uri", "registration"),
)
PROMPTS = {"none", "login", "consent", "select_account"}
ASKED_AT = signing.Signer(salt="authserver.oidc.asked_at")
# how long a sign-in counts for the request that asked for it: there may be consent to be read
SIGN_IN_COUNTS = datetime.timedelta(minutes=5)
ASKED_AT_LIFE = datetime.timedelta(hours=1)


class BadClient(Exception):
    """A request that may not be answered by a redirect; the text is for people."""


class SignInNeeded(Exception):
    """The user has to sign in, perhaps once more."""


class ConsentNeeded(Exception):
    """The user has to be asked about `scope`."""

    def __init__(self, scope: list[str]) -> None:
        self.scope = scope


class PermissionMissing(Exception):
    """The user lacks `permissions`, which the application requires."""

    def __init__(self, permissions: list[Permission]) -> None:
        self.permissions = permissions


@dataclass(frozen=True)
class Target:
    """Where the answer goes."""

    application: Application
    redirect_uri: str
    state: str

    def url(self, **parameters: str) -> str:
        """The redirect URI with an answer; each carries `iss` (RFC 9207)."""
        answer = {**parameters, "state": self.state, "iss": settings.BASE_URL}
        return redirects.with_parameters(self.redirect_uri, answer)

    def refusal(self, error: OAuthError) -> str:
        return self.url(error=error.error, error_description=error.description)


@dataclass(frozen=True)
class Asked:
    """A request that is in order. `max_age` in seconds."""

    application: Application
    redirect_uri: str
    scope: list[str]
    nonce: str
    code_challenge: str
    prompt: frozenset[str]
    max_age: int | None
    hint: Hint | None


# --- Reading -------------------------------------------------------------------------------------


def one(parameters: QueryDict, name: str) -> str:
    """A parameter; "" where there is none, or an empty one (RFC 6749, 3.1)."""
    return (parameters.getlist(name) or [""])[0]


def read_target(parameters: QueryDict) -> Target:
    """Where the answer to a request may go; raises BadClient."""
    for name in ("client_id", "redirect_uri"):
        if len(parameters.getlist(name)) > 1:
            raise BadClient(f"It named {name} twice.")
    application = by_client_id(one(parameters, "client_id"))
    if application is None:
        raise BadClient("It named an application that is not known here.")
    uri = one(parameters, "redirect_uri")
    if not uri:
        raise BadClient("It did not say where to go on afterwards (redirect_uri).")
    registered = application.redirect_uri_list
    if not redirects.is_registered(uri, registered, public=application.is_public):
        raise BadClient(
            f"It wanted to go on at an address (redirect_uri) that is not one of {application}'s."
        )
    return Target(application, uri, one(parameters, "state"))


def read_request(target: Target, parameters: QueryDict) -> Asked:
    """The request; raises OAuthError, which is for the client."""
    for name in KNOWN:
        if len(parameters.getlist(name)) > 1:
            raise OAuthError("invalid_request", f"{name} is there twice.")
    get = {name: one(parameters, name) for name in KNOWN}
    for name in ("request", "request_uri", "registration"):
        if get[name]:
            raise OAuthError(f"{name}_not_supported")
    if not get["response_type"]:
        raise OAuthError("invalid_request", "response_type is missing.")
    if get["response_type"] != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code.")
    if not target.application.authorization_code:
        raise OAuthError("unauthorized_client", "The client may not use authorization codes.")
    if "\0" in get["nonce"] or len(get["nonce"]) > 2000:
        raise OAuthError("invalid_request", "nonce is too long, or has a NUL in it.")
    return Asked(
        application=target.application,
        redirect_uri=target.redirect_uri,
        scope=scope_asked(target.application, get["scope"]),
        nonce=get["nonce"],
        code_challenge=read_challenge(target.application, get),
        prompt=read_prompt(get["prompt"]),
        max_age=read_max_age(get["max_age"]),
        hint=read_id_token_hint(get["id_token_hint"]),
    )


def read_challenge(application: Application, get: dict[str, str]) -> str:
    """The code_challenge, always S256; "" where the application may do without and does."""
    challenge, method = get["code_challenge"], get["code_challenge_method"]
    if not challenge and not method and application.skip_pkce:
        return ""
    if method != "S256":
        raise OAuthError("invalid_request", "PKCE is required: code_challenge_method=S256.")
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge):
        raise OAuthError("invalid_request", "code_challenge must be the S256 of a code_verifier.")
    return challenge


def read_prompt(text: str) -> frozenset[str]:
    prompt = frozenset(text.split())
    if not prompt <= PROMPTS:
        raise OAuthError("invalid_request", "prompt has an unknown value.")
    if "none" in prompt and len(prompt) > 1:
        raise OAuthError("invalid_request", "prompt=none goes with no other.")
    return prompt


def read_max_age(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise OAuthError("invalid_request", "max_age must be a number of seconds.")
    return int(text)


def read_id_token_hint(text: str) -> Hint | None:
    if not text:
        return None
    try:
        return read_hint(text)
    except ValueError:
        raise OAuthError("invalid_request", "id_token_hint is no id_token of ours.") from None


def form_sources(url: str) -> list[str]:
    """What `form-action` must name on a page whose form leads to `url`, which may be an
    authorization request that is answered at once: browsers hold redirects against it as well."""
    path, _, query = url.partition("?")
    if path != AUTHORIZE:
        return []
    try:
        return [redirects.form_source(read_target(QueryDict(query)).redirect_uri)]
    except BadClient:
        return []


# --- The moment at which the user was asked to sign in -------------------------------------------


def mark_asked() -> str:
    """A signed note of the moment at which the user is sent to the sign-in."""
    return ASKED_AT.sign(str(int(timezone.now().timestamp() * 1_000_000)))


def read_asked(text: str) -> datetime.datetime | None:
    """The moment in such a note; None where there is none, or it is an hour old."""
    try:
        moment = datetime.datetime.fromtimestamp(
            int(ASKED_AT.unsign(text)) / 1_000_000, datetime.UTC
        )
    except (signing.BadSignature, ValueError):
        return None
    return moment if timezone.now() - moment < ASKED_AT_LIFE else None


# --- Deciding ------------------------------------------------------------------------------------


def decide(
    asked: Asked, session: Session | None, since: datetime.datetime | None, agreed: Iterable[str]
) -> list[str]:
    """The scopes that are granted.

    `since`: when the user was sent to the sign-in for this request; `agreed`: the scopes that he
    has just agreed to. Raises SignInNeeded, PermissionMissing, ConsentNeeded; with prompt=none,
    and where nothing can be granted, OAuthError.
    """
    silent = "none" in asked.prompt
    if session is None or session.user is None or not is_fresh(asked, session, since):
        raise not_signed_in(asked)
    user, application = session.user, asked.application
    if asked.hint and asked.hint.sub != str(user.pk):
        if silent or is_since(session, since):
            raise OAuthError("login_required", "Another user is signed in.")
        raise SignInNeeded
    missing = missing_permissions(application, user)
    if missing:
        if silent:
            raise OAuthError("access_denied", "The user lacks a permission.")
        raise PermissionMissing(missing)
    scope = some(scope_of_user(asked.scope, user))
    if set(scope) <= set(agreed):
        return scope
    skipped = application.skip_authorization or consent.is_given(user, application, scope)
    if "consent" in asked.prompt or not skipped:
        if silent:
            raise OAuthError("consent_required", "The user has to be asked.")
        raise ConsentNeeded(scope)
    return scope


def not_signed_in(asked: Asked) -> Exception:
    if "none" in asked.prompt:
        return OAuthError("login_required", "The user has to sign in.")
    return SignInNeeded()


def is_since(session: Session, moment: datetime.datetime | None) -> bool:
    """Whether the user has signed in after `moment`."""
    return bool(moment and session.authenticated_at and session.authenticated_at > moment)


def is_fresh(asked: Asked, session: Session, since: datetime.datetime | None) -> bool:
    """Whether the sign-in is as new as the request wants it: prompt=login, max_age."""
    if session.authenticated_at is None:
        return False
    age = timezone.now() - session.authenticated_at
    if is_since(session, since) and age < SIGN_IN_COUNTS:
        return True
    if asked.prompt & {"login", "select_account"}:
        return False
    return asked.max_age is None or age.total_seconds() <= asked.max_age


def lock(session: Session) -> bool:
    """Whether the session still exists; who ends it waits until the transaction does.

    So nothing is granted by a session that ended meanwhile.
    """
    return Session.objects.select_for_update().filter(pk=session.pk).first() is not None


def make_code(asked: Asked, session: Session, scope: list[str], **where: Any) -> str:
    """A code for what was granted; raises as `decide` does where the session has just ended."""
    code = secrets.token_urlsafe(32)
    now = timezone.now()
    with transaction.atomic():
        if not lock(session):
            raise not_signed_in(asked)
        Grant.objects.create(
            application=asked.application,
            user=session.user,
            session=session,
            offline="offline_access" in scope,
            scope=" ".join(scope),
            nonce=asked.nonce,
            authenticated_at=session.authenticated_at,
            amr=session.amr,
            code_digest=digest_of(code),
            redirect_uri=asked.redirect_uri,
            code_challenge=asked.code_challenge,
            expires_at=now + CODE_LIFE,
        )
        record(
            "grant",
            subject=session.user,
            application=asked.application,
            scope=" ".join(scope),
            **where,
        )
    return code
