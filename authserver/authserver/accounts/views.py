"""Signing in and out."""

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from authserver.accounts import nas, sessions
from authserver.accounts.login import WRONG, Credentials, LoginRefused, check_login
from authserver.http import client
from authserver.oidc.authorization import form_sources
from authserver.waits import leave_after, results_of


class LoginForm(forms.Form):
    login = forms.CharField(label="Name or e-mail address", max_length=1000)
    password = forms.CharField(max_length=5000, strip=False, widget=forms.PasswordInput)


def next_url(request: HttpRequest) -> str:
    """Where to go on after signing in: only within `BASE_URL`, else the first page."""
    wanted: str = request.POST.get("next") or request.GET.get("next") or ""
    host = request.get_host()
    if url_has_allowed_host_and_scheme(wanted, {host}, require_https=settings.HTTPS):
        return wanted
    return "/"


def form_page(request: HttpRequest, page: dict[str, Any], status: int = 200) -> HttpResponse:
    """The form. Sending it may end at the application that the user wants to go on to."""
    response = render(request, "accounts/login.html", page, status=status)
    response.form_action = form_sources(page["next"])  # type: ignore[attr-defined]
    return response


@require_http_methods(["GET", "HEAD", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    """The sign-in. A refusal is said at the form, and takes its time whatever its cause."""
    page = {"next": next_url(request), "nas": nas.is_set_up(), "login": ""}
    if request.method != "POST":
        page["login"] = request.GET.get("login", "")
        return form_page(request, page)
    form = LoginForm(request.POST)
    page["login"] = request.POST.get("login", "")
    try:
        if not form.is_valid():
            raise LoginRefused(401, WRONG)
        given = Credentials(
            form.cleaned_data["login"], form.cleaned_data["password"], client(request), "web"
        )
        user = check_login(given, results_of(request))
    except LoginRefused as refusal:
        status = 200 if refusal.status == 401 else refusal.status
        response = form_page(request, {**page, "error": refusal.text}, status)
        if refusal.retry_after:
            response["Retry-After"] = str(refusal.retry_after)
        return leave_after(request, response, settings.ENV.refusal_seconds)
    sessions.sign_in(request, user)
    return redirect(next_url(request))


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    sessions.sign_out(request)
    return redirect("login")
