"""Browser sessions: rows of `Session`, found by a digest of the cookie.

Also Django's session engine and authentication backend of this project.
"""

import datetime
import hashlib
import secrets
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import rotate_token
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from authserver.accounts import devices
from authserver.accounts.login import WRONG, LoginRefused
from authserver.accounts.models import Session, User
from authserver.accounts.signals import session_ending
from authserver.accounts.standing import NasUnreachable, still_good
from authserver.accounts.throttle import remember_client
from authserver.audit.record import record
from authserver.http import client, network_of
from authserver.waits import results_of

TOUCH_SECONDS = 60  # how exact the time of the last use is


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class SessionStore(SessionBase):
    """`row` is the session's row where there is one that has not ended."""

    _get_session: Any

    def __init__(self, session_key: str | None = None) -> None:
        self.row: Session | None = None
        self.is_over = False  # it ended, or got another key, while this request ran
        super().__init__(session_key)

    def load(self) -> dict[str, Any]:
        now = timezone.now()
        found = Session.objects.filter(digest=digest_of(self.session_key or ""))
        self.row = found.filter(expires_at__gt=now).select_related("user").first()
        if not self.row:
            self._session_key = None
            return {}
        if now - self.row.last_used > datetime.timedelta(seconds=TOUCH_SECONDS):
            self.modified = True  # so that it is saved, and the cookie's time begins anew
        return self.decode(self.row.data)

    def exists(self, session_key: str) -> bool:
        return Session.objects.filter(digest=digest_of(session_key)).exists()

    def is_empty(self) -> bool:
        """Whether its cookie can go. One that nobody has asked for is not looked up for that."""
        if not self.accessed:
            return self.session_key is None
        return self.row is None and super().is_empty()

    def create(self) -> None:
        self._session_key = secrets.token_urlsafe(32)
        self._session_cache: dict[str, Any] = {}
        self.row = Session(digest=digest_of(self._session_key))
        self.modified = True

    def renew(self) -> bool:
        """Give the session another key; False where it has ended meanwhile."""
        key = secrets.token_urlsafe(32)
        if not self.row or not self.rows().update(digest=digest_of(key)):
            return False
        self._session_key, self.row.digest = key, digest_of(key)
        self.modified = True
        return True

    def rows(self) -> QuerySet[Session]:
        """Its row as it was loaded: none where it has ended, or has another key by now."""
        row = self.row or Session()
        return Session.objects.filter(pk=row.pk, digest=row.digest)

    def save(self, must_create: bool = False) -> None:
        """Write it back; one that has ended meanwhile stays ended."""
        data = self.encode(self._get_session(no_load=must_create))
        now = timezone.now()
        expires = now + datetime.timedelta(seconds=settings.SESSION_COOKIE_AGE)
        if self.row is None or self.row._state.adding:
            if self.row is None:
                self.create()
            assert self.row  # noqa: S101
            self.row.data, self.row.expires_at = data, expires
            self.row.save(force_insert=True)
            return
        self.is_over = not self.rows().update(data=data, last_used=now, expires_at=expires)

    def delete(self, session_key: str | None = None) -> None:
        """End it, and the tokens that hang on it."""
        key = session_key or self.session_key
        for row in Session.objects.filter(digest=digest_of(key or "")):
            end_session(row)
        if key == self.session_key:
            self.row = None

    @classmethod
    def clear_expired(cls) -> None:
        """`clear_old` does it, in batches."""


def end_session(session: Session) -> None:
    """End a session and what hangs on it."""
    session_ending.send(sender=Session, session=session)
    session.delete()


def open_sessions(user: User) -> QuerySet[Session]:
    """Where a user is signed in, the last used first."""
    return user.sessions.filter(expires_at__gt=timezone.now()).order_by("-last_used")


def end_session_by(session: Session, by: str) -> None:
    """End a session that somebody chose."""
    record("session.ended", actor=by, subject=session.user, of_client=session.client)
    end_session(session)


def end_others(session: Session, by: str) -> int:
    """End the sessions of its user in other browsers; how many it were."""
    others = list(session.user.sessions.exclude(pk=session.pk)) if session.user else []
    for other in others:
        end_session_by(other, by)
    return len(others)


def clear_old(batch: int = 1000) -> int:
    """End a batch of sessions that are past their time; how many."""
    old = list(Session.objects.filter(expires_at__lt=timezone.now())[:batch])
    for session in old:
        end_session(session)
    return len(old)


class SessionMiddleware(DjangoSessionMiddleware):
    """Django's, with rows of our own, and with the cookie of a device that signs in."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        devices.keep_cookie(request, response)
        response = super().process_response(request, response)
        if request.session.is_over:  # type: ignore[attr-defined]
            response.cookies.pop(settings.SESSION_COOKIE_NAME, None)  # it would replace a newer one
        return response


@transaction.atomic
def sign_in(request: HttpRequest, user: User, amr: str = "pwd") -> Session:
    """Begin a session for `user` under a new key; raises LoginRefused where the account is not as
    it was when its password was looked at: what a change of it ends cannot begin after it.

    A session of his own goes on, and what hangs on it; another one that the browser had ends.
    """
    as_it_was = {"password": user.password, "source": user.source, "is_active": True}
    if User.objects.select_for_update().filter(pk=user.pk, **as_it_was).first() is None:
        raise LoginRefused(401, WRONG)
    session: SessionStore = request.session  # type: ignore[assignment]
    session.get("")  # loads it
    if not (session.row and session.row.user_id == user.pk and session.renew()):
        session.flush()
        session.create()
    row = session.row
    assert row  # noqa: S101
    now, address = timezone.now(), client(request)
    row.user, row.authenticated_at, row.amr = user, now, amr
    row.client, row.network = address[:45], network_of(address)
    row.user_agent = request.headers.get("User-Agent", "")[:300]
    if not row._state.adding:
        row.save(update_fields=["authenticated_at", "amr", "client", "network", "user_agent"])
    session.save()
    rotate_token(request)
    User.objects.filter(pk=user.pk).update(last_login=now)
    remember_client(user, row.network)
    devices.greet(request, user)
    request.user = user
    return row


def sign_out(request: HttpRequest) -> None:
    """End the session of this browser, and what hangs on it."""
    if row := session_of(request):
        record("logout", subject=row.user, client=client(request))
    request.session.flush()


def session_of(request: HttpRequest) -> Session | None:
    """The session of a user who is signed in; None for anybody else."""
    if not request.user.is_authenticated:
        return None
    row: Session | None = request.session.row  # type: ignore[attr-defined]
    return row


def user_of(request: HttpRequest) -> User | AnonymousUser:
    """Who is signed in. Raises a Wait where the NAS has to be asked first.

    While the NAS cannot be reached its users are asked to sign in; nothing is ended for that.
    """
    request.session.get("")  # loads it
    row: Session | None = request.session.row  # type: ignore[attr-defined]
    if not row or not row.user:
        return AnonymousUser()
    try:
        if still_good(row.user, results_of(request)):
            return row.user
    except NasUnreachable:
        pass
    return AnonymousUser()


class UserMiddleware(AuthenticationMiddleware):
    """`request.user` by the session's row."""

    def process_request(self, request: HttpRequest) -> None:
        request.user = SimpleLazyObject(lambda: user_of(request))  # type: ignore[assignment]


class Backend:
    """Names the users for Django; who may log in is asked in `login.py`."""

    def authenticate(self, request: HttpRequest | None, **_: object) -> None:
        return None

    def get_user(self, user_id: UUID) -> User | None:
        return User.objects.filter(pk=user_id, is_active=True).first()
