"""`/o2/authorize/`, and the pages on its way: consent, and what a user lacks."""

from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from django.core import signing
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from authserver.accounts.sessions import session_of
from authserver.audit.record import record
from authserver.http import client, csrf_failure
from authserver.oidc import consent
from authserver.oidc.authorization import (
    AUTHORIZE,
    BadClient,
    ConsentNeeded,
    PermissionMissing,
    SignInNeeded,
    Target,
    decide,
    make_code,
    mark_asked,
    one,
    read_asked,
    read_request,
    read_target,
)
from authserver.oidc.errors import OAuthError
from authserver.oidc.http import lacks_cookies, redirect_to
from authserver.oidc.redirects import form_source
from authserver.oidc.scopes import named, sentences

ASKED_AT = "asked_at"  # our own parameter: when the user was sent to the sign-in
QUESTION = "authserver.oidc.consent"  # the salt of what a consent form brings back
QUESTION_SECONDS = 3600
DENIED = OAuthError("access_denied", "The user did not agree.")
LACKING = OAuthError("access_denied", "The user lacks a permission.")


@csrf_exempt  # an application's page may send the request as a form (OpenID Core, 3.1.2.1)
@require_http_methods(["GET", "POST"])
def authorize(request: HttpRequest) -> HttpResponse:
    parameters = request.GET.copy()
    parameters.update(request.POST)
    if lacks_cookies(request):
        return redirect_to(request, f"{AUTHORIZE}?{parameters.urlencode()}")
    return answer(request, parameters, agreed=())


def answer(request: HttpRequest, parameters: QueryDict, agreed: Iterable[str]) -> HttpResponse:
    """A code or an error to the application, or the page that the user needs first."""
    try:
        target = read_target(parameters)
    except BadClient as error:
        return bad_client(request, str(error))
    session = session_of(request)
    try:
        asked = read_request(target, parameters)
        scope = decide(asked, session, read_asked(one(parameters, ASKED_AT)), agreed)
        assert session  # noqa: S101  (else a sign-in was needed)
        code = make_code(asked, session, scope, client=client(request))
    except OAuthError as error:
        return redirect_to(request, target.refusal(error))
    except SignInNeeded:
        return to_sign_in(request, parameters)
    except PermissionMissing as missing:
        return forbidden(request, target, [named(each) for each in missing.permissions])
    except ConsentNeeded as needed:
        return ask_consent(request, target, parameters, needed.scope)
    return redirect_to(request, target.url(code=code))


def bad_client(request: HttpRequest, text: str) -> HttpResponse:
    page = {
        "title": "This sign-in cannot go on",
        "text": f"The application sent a request that cannot be answered. {text} "
        "Tell who runs the application.",
    }
    return render(request, "error.html", page, status=400)


def to_sign_in(request: HttpRequest, parameters: QueryDict) -> HttpResponse:
    """To the sign-in, and from there back to this request, with the moment in it."""
    again = parameters.copy()
    again[ASKED_AT] = mark_asked()
    query = {"next": f"{AUTHORIZE}?{again.urlencode()}"}
    if hint := one(parameters, "login_hint"):
        query["login"] = hint
    return redirect_to(request, f"{reverse('login')}?{urlencode(query)}")


def forbidden(request: HttpRequest, target: Target, missing: list[str]) -> HttpResponse:
    record(
        "grant.refused",
        subject=request.user,
        application=target.application,
        client=client(request),
        missing=missing,
    )
    page = {
        "application": target.application.name,
        "missing": missing,
        "back": target.refusal(LACKING),
    }
    return render(request, "oidc/forbidden.html", page, status=403)


def ask_consent(
    request: HttpRequest, target: Target, parameters: QueryDict, scope: list[str]
) -> HttpResponse:
    session = session_of(request)
    question = {
        "query": parameters.urlencode(),
        "sid": str(session.sid) if session else "",
        "scope": scope,
    }
    page = {
        "application": target.application.name,
        "sentences": sentences(scope),
        "host": urlsplit(target.redirect_uri).netloc,
        "fields": [("question", signing.dumps(question, salt=QUESTION, compress=True))],
    }
    response = render(request, "oidc/consent.html", page)
    response.form_action = [form_source(target.redirect_uri)]  # type: ignore[attr-defined]
    return response


@require_POST
def agree(request: HttpRequest) -> HttpResponse:
    """What the user says at the consent form."""
    try:
        text = request.POST.get("question", "")
        question = signing.loads(text, salt=QUESTION, max_age=QUESTION_SECONDS)
    except signing.BadSignature:
        return csrf_failure(request)  # it was open for too long
    parameters = QueryDict(question["query"])
    session = session_of(request)
    if session is None or session.user is None or str(session.sid) != question["sid"]:
        return redirect_to(request, f"{AUTHORIZE}?{parameters.urlencode()}")
    try:
        target = read_target(parameters)
    except BadClient as error:
        return bad_client(request, str(error))
    if request.POST.get("allow") != "yes":
        record(
            "grant.refused",
            subject=session.user,
            application=target.application,
            client=client(request),
            why="the user did not agree",
        )
        return redirect_to(request, target.refusal(DENIED))
    consent.give(session.user, target.application, question["scope"])
    return answer(request, parameters, agreed=question["scope"])
