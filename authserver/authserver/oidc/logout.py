"""RP-initiated logout: which session is meant, and where to go on."""

from dataclasses import dataclass

from django.http import QueryDict

from authserver.accounts.models import Session
from authserver.accounts.sessions import end_session
from authserver.audit.record import record
from authserver.oidc import redirects
from authserver.oidc.applications import by_client_id
from authserver.oidc.authorization import one
from authserver.oidc.id_token import Hint, read_hint
from authserver.oidc.models import Application


class BadLogout(Exception):
    """A request that cannot be answered; the text is for people."""


@dataclass(frozen=True)
class LogoutRequest:
    """`url`: where to go on, "" for a page of our own."""

    application: Application | None
    hint: Hint | None
    url: str

    def names(self, session: Session) -> bool:
        """Whether the hint is about this session."""
        hint = self.hint
        return bool(
            hint and hint.sid == session.sid and session.user and hint.sub == str(session.user.pk)
        )


def read_logout(parameters: QueryDict) -> LogoutRequest:
    """The request; raises BadLogout."""
    for name in ("id_token_hint", "client_id", "post_logout_redirect_uri", "state"):
        if len(parameters.getlist(name)) > 1:
            raise BadLogout(f"It named {name} twice.")
    hint = None
    if text := one(parameters, "id_token_hint"):
        try:
            hint = read_hint(text)
        except ValueError:
            raise BadLogout("Its id_token_hint is none of this server's.") from None
    client_id = one(parameters, "client_id")
    if hint and client_id and client_id != hint.client_id:
        raise BadLogout("Its client_id is not the one of its id_token_hint.")
    application = by_client_id(client_id or (hint.client_id if hint else ""))
    if client_id and application is None:
        raise BadLogout("It named an application that is not known here.")
    return LogoutRequest(application, hint, read_url(parameters, application))


def read_url(parameters: QueryDict, application: Application | None) -> str:
    """Where to go on, with the state; raises BadLogout where that is not registered."""
    uri = one(parameters, "post_logout_redirect_uri")
    if not uri:
        return ""
    registered = application.post_logout_redirect_uri_list if application else []
    public = application is not None and application.is_public
    if not redirects.is_registered(uri, registered, public=public):
        raise BadLogout(
            "It wanted to go on at an address (post_logout_redirect_uri) that is not registered."
        )
    return redirects.with_parameters(uri, {"state": one(parameters, "state")})


def end_hinted(asked: LogoutRequest) -> None:
    """End the session that the hint names, where it is open somewhere."""
    if asked.hint is None or asked.hint.sid is None:
        return
    for session in Session.objects.filter(sid=asked.hint.sid).select_related("user"):
        if asked.names(session):
            record("logout", subject=session.user, application=asked.application)
            end_session(session)
