"""The token endpoint of the registry protocol, in both its forms."""

import base64
import binascii
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from authserver.accounts.login import (
    UNREACHABLE,
    Credentials,
    LoginRefused,
    check_login,
    find_account,
)
from authserver.accounts.models import ServiceUser, User
from authserver.accounts.standing import NasUnreachable, still_good
from authserver.http import client
from authserver.registry import rights, tokens
from authserver.registry.keys import signing_key
from authserver.registry.models import DockerRegistry
from authserver.registry.scopes import parse_scopes
from authserver.waits import leave_after, results_of

# the codes of the protocol's error body (distribution, `docs/spec/api.md`)
CODES = {400: "UNSUPPORTED", 401: "UNAUTHORIZED", 429: "TOOMANYREQUESTS", 503: "UNAVAILABLE"}


class Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


@dataclass(frozen=True)
class Login:
    """Who asks, None for anybody; by which name, or which refresh token."""

    user: User | None
    name: str = ""
    refresh_token: str = ""


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def token(request: HttpRequest) -> HttpResponse:
    """A token with what is asked for and is allowed."""
    asked = request.POST if request.method == "POST" else request.GET
    try:
        key = signing_key(asked.get("service", ""))
        if key is None:
            raise Refused(400, "Unknown service: it is the client id of a registry")
        registry = key.registry
        login = login_of(request, asked, registry)
    except Refused as refusal:
        return error(refusal.status, refusal.text)
    except LoginRefused as refusal:
        # a right password whose account may not come in is 403 there, and this protocol's 401
        status = 401 if refusal.status == 403 else refusal.status
        response = error(status, refusal.text, refusal.retry_after)
        return leave_after(request, response, settings.ENV.refusal_seconds)
    scopes = parse_scopes(asked.getlist("scope"))
    answer = tokens.make_token(key, login.user, rights.access(registry, login.user, scopes))
    offline = asked.get("offline_token") == "true" or asked.get("access_type") == "offline"
    if login.refresh_token:
        answer["refresh_token"] = login.refresh_token
    elif offline and login.user:
        account, program = find_account(login.name), asked.get("client_id", "").replace("\0", "")
        answer["refresh_token"] = tokens.make_refresh_token(
            registry,
            login.user,
            account if isinstance(account, ServiceUser) else None,
            program,
            client(request),
        )
    return JsonResponse(answer)


def error(status: int, text: str, retry_after: int = 0) -> HttpResponse:
    body = {"errors": [{"code": CODES[status], "message": text, "detail": None}]}
    response = JsonResponse(body, status=status)
    if status == 401:
        response["WWW-Authenticate"] = f'Basic realm="{settings.BASE_URL}/docker/token/"'
    if retry_after:
        response["Retry-After"] = str(retry_after)
    return response


def login_of(request: HttpRequest, asked: QueryDict, registry: DockerRegistry) -> Login:
    """Who asks; raises Refused, LoginRefused or a Wait."""
    grant = asked.get("grant_type", "") if request.method == "POST" else ""
    if grant == "refresh_token":
        return by_refresh_token(request, registry, asked.get("refresh_token", ""))
    if grant == "password":
        pair = asked.get("username", ""), asked.get("password", "")
    elif grant:
        raise Refused(400, "grant_type is password or refresh_token")
    elif "Authorization" in request.headers:
        pair = read_basic(request.headers["Authorization"])
    else:
        return Login(None)
    given = Credentials(*pair, client(request), "docker")
    return Login(check_login(given, results_of(request), service_users=True), given.name)


def read_basic(header: str) -> tuple[str, str]:
    scheme, _, credentials = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise Refused(401, "Authorization is not HTTP Basic in UTF-8") from None
    name, _, password = text.partition(":")
    return name, password


def by_refresh_token(request: HttpRequest, registry: DockerRegistry, given: str) -> Login:
    row = tokens.find_refresh_token(registry, given)
    if row is None:
        raise Refused(401, "This login has ended: run docker login again")
    try:
        good = still_good(row.user, results_of(request))
    except NasUnreachable:
        raise LoginRefused(503, UNREACHABLE, 10) from None
    if not good:
        raise Refused(401, "This login has ended: the account is not active")
    return Login(row.user, refresh_token=given)
