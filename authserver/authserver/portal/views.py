"""The pages of who is signed in: his applications, data, password, service users and sessions."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from authserver.accounts import service_users as services
from authserver.accounts import sessions as browsers
from authserver.accounts.login import Credentials, LoginRefused, check_login
from authserver.accounts.models import User
from authserver.accounts.permissions import permission_labels
from authserver.accounts.users import set_password
from authserver.http import client
from authserver.oidc import consent
from authserver.oidc.applications import link_of, usable_by
from authserver.oidc.models import Application
from authserver.oidc.scopes import sentences
from authserver.portal.browsers import browser_of
from authserver.portal.forms import PasswordForm, ServiceUserForm
from authserver.registry.rights import places_of
from authserver.registry.tokens import end_refresh_token, logins_of
from authserver.waits import leave_after, results_of


def signed_in(request: HttpRequest) -> User:
    """Whose pages these are; behind `login_required` there is always somebody."""
    user = request.user
    if not isinstance(user, User):
        raise TypeError("nobody is signed in")
    return user


@login_required
@require_safe
def applications(request: HttpRequest) -> HttpResponse:
    found = []
    for application in usable_by(signed_in(request)):
        url = link_of(application)
        host = urlsplit(url).netloc
        found.append({"name": application.name, "icon": application.icon, "url": url, "host": host})
    page = {
        "page": "applications",
        "applications": found,
        "registries": places_of(signed_in(request)),
    }
    return render(request, "portal/applications.html", page)


@login_required
@require_safe
def registries(request: HttpRequest) -> HttpResponse:
    page = {"page": "registries", "places": places_of(signed_in(request))}
    return render(request, "portal/registries.html", page)


@login_required
@require_safe
def my_data(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    from_nas = user.source == User.NAS
    return render(
        request,
        "portal/my_data.html",
        {
            "page": "my-data",
            "from_nas": from_nas,
            "aliases": user.aliases.select_related("domain"),
            "groups": user.groups.all(),
            "nas_groups": settings.ENV.group_map.values() if from_nas else (),
            "permissions": permission_labels(user),
        },
    )


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """A new password, to who knows the one that he has; guesses count as at the sign-in."""
    user = signed_in(request)
    if user.source == User.NAS:
        return render(request, "portal/password.html", {"page": "password", "from_nas": True})
    form = PasswordForm(request.POST or None)
    page = {"page": "password", "form": form}
    if not form.is_valid():
        return render(request, "portal/password.html", page)
    current = form.cleaned_data["current"]
    given = Credentials(user.identifier, current, client(request), "password page")
    try:
        check_login(given, results_of(request))
    except LoginRefused as refusal:
        wrong = refusal.status == 401
        form.add_error("current", "This is not your password." if wrong else refusal.text)
        status = 200 if wrong else refusal.status
        response = render(request, "portal/password.html", page, status=status)
        return leave_after(request, response, settings.ENV.refusal_seconds)
    try:
        keep = browsers.session_of(request)
        set_password(user, form.cleaned_data["new"], user.identifier, keep)
    except ValidationError as error:
        form.add_error("new", error)
        return render(request, "portal/password.html", page)
    messages.success(request, "Your password is changed. Every other session has ended.")
    return redirect("password")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def service_users(request: HttpRequest) -> HttpResponse:
    """The list, and a form for another one.

    What it makes is shown in the answer itself, without a redirect: the password is kept nowhere.
    Sent twice, the form is refused the second time, as the name is taken.
    """
    user = signed_in(request)
    form = ServiceUserForm(request.POST or None, initial={"username": services.free_name(user)})
    page: dict[str, Any] = {"page": "service-users", "form": form}
    if form.is_valid():
        name, description = form.cleaned_data["username"], form.cleaned_data["description"]
        try:
            page["made"], page["password"] = services.create_service_user(
                user, name, description, user.identifier
            )
            return render(request, "portal/service_user_made.html", page)
        except ValidationError as error:
            form.add_error("username", error.messages)
    page["service_users"] = user.service_users.all()
    return render(request, "portal/service_users.html", page)


@login_required
@require_POST
def end_service_user(request: HttpRequest, number: int) -> HttpResponse:
    user = signed_in(request)
    service = get_object_or_404(user.service_users, pk=number)
    services.remove_service_user(service, user.identifier)
    messages.success(request, f"{service} has ended: its password opens nothing any more.")
    return redirect("service-users")


@login_required
@require_safe
def sessions(request: HttpRequest) -> HttpResponse:
    current = browsers.session_of(request)
    rows = [
        {
            "sid": each.sid,
            "browser": browser_of(each.user_agent),
            "client": each.client,
            "authenticated_at": each.authenticated_at,
            "last_used": each.last_used,
            "is_this": each == current,
        }
        for each in browsers.open_sessions(signed_in(request))
    ]
    rows.sort(key=lambda row: not row["is_this"])
    user = signed_in(request)
    accesses = [
        {
            "application": each.application,
            "sentences": sentences(each.scope),
            "since": each.since,
            "last_used": each.last_used,
        }
        for each in consent.accesses_of(user)
    ]
    page = {
        "page": "sessions",
        "sessions": rows,
        "accesses": accesses,
        "registry_logins": logins_of(user),
    }
    return render(request, "portal/sessions.html", page)


@login_required
@require_POST
def end_session(request: HttpRequest, sid: UUID) -> HttpResponse:
    user = signed_in(request)
    session = get_object_or_404(user.sessions, sid=sid)
    browsers.end_session_by(session, user.identifier)
    messages.success(request, f"{browser_of(session.user_agent)} is signed out.")
    return redirect("sessions")


@login_required
@require_POST
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    current = browsers.session_of(request)
    if current:
        browsers.end_others(current, signed_in(request).identifier)
    messages.success(request, "You are signed out everywhere else.")
    return redirect("sessions")


@login_required
@require_POST
def end_access(request: HttpRequest, client_id: str) -> HttpResponse:
    user = signed_in(request)
    application = get_object_or_404(Application, client_id=client_id)
    consent.take_back(user, application, user.identifier)
    messages.success(request, f"{application} has no access any more.")
    return redirect("sessions")


@login_required
@require_POST
def end_registry_login(request: HttpRequest, number: int) -> HttpResponse:
    user = signed_in(request)
    token = get_object_or_404(user.registry_tokens, pk=number)
    end_refresh_token(token, user.identifier)
    messages.success(request, f"The login at {token.registry} has ended.")
    return redirect("sessions")
