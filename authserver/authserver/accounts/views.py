"""Signing in and out, the first start, and setting a password by a link."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.http import require_http_methods, require_POST

from authserver import outbox
from authserver.accounts import invitations, nas, sessions, setup
from authserver.accounts.forms import LoginForm, NewPasswordForm, ResetForm, SetupForm
from authserver.accounts.login import WRONG, Credentials, LoginRefused, check_login
from authserver.accounts.resets import ask_for_reset
from authserver.http import client
from authserver.oidc.authorization import form_sources
from authserver.waits import leave_after, results_of


def next_url(request: HttpRequest) -> str:
    """Where to go on after signing in: only within `BASE_URL`, else the first page."""
    wanted: str = (request.POST.get("next") or request.GET.get("next") or "").strip()
    base = urlsplit(settings.BASE_URL)
    if not url_has_allowed_host_and_scheme(wanted, {base.netloc}) or wanted.startswith("//"):
        return "/"
    origin = urlsplit(wanted)[:2]  # Django would let pass another scheme, too
    return wanted if origin in (("", ""), base[:2]) else "/"


def login_page(request: HttpRequest, page: dict[str, Any], status: int = 200) -> HttpResponse:
    """The form. Browsers hold what sending it redirects to against the CSP as well, and that may
    be an application."""
    response = render(request, "accounts/login.html", page, status=status)
    response.form_action = form_sources(page["next"])  # type: ignore[attr-defined]
    return response


@require_http_methods(["GET", "HEAD", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    """The sign-in. A refusal is said at the form, and takes its time whatever its cause.

    Who is signed in may sign in again (prompt=login), so it does not send him on.
    """
    page: dict[str, Any] = {
        "next": next_url(request),
        "nas": nas.is_set_up(),
        "reset": reverse("password-reset"),
        "login": request.POST.get("login") or request.GET.get("login", ""),
    }
    if request.method != "POST":
        return login_page(request, page)
    form = LoginForm(request.POST)
    try:
        if not form.is_valid():
            raise LoginRefused(401, WRONG)
        given = Credentials(
            form.cleaned_data["login"], form.cleaned_data["password"], client(request), "web"
        )
        sessions.sign_in(request, check_login(given, results_of(request)))
    except LoginRefused as refusal:
        status = 200 if refusal.status == 401 else refusal.status
        page["error"] = refusal.text
        response = login_page(request, page, status)
        if refusal.retry_after:
            response["Retry-After"] = str(refusal.retry_after)
        return leave_after(request, response, settings.ENV.refusal_seconds)
    return redirect(next_url(request))


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    sessions.sign_out(request)
    return redirect("login")


def sign_in_as(identifier: str, next_page: str = "/") -> HttpResponse:
    """To the sign-in, with the name filled in."""
    return redirect(f"{reverse('login')}?{urlencode({'login': identifier, 'next': next_page})}")


@require_http_methods(["GET", "HEAD", "POST"])
def first_start(request: HttpRequest) -> HttpResponse:
    """The first administrator, for who has the link that `serve` has logged."""
    token = request.GET.get("token", "")
    if not setup.is_setup_token(token):
        raise Http404
    form = SetupForm(request.POST or None)
    if form.is_valid():
        try:
            user = setup.make_first(
                token,
                form.cleaned_data["identifier"],
                form.cleaned_data["fullname"],
                form.cleaned_data["password"],
            )
            return sign_in_as(user.identifier, reverse("admin:index"))
        except setup.Over:
            raise Http404 from None
        except ValidationError as error:
            form.add_error("identifier", error.messages)
    page: dict[str, Any] = {
        "title": "The first administrator",
        "text": "This account may do everything here: make others, and applications.",
        "form": form,
        "button": "Make this account",
    }
    return render(request, "form.html", page)


@require_http_methods(["GET", "HEAD", "POST"])
def password_reset(request: HttpRequest) -> HttpResponse:
    """A link for who has forgotten his password; the same answer for every name."""
    form = ResetForm(request.POST or None)
    if form.is_valid():
        ask_for_reset(form.cleaned_data["login"], client(request))
        sent = outbox.is_set_up()
        answer = {
            "title": "Look at your mail" if sent else "Ask your administrator",
            "text": SENT if sent else ASK,
            "link": "/",
            "link_text": "Sign in",
        }
        response = render(request, "error.html", answer)
        return leave_after(request, response, settings.ENV.refusal_seconds)
    page: dict[str, Any] = {
        "title": "Forgot your password?",
        "text": "You get a link by mail, with which you set a new one.",
        "form": form,
        "button": "Send me a link",
        "note": "The password of a NAS account is changed on the NAS." if nas.is_set_up() else "",
    }
    if not outbox.is_set_up():
        page |= {"text": "Your administrator gives you a link.", "button": "Ask for a link"}
    return render(request, "form.html", page)


SENT = (
    "If there is an account of that name here, and it has a mailbox, a link is on its way. "
    "It holds for 24 hours."
)
ASK = (
    "This server sends no mail. If there is an account of that name here, who administers it sees "
    "that you have asked, and can give you a link."
)


@require_http_methods(["GET", "HEAD", "POST"])
def password_set(request: HttpRequest, user_id: UUID, token: str) -> HttpResponse:
    """A new password, for who has a link of an invitation or a reset."""
    user = invitations.invited(user_id, token)
    if user is None:
        over = {
            "title": "This link holds no more",
            "text": "It was used, or is too old, or another one was made since. Ask for a new one.",
            "link": reverse("password-reset"),
            "link_text": "Ask for a new one",
        }
        return render(request, "error.html", over, status=404)
    form = NewPasswordForm(request.POST or None)
    if form.is_valid() and invitations.accept(user_id, token, form.cleaned_data["password"]):
        return sign_in_as(user.identifier)
    page: dict[str, Any] = {
        "title": "Set your password",
        "text": f"For {user.identifier} at {request.get_host()}.",
        "form": form,
        "button": "Set this password",
    }
    return render(request, "form.html", page)
