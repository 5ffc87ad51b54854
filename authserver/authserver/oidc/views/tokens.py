"""The endpoints for applications: token, revocation, introspection, device authorization."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from authserver.oidc import devices, tokens
from authserver.oidc.errors import OAuthError, bad_request, no_client
from authserver.oidc.http import client_and_form, endpoint, public_clients
from authserver.oidc.models import Application, Token
from authserver.waits import Results, results_of

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


def no_store(body: dict[str, Any]) -> HttpResponse:
    return JsonResponse(body, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


@endpoint("POST", origins=public_clients)
def token(request: HttpRequest) -> HttpResponse:
    application, form = client_and_form(request)
    return no_store(grant(application, form, results_of(request)))


def grant(application: Application, form: dict[str, str], results: Results) -> dict[str, Any]:
    """The answer to a token request (RFC 6749, 4.1.3, 4.4.2, 6; RFC 8628, 3.4)."""
    kind = form.get("grant_type", "")
    if not kind:
        raise bad_request("grant_type is missing.")
    if kind == "authorization_code":
        check_may(application.authorization_code)
        given = tokens.Exchange(
            needed(form, "code"), form.get("redirect_uri", ""), form.get("code_verifier", "")
        )
        return tokens.exchange_code(application, given, results)
    if kind == "refresh_token":
        check_may(application.authorization_code or application.device_code)
        token = needed(form, "refresh_token")
        return tokens.refresh(application, token, form.get("scope", ""), results)
    if kind == "client_credentials":
        check_may(application.client_credentials and not application.is_public)
        return tokens.client_credentials(application, form.get("scope", ""))
    if kind == DEVICE_CODE:
        check_may(application.device_code)
        return devices.redeem(application, needed(form, "device_code"), results)
    raise OAuthError("unsupported_grant_type", "There is no such grant_type here.")


def check_may(allowed: bool) -> None:
    if not allowed:
        raise OAuthError("unauthorized_client", "The client may not use this grant_type.")


def needed(form: dict[str, str], name: str) -> str:
    if name not in form:
        raise bad_request(f"{name} is missing.")
    return form[name]


@endpoint("POST", origins=public_clients)
def revoke(request: HttpRequest) -> HttpResponse:
    """RFC 7009. What is not known, or not any more, is revoked already."""
    application, form = client_and_form(request)
    tokens.revoke(application, needed(form, "token"))
    return HttpResponse()


@endpoint("POST")
def introspect(request: HttpRequest) -> HttpResponse:
    """RFC 7662, for confidential applications."""
    application, form = client_and_form(request)
    if application.is_public:
        raise no_client("Only a confidential client may ask.")
    row = tokens.find_live(needed(form, "token"), results_of(request))
    if row is None or not may_see(application, row):
        return no_store({"active": False})
    scope = tokens.scope_now(row)
    user = row.grant.user
    answer = {
        "active": True,
        "scope": " ".join(scope),
        "client_id": row.grant.application.client_id,
        "token_type": "Bearer" if row.kind == Token.ACCESS else "refresh_token",
        "exp": int(row.expires_at.timestamp()),
        "iat": int(row.created_at.timestamp()),
        "sub": str(user.pk) if user else row.grant.application.client_id,
        "iss": settings.BASE_URL,
    }
    if user:
        answer["username"] = user.identifier
    return no_store(answer)


def may_see(application: Application, row: Token) -> bool:
    """Its own tokens; a resource server also others' access tokens.

    Not their refresh tokens: one that looks at `active` alone would let them in as access tokens.
    """
    if row.grant.application_id == application.pk:
        return True
    return application.resource_server and row.kind == Token.ACCESS


@endpoint("POST")
def device_authorization(request: HttpRequest) -> HttpResponse:
    """RFC 8628, 3.1."""
    application, form = client_and_form(request)
    check_may(application.device_code)
    return no_store(devices.begin(application, form.get("scope", "")))
