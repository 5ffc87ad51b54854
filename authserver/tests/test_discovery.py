"""Metadata, keys and their rotation, and which origins may call (Discovery; RFC 8414; CORS)."""

import datetime
from typing import Any

import httpx
import jwt
import pytest

from tests.relying_party import RelyingParty, query_of, signed_in
from tests.server import Server

CONFIGURATION = "/.well-known/openid-configuration"
JWKS = "/o2/jwks/"


def get(server: Server, path: str, **headers: str) -> httpx.Response:
    return httpx.get(server.base + path, headers=headers, trust_env=False, timeout=60)


def kids(server: Server) -> list[str]:
    return [key["kid"] for key in get(server, JWKS).json()["keys"]]


def test_both_addresses_say_the_truth(server: Server) -> None:
    found = get(server, CONFIGURATION).json()
    assert get(server, "/.well-known/oauth-authorization-server").json() == found
    assert found["issuer"] == server.base
    assert found["response_types_supported"] == ["code"]
    assert found["response_modes_supported"] == ["query"]
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["id_token_signing_alg_values_supported"] == ["RS256"]
    assert found["subject_types_supported"] == ["public"]
    assert set(found["scopes_supported"]) == {
        *("openid", "profile", "email", "groups", "offline_access"),
    }
    assert set(found["grant_types_supported"]) == {
        "authorization_code",
        "refresh_token",
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:device_code",
    }
    methods = {"client_secret_basic", "client_secret_post"}
    assert set(found["token_endpoint_auth_methods_supported"]) == methods | {"none"}
    assert set(found["introspection_endpoint_auth_methods_supported"]) == methods
    assert found["authorization_response_iss_parameter_supported"] is True
    for name in ("claims", "request", "request_uri"):
        assert found[f"{name}_parameter_supported"] is False


def test_each_endpoint_that_is_named_is_there(server: Server) -> None:
    found = get(server, CONFIGURATION).json()
    named = {k: v for k, v in found.items() if k.endswith(("_endpoint", "_uri"))}
    assert len(named) == 8
    for name, url in named.items():
        assert url.startswith(server.base + "/"), name
        answer = httpx.request("GET", url, trust_env=False, timeout=60)
        assert answer.status_code in (200, 400, 401, 405), (name, answer.status_code)


def test_permissions_are_no_supported_scopes(server: Server) -> None:
    from authserver.accounts.models import Permission

    with server.database():
        Permission.objects.create(name="secret project", permission_name="project.secret")
    assert "project.secret" not in get(server, CONFIGURATION).text


def test_a_key_is_rsa_with_its_thumbprint_and_without_its_private_half(server: Server) -> None:
    (key,) = get(server, JWKS).json()["keys"]
    assert set(key) == {"kty", "use", "alg", "kid", "n", "e"}
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    assert jwt.PyJWK(key).key.key_size >= 2048
    assert get(server, JWKS).headers["Content-Type"] == "application/json"


def test_discovery_and_keys_are_for_every_origin(server: Server) -> None:
    for path in (CONFIGURATION, "/.well-known/oauth-authorization-server", JWKS):
        answer = get(server, path, Origin="https://any.example")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert get(server, path).headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers


ENDPOINTS = ("/o2/token/", "/o2/userinfo/", "/o2/revoke_token/")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_scripts_of_a_public_clients_origin_may_call(server: Server, path: str) -> None:
    port = 8443
    RelyingParty(
        server,
        client_type="public",
        redirect_uris=[f"https://spa.example:{port}/cb", "https://SPA2.example:443/cb"],
    )
    RelyingParty(server, redirect_uris=["https://secret.example/cb"])

    def allowed(origin: str) -> str | None:
        preflight = httpx.options(
            server.base + path,
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
            trust_env=False,
            timeout=60,
        )
        answer = httpx.post(
            server.base + path, headers={"Origin": origin}, trust_env=False, timeout=60
        )
        assert preflight.status_code == 204
        for each in (preflight, answer):
            assert "Origin" in each.headers["Vary"]
            assert "Access-Control-Allow-Credentials" not in each.headers
        name = "Access-Control-Allow-Origin"
        assert answer.headers.get(name) == preflight.headers.get(name)
        if name in preflight.headers:
            assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
        found: str | None = answer.headers.get(name)
        return found

    assert allowed("https://spa.example:8443") == "https://spa.example:8443"
    assert allowed("https://spa2.example") == "https://spa2.example"
    for origin in (
        "https://spa.example",
        "https://spa.example:844",
        "http://spa.example:8443",
        "https://secret.example",
        "https://evil.example",
        "null",
        "https://a.spa.example:8443",
    ):
        assert allowed(origin) is None


