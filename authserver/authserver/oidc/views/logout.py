"""`/o2/logout/`: RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0)."""

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from authserver.accounts.sessions import session_of, sign_out
from authserver.http import csrf_failure
from authserver.oidc.http import lacks_cookies, redirect_to
from authserver.oidc.logout import BadLogout, LogoutRequest, end_hinted, read_logout
from authserver.oidc.redirects import form_source

QUESTION = "authserver.oidc.logout"  # the salt of what the question brings back
QUESTION_SECONDS = 3600


@csrf_exempt  # an application's page may send the request as a form
@require_http_methods(["GET", "POST"])
def logout(request: HttpRequest) -> HttpResponse:
    """End the session that the hint names; ask before the browser's ends, where that is another."""
    parameters = request.GET.copy()
    parameters.update(request.POST)
    if lacks_cookies(request):
        return redirect_to(request, f"{reverse('rp-logout')}?{parameters.urlencode()}")
    try:
        asked = read_logout(parameters)
    except BadLogout as error:
        return bad_logout(request, str(error))
    session = session_of(request)
    if session and asked.names(session):
        sign_out(request)
        return gone_on(request, asked.url)
    end_hinted(asked)
    if session is None:
        return gone_on(request, asked.url)
    return ask(request, asked, str(session.sid))


def bad_logout(request: HttpRequest, text: str) -> HttpResponse:
    page = {
        "title": "This sign-out cannot go on",
        "text": f"The application sent a request that cannot be answered. {text} "
        "You are not signed out here.",
    }
    return render(request, "error.html", page, status=400)


def ask(request: HttpRequest, asked: LogoutRequest, sid: str) -> HttpResponse:
    question = signing.dumps({"url": asked.url, "sid": sid}, salt=QUESTION)
    page = {
        "application": asked.application.name if asked.application else "",
        "fields": [("question", question)],
    }
    response = render(request, "oidc/logout.html", page)
    if asked.url:
        response.form_action = [form_source(asked.url)]  # type: ignore[attr-defined]
    return response


@require_POST
def confirm(request: HttpRequest) -> HttpResponse:
    """What the user says at the question."""
    try:
        text = request.POST.get("question", "")
        question = signing.loads(text, salt=QUESTION, max_age=QUESTION_SECONDS)
    except signing.BadSignature:
        return csrf_failure(request)
    session = session_of(request)
    if request.POST.get("allow") != "yes":
        return redirect("/")
    if session and str(session.sid) == question["sid"]:
        sign_out(request)
    return gone_on(request, question["url"])


def gone_on(request: HttpRequest, url: str) -> HttpResponse:
    if url:
        return redirect_to(request, url)
    return render(request, "oidc/signed_out.html")
