"""What applications read about the server: its metadata and its keys."""

import json

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from authserver.accounts.models import STANDARD_SCOPES
from authserver.oidc import keys
from authserver.oidc.authorization import AUTHORIZE
from authserver.oidc.http import endpoint, everyone
from authserver.oidc.views.tokens import DEVICE_CODE

BASE = settings.BASE_URL
SECRETS = ["client_secret_basic", "client_secret_post"]
# OpenID Connect Discovery, 3; RFC 8414, 2; RFC 8628, 4; RFC 9207, 3; RP-Initiated Logout, 2.1
METADATA = {
    "issuer": BASE,
    "authorization_endpoint": f"{BASE}{AUTHORIZE}",
    "token_endpoint": f"{BASE}/o2/token/",
    "userinfo_endpoint": f"{BASE}/o2/userinfo/",
    "jwks_uri": f"{BASE}/o2/jwks/",
    "revocation_endpoint": f"{BASE}/o2/revoke_token/",
    "introspection_endpoint": f"{BASE}/o2/introspect/",
    "device_authorization_endpoint": f"{BASE}/o2/device_authorization/",
    "end_session_endpoint": f"{BASE}/o2/logout/",
    "scopes_supported": list(STANDARD_SCOPES),
    "response_types_supported": ["code"],
    "response_modes_supported": ["query"],
    "grant_types_supported": [
        "authorization_code",
        "refresh_token",
        "client_credentials",
        DEVICE_CODE,
    ],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["RS256"],
    "token_endpoint_auth_methods_supported": [*SECRETS, "none"],
    "revocation_endpoint_auth_methods_supported": [*SECRETS, "none"],
    "introspection_endpoint_auth_methods_supported": SECRETS,
    "code_challenge_methods_supported": ["S256"],
    "prompt_values_supported": ["none", "login", "consent", "select_account"],
    "claim_types_supported": ["normal"],
    "claims_supported": [
        *("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid", "amr"),
        *("name", "preferred_username", "updated_at", "email", "email_verified", "groups"),
        "permissions",
    ],
    "claims_parameter_supported": False,
    "request_parameter_supported": False,
    "request_uri_parameter_supported": False,
    "require_request_uri_registration": False,
    "authorization_response_iss_parameter_supported": True,
}
BODY = json.dumps(METADATA).encode()


@endpoint("GET", "HEAD", origins=everyone)
def metadata(request: HttpRequest) -> HttpResponse:
    return HttpResponse(BODY, content_type="application/json")


@endpoint("GET", "HEAD", origins=everyone)
def jwks(request: HttpRequest) -> HttpResponse:
    return JsonResponse(keys.jwks())