def test_other_endpoints_are_for_no_origin(server: Server) -> None:
    for path in ("/o2/introspect/", "/o2/device_authorization/", "/o2/authorize/", "/o2/logout/"):
        answer = get(server, path, Origin="https://spa.example:8443")
        assert "Access-Control-Allow-Origin" not in answer.headers


# --- Keys ----------------------------------------------------------------------------------------


def earlier(server: Server, **by: int) -> None:
    """Let all keys have been made and begun to sign earlier."""
    from authserver.oidc.models import SigningKey

    with server.database():
        for key in SigningKey.objects.order_by("signs_from"):
            key.signs_from -= datetime.timedelta(**by)
            key.save()


def rotate(server: Server, **how: Any) -> str:
    from authserver.oidc import keys

    with server.database():
        return keys.rotate(**how).kid


def test_a_new_key_is_published_signs_an_hour_later_and_the_old_one_goes_after_another(
    serve: Any,
) -> None:
    server: Server = serve()
    application, browser = RelyingParty(server, skip_authorization=True), signed_in(server)

    def signs() -> str:
        token = application.tokens(browser)["id_token"]
        application.claims(token)  # by a key that is published
        found: str = jwt.get_unverified_header(token)["kid"]
        return found

    (old,) = kids(server)
    hint = application.tokens(browser)["id_token"]
    new = rotate(server)
    assert set(kids(server)) == {old, new}
    assert signs() == old
    earlier(server, minutes=59)
    assert signs() == old
    earlier(server, minutes=2)
    assert signs() == new
    assert set(kids(server)) == {old, new}
    earlier(server, minutes=57)
    assert set(kids(server)) == {old, new}
    earlier(server, minutes=3)
    assert kids(server) == [new]
    # a hint of the retired key is still understood
    assert "code" in query_of(browser.get(application.url(id_token_hint=hint, prompt="none")))


def test_now_signs_at_once_and_lets_no_waiting_key_come(serve: Any) -> None:
    server: Server = serve()
    application, browser = RelyingParty(server, skip_authorization=True), signed_in(server)
    (old,) = kids(server)
    waiting = rotate(server)
    new = rotate(server, now=True)
    token = application.tokens(browser)["id_token"]
    assert jwt.get_unverified_header(token)["kid"] == new
    assert set(kids(server)) == {old, new}
    assert waiting not in kids(server)


def test_the_private_half_of_a_key_that_signs_no_more_is_deleted(serve: Any) -> None:
    from authserver.oidc import keys
    from authserver.oidc.models import SigningKey

    server: Server = serve()
    (old,) = kids(server)
    new = rotate(server)
    with server.database():
        assert keys.forget_private_keys() == 0
        states = {key.kid: keys.state_of(key) for key in SigningKey.objects.all()}
        assert states == {old: "signs", new: "next"}
    earlier(server, minutes=61)
    with server.database():
        assert keys.forget_private_keys() == 1
        assert SigningKey.objects.get(kid=old).private_pem == ""
        assert SigningKey.objects.get(kid=new).private_pem
        states = {key.kid: keys.state_of(key) for key in SigningKey.objects.all()}
        assert states == {old: "published", new: "signs"}
    assert set(kids(server)) == {old, new}
