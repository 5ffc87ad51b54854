"""`/device/`: where a user types the code that a device shows, and lets it in or not."""

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from authserver.accounts.models import Session, User
from authserver.accounts.sessions import session_of
from authserver.accounts.throttle import Throttled
from authserver.audit.record import record
from authserver.http import client
from authserver.oidc import devices
from authserver.oidc.http import redirect_to
from authserver.oidc.models import DeviceCode
from authserver.oidc.scopes import missing_permissions, named, scope_of_user, sentences
from authserver.waits import results_of

UNKNOWN = (
    "No device waits under this code. Look at the device again: a code is good for 10 minutes."
)


@require_http_methods(["GET", "POST"])
def device(request: HttpRequest) -> HttpResponse:
    """The form, then the question (also for a code that came with the address), then the answer."""
    code = request.POST.get("user_code") or request.GET.get("user_code") or ""
    session = session_of(request)
    if session is None or session.user is None:
        here = reverse("device") + (f"?{urlencode({'user_code': code})}" if code else "")
        return redirect_to(request, f"{reverse('login')}?{urlencode({'next': here})}")
    if not code:
        return render(request, "oidc/device.html", {"code": ""})
    try:
        row = devices.find(session.user, code, results_of(request))
    except devices.UnknownCode:
        return render(request, "oidc/device.html", {"code": code[:20], "error": UNKNOWN})
    except Throttled as error:
        return throttled(request, error.retry_after)
    return ask_or_decide(request, row, session, session.user, devices.shown(devices.plain(code)))


def ask_or_decide(
    request: HttpRequest, row: DeviceCode, session: Session, user: User, code: str
) -> HttpResponse:
    said = request.POST.get("allow")
    page = {"application": row.application.name, "allowed": False}
    if said == "no":
        devices.deny(row, user)
        return render(request, "oidc/device_done.html", page)
    missing = missing_permissions(row.application, user)
    scope = scope_of_user(row.scope.split(), user)
    if missing or not scope:
        return forbidden(request, row, [named(each) for each in missing])
    if said != "yes":
        page |= {"code": code, "sentences": sentences(scope)}
        return render(request, "oidc/device_confirm.html", page)
    page["allowed"] = devices.allow(row, session, scope)
    return render(request, "oidc/device_done.html", page)


def forbidden(request: HttpRequest, row: DeviceCode, missing: list[str]) -> HttpResponse:
    """The user lacks what the application requires, or everything that the device asks for."""
    missing = missing or row.scope.split()
    record(
        "grant.refused",
        subject=request.user,
        application=row.application,
        client=client(request),
        missing=missing,
    )
    page = {"application": row.application.name, "missing": missing}
    return render(request, "oidc/forbidden.html", page, status=403)


def throttled(request: HttpRequest, seconds: int) -> HttpResponse:
    minutes = max(1, -(-seconds // 60))
    unit = "minute" if minutes == 1 else "minutes"
    page = {"code": "", "error": f"Too many wrong codes. Try again in {minutes} {unit}."}
    response = render(request, "oidc/device.html", page, status=429)
    response["Retry-After"] = str(seconds)
    return response
