"""The questions of the benchmark, and the accounts and codes that they need."""

import datetime
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from django.utils import timezone

from authserver.accounts.addresses import create_domain
from authserver.accounts.groups import create_permission
from authserver.accounts.models import Session
from authserver.accounts.service_users import create_service_user
from authserver.accounts.sessions import digest_of
from authserver.accounts.users import create_user
from authserver.domains.keys import make_key
from authserver.oidc.applications import create_application
from authserver.oidc.models import Application, Grant
from authserver.oidc.tokens import s256
from authserver.registry.registries import create_registry
from bench.bench import REQUESTS, ROUNDS, basic, check

CALLBACK = "https://app.example.org/callback"
VERIFIER = "v" * 43


def make_codes(application: Application, session: Session, number: int) -> Iterator[str]:
    """So many authorization codes, as a browser would have brought them."""
    codes = [secrets.token_urlsafe(32) for _ in range(number)]
    life = timezone.now() + datetime.timedelta(days=1)
    Grant.objects.bulk_create(
        Grant(
            application=application,
            user=session.user,
            session=session,
            offline=True,
            scope="openid profile offline_access",
            authenticated_at=timezone.now(),
            amr="pwd",
            code_digest=digest_of(code),
            redirect_uri=CALLBACK,
            code_challenge=s256(VERIFIER),
            expires_at=life,
        )
        for code in codes
    )
    return iter(codes)


def make_questions(base: str) -> tuple[httpx.Client, dict[str, Callable[[int], None]]]:
    http = httpx.Client(timeout=30, trust_env=False)
    user = create_user("maria", "Maria Example", "bench", password="a long password")  # noqa: S106
    service, password = create_service_user(user, "scanner", "", "bench")
    domain = create_domain("localhost", "bench")
    make_key(domain, "jwt", "bench")
    create_registry("bench", name="R", client_id="r", domain=domain, user_namespaces=True)
    permission = create_permission("photos", "Photos", "bench")
    application, secret = create_application(
        "bench",
        "bench",
        redirect_uris=[CALLBACK],
        grant_types=["authorization-code", "client-credentials"],
    )
    application.permissions.add(permission)
    life = timezone.now() + datetime.timedelta(days=1)
    session = Session.objects.create(digest="bench", user=user, expires_at=life)
    codes = make_codes(application, session, ROUNDS * REQUESTS + 1)
    header = basic(application.client_id, secret)
    tokens: dict[str, Any] = {}

    def token(**form: str) -> dict[str, Any]:
        answer = http.post(f"{base}/o2/token/", data=form, headers=header)
        check(answer)
        found: dict[str, Any] = answer.json()
        return found

    def exchange(_: int) -> None:
        found = token(
            grant_type="authorization_code",
            code=next(codes),
            redirect_uri=CALLBACK,
            code_verifier=VERIFIER,
        )
        tokens.setdefault("access", found["access_token"])
        tokens.setdefault("refresh", found["refresh_token"])

    def refresh(_: int) -> None:
        found = token(grant_type="refresh_token", refresh_token=tokens["refresh"])
        tokens["refresh"] = found["refresh_token"]

    def credentials(_: int) -> None:
        token(grant_type="client_credentials")

    def get(path: str) -> Callable[[int], None]:
        return lambda _: check(http.get(base + path))

    def userinfo(_: int) -> None:
        bearer = {"Authorization": f"Bearer {tokens['access']}"}
        check(http.get(f"{base}/o2/userinfo/", headers=bearer))

    def introspect(_: int) -> None:
        form = {"token": tokens["access"]}
        check(http.post(f"{base}/o2/introspect/", data=form, headers=header))

    def checkpassword(_: int) -> None:
        fields = {"username": service.username, "password": password}
        check(http.post(f"{base}/checkpassword/", json=fields))

    def without_password(_: int) -> None:
        bearer = {"Authorization": f"Bearer {'x' * 16}"}
        check(http.post(f"{base}/checkpassword/", json={"username": "maria"}, headers=bearer))

    def docker(_: int) -> None:
        query = "service=r&scope=repository:maria/app:pull,push"
        login = basic(service.username, password)
        check(http.get(f"{base}/docker/token/?{query}", headers=login))

    return http, {
        "code exchange": exchange,
        "refresh": refresh,
        "discovery": get("/.well-known/openid-configuration"),
        "JWKS": get("/o2/jwks/"),
        "userinfo": userinfo,
        "introspection": introspect,
        "client credentials": credentials,
        "/checkpassword/, service user": checkpassword,
        "/checkpassword/, no password": without_password,
        "Docker token, service user": docker,
    }
