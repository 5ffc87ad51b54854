"""`/o2/userinfo/`: what a token says about its user (OpenID Connect Core, 5.3; RFC 6750)."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from authserver.oidc import tokens
from authserver.oidc.claims import claims_of
from authserver.oidc.errors import OAuthError, bad_request
from authserver.oidc.http import body_form, endpoint, error_response, public_clients
from authserver.oidc.models import Token
from authserver.waits import results_of


class TokenRefused(Exception):
    """No token that counts here: the code of RFC 6750, 3.1; none where no token came at all."""

    def __init__(self, status: int, error: str = "", description: str = "") -> None:
        self.status, self.error, self.description = status, error, description


def bearer_of(request: HttpRequest) -> str:
    """The token, in the header or in the form of a POST; never in the query."""
    header = request.headers.get("Authorization", "")
    in_form = body_form(request).getlist("access_token")
    if len(in_form) > 1 or (header and in_form):
        raise bad_request("There is more than one token.")
    if in_form:
        return in_form[0]
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise TokenRefused(401)
    return token.strip()


@endpoint("GET", "POST", origins=public_clients)
def userinfo(request: HttpRequest) -> HttpResponse:
    try:
        row = tokens.find_live(bearer_of(request), results_of(request), Token.ACCESS)
        if row is None:
            raise TokenRefused(401, "invalid_token", "The token is unknown, or it has ended.")
        scope = tokens.scope_now(row)
        if row.grant.user is None or "openid" not in scope:
            raise TokenRefused(403, "insufficient_scope", "The token lacks the scope openid.")
    except TokenRefused as refusal:
        return refused(refusal)
    except OAuthError as error:
        response = error_response(error)
        if error.retry_after:
            return response
        return with_challenge(response, error.error, error.description)
    return JsonResponse(claims_of(row.grant.user, scope))


def refused(refusal: TokenRefused) -> HttpResponse:
    body = {"error": refusal.error, "error_description": refusal.description}
    response = JsonResponse(body if refusal.error else {}, status=refusal.status)
    return with_challenge(response, refusal.error, refusal.description)


def with_challenge(response: HttpResponse, error: str, description: str) -> HttpResponse:
    challenge = f'Bearer realm="{settings.BASE_URL}"'
    if error:
        challenge += f', error="{error}", error_description="{description}"'
    if error == "insufficient_scope":
        challenge += ', scope="openid"'
    response["WWW-Authenticate"] = challenge
    return response
