"""Which application sends a request: client authentication (RFC 6749, 2.3)."""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_plus

from authserver.oidc.applications import by_client_id, is_secret
from authserver.oidc.errors import bad_request, no_client
from authserver.oidc.models import Application

# What the endpoints for programs need of an application: naming the columns halves what the query
# costs; any other is fetched when it is asked for.
CLIENTS = Application.objects.only(
    *("client_id", "name", "secret_digest", "client_type", "resource_server"),
    *("authorization_code", "client_credentials", "device_code"),
)


def read_basic(header: str) -> tuple[str, str]:
    """Client id and secret of a Basic header, form-decoded (RFC 6749, 2.3.1)."""
    kind, _, rest = header.partition(" ")
    try:
        text = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
    except (ValueError, binascii.Error):
        raise no_client("The Authorization header cannot be read.") from None
    client_id, colon, secret = text.partition(":")
    if kind.lower() != "basic" or not colon:
        raise no_client("The Authorization header must be Basic.")
    return unquote_plus(client_id), unquote_plus(secret)


def authenticate(form: Mapping[str, str], header: str) -> Application:
    """The application that proves itself by `client_secret_basic` or `client_secret_post`, or,
    where it is public, names itself; raises OAuthError."""
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    if header:
        if secret:
            raise bad_request("There are two client secrets, in the header and in the body.")
        named = client_id
        client_id, secret = read_basic(header)
        if named and named != client_id:
            raise bad_request("The client_id in the body is not the one in the header.")
    if not client_id:
        raise no_client("There is no client_id.")
    application = by_client_id(client_id, CLIENTS)
    if application is None:
        raise no_client("There is no such client, or its secret is wrong.")
    if application.is_public:
        if secret:
            raise no_client("There is no such client, or its secret is wrong.")
        return application
    if not is_secret(application, secret):
        raise no_client("There is no such client, or its secret is wrong.")
    return application
