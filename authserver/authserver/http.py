"""What holds for every request and response: the public address, the client, the headers."""

import ipaddress
import sys
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from django.conf import settings
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
)
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from authserver.environment import Network

GetResponse = Callable[[HttpRequest], HttpResponse]
ANY_HOST = ("/health/",)


def read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address without a zone, IPv4-mapped ones as IPv4; ValueError for anything else."""
    if "%" in text:
        raise ValueError("an address with a zone")
    address = ipaddress.ip_address(text.strip())
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(address: str, networks: tuple[Network, ...]) -> bool:
    if not networks:
        return False
    try:
        found = read_address(address)
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in networks)


def client_of(peer: str, forwarded: str, networks: tuple[Network, ...]) -> str:
    """The client's address: the rightmost of X-Forwarded-For that is not a trusted proxy's.

    `peer` itself where it is not trusted; where all are, or one cannot be read, the last good one.
    """
    client = peer
    for hop in reversed(forwarded.split(",")):
        if not is_trusted(client, networks):
            break
        try:
            client = str(read_address(hop))
        except ValueError:
            break
    return client


def network_of(client: str) -> str:
    """What failures are counted by: the address; IPv6: its /64."""
    try:
        address = read_address(client)
    except ValueError:
        return client[:49]
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def client(request: HttpRequest) -> str:
    found: str = request.META["authserver.client"]
    return found


def is_from_proxy(request: HttpRequest) -> bool:
    return bool(request.META["authserver.from_proxy"])


class PublicAddress:
    """Answers only requests for `BASE_URL`'s host and port; knows the client and the scheme."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        url = urlsplit(settings.BASE_URL)
        self.host = url.netloc
        self.with_port = f"{url.netloc}:{443 if url.scheme == 'https' else 80}"
        self.networks: tuple[Network, ...] = settings.ENV.trusted_proxies or ()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        meta = request.META
        peer = meta.get("REMOTE_ADDR", "")
        trusted = is_trusted(peer, self.networks)
        meta["authserver.from_proxy"] = trusted
        meta["authserver.client"] = client_of(
            peer, meta.get("HTTP_X_FORWARDED_FOR", ""), self.networks
        )
        told = meta.get("HTTP_X_FORWARDED_PROTO", "").strip().lower() if trusted else ""
        scheme = "https" if told == "https" else "http"
        request._get_scheme = lambda: scheme  # type: ignore[attr-defined]
        host = meta.get("HTTP_HOST", "").lower()
        if host not in (self.host, self.with_port) and request.path not in ANY_HOST:
            return HttpResponse(
                f"This server answers at {settings.BASE_URL} only.\n",
                content_type="text/plain; charset=utf-8",
                status=400,
            )
        return self.get_response(request)


CSP = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "script-src": "'self'",
    "connect-src": "'self'",
    "font-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}


def policy(form_action: Iterable[str] = ()) -> str:
    """The Content-Security-Policy, with origins that a form may go to beside our own."""
    directives = {**CSP, "form-action": " ".join([CSP["form-action"], *form_action])}
    return "; ".join(f"{name} {value}" for name, value in directives.items())


POLICY = policy()


class SecurityHeaders:
    """The headers of every response. A view may widen its own `form-action` by `form_action`."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        widened: Iterable[str] = getattr(response, "form_action", ())
        response.setdefault("Content-Security-Policy", policy(widened) if widened else POLICY)
        if not response.streaming:
            response.setdefault("Content-Length", str(len(response.content)))
        response.setdefault("X-Content-Type-Options", "nosniff")
        response.setdefault("X-Frame-Options", "DENY")
        response.setdefault("Referrer-Policy", "same-origin")
        response.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        if not request.path.startswith(settings.STATIC_URL):
            response.setdefault("Cache-Control", "no-store")
        if settings.HTTPS:
            response.setdefault("Strict-Transport-Security", "max-age=31536000")
        return response


def server_error(request: HttpRequest) -> HttpResponse:
    """The page of an error that nobody expected; 503 where the database is down or too busy."""
    error = sys.exc_info()[1]
    ours = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
    if not isinstance(error, DatabaseError | InterfaceError) or isinstance(error, ours):
        return render(request, "500.html", status=500)
    page = {"title": "This cannot be done right now", "text": "Try again in a minute."}
    response = render(request, "error.html", page, status=503)
    response["Retry-After"] = "10"
    return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The page where a form's token is missing: it was open too long, or cookies are off."""
    return render(
        request,
        "error.html",
        {
            "title": "This form is out of date",
            "text": (
                "Go back, load the page again, and send the form once more. "
                "Cookies must be allowed here."
            ),
        },
        status=403,
    )
