"""What a server is asked: the questions, and the accounts and codes that they need."""

import datetime
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.served import basic, check

Ask = Callable[[], None]
CALLBACK = "https://app.example.org/callback"
VERIFIER = "v" * 43
SCOPE = "openid profile offline_access"
PASSWORD = "a long password"
DOCKER = "/docker/token/?service=r&scope=repository:maria/app:pull,push"
TOKEN = "t" * 16  # of `/checkpassword/` without a password


@dataclass(frozen=True)
class Client:
    """An application at a provider: its credentials, its endpoints, codes to exchange."""

    client_id: str
    secret: str
    codes: list[str]
    token: str = "/o2/token/"
    userinfo: str = "/o2/userinfo/"
    introspect: str = "/o2/introspect/"


@dataclass(frozen=True)
class Made:
    """What is in a database for the questions."""

    client: Client
    service_user: str
    service_password: str
    cookie: str = field(repr=False)  # of a browser that is signed in


def make_accounts(codes: int, others: int = 0) -> Made:
    """Make a user with all that belongs to it, in the database of this process; `others` more."""
    from django.utils import timezone

    from authserver.accounts.addresses import create_domain
    from authserver.accounts.groups import create_permission
    from authserver.accounts.models import Session
    from authserver.accounts.service_users import create_service_user
    from authserver.accounts.sessions import digest_of
    from authserver.accounts.throttle import remember_client
    from authserver.accounts.users import create_user
    from authserver.domains.keys import make_key
    from authserver.oidc.applications import create_application
    from authserver.registry.registries import create_registry

    user = create_user("maria", "Maria Example", "bench", password=PASSWORD)
    remember_client(user, "127.0.0.1")
    service, service_password = create_service_user(user, "scanner", "", "bench")
    domain = create_domain("localhost", "bench")
    make_key(domain, "jwt", "bench")
    create_registry("bench", name="R", client_id="r", domain=domain, user_namespaces=True)
    application, secret = create_application(
        "bench",
        "bench",
        redirect_uris=[CALLBACK],
        grant_types=["authorization-code", "client-credentials"],
    )
    application.permissions.add(create_permission("photos", "Photos", "bench"))
    cookie = secrets.token_urlsafe(32)
    life = timezone.now() + datetime.timedelta(days=1)
    session = Session.objects.create(digest=digest_of(cookie), user=user, expires_at=life)
    made = make_codes(application, session, codes)
    for number in range(others):  # an administrator among them: no link of the first start
        create_user(f"other-{number}", "", "bench", staff=number == 0)
    client = Client(application.client_id, secret, made)
    return Made(client, service.username, service_password, cookie)


def make_codes(application: Any, session: Any, number: int) -> list[str]:
    """So many authorization codes, as a browser would have brought them."""
    from django.utils import timezone

    from authserver.accounts.sessions import digest_of
    from authserver.oidc.models import Grant
    from authserver.oidc.tokens import s256

    codes = [secrets.token_urlsafe(32) for _ in range(number)]
    now = timezone.now()
    Grant.objects.bulk_create(
        Grant(
            application=application,
            user=session.user,
            session=session,
            offline=True,
            scope=SCOPE,
            authenticated_at=now,
            amr="pwd",
            code_digest=digest_of(code),
            redirect_uri=CALLBACK,
            code_challenge=s256(VERIFIER),
            expires_at=now + datetime.timedelta(days=1),
        )
        for code in codes
    )
    return codes


def open_http(base: str, host: str = "") -> httpx.Client:
    """One connection to `base`; `host` where its public address is another."""
    headers = {"Host": host} if host else {}
    return httpx.Client(base_url=base, headers=headers, timeout=60, trust_env=False)


def ask_token(http: httpx.Client, client: Client, **form: str) -> dict[str, Any]:
    """The answer of the token endpoint."""
    header = basic(client.client_id, client.secret)
    answer = http.post(client.token, data=form, headers=header)
    check(answer)
    found: dict[str, Any] = answer.json()
    return found


def exchange_code(http: httpx.Client, client: Client, code: str) -> dict[str, Any]:
    form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    return ask_token(http, client, grant_type="authorization_code", **form)


def oauth_questions(http: httpx.Client, client: Client) -> dict[str, Ask]:
    """The token endpoint, userinfo and introspection: authserver's, or another provider's."""
    header = basic(client.client_id, client.secret)
    codes: Iterator[str] = iter(client.codes)
    tokens: dict[str, Any] = {}

    def exchange() -> None:
        found = exchange_code(http, client, next(codes))
        tokens.setdefault("access", found["access_token"])
        tokens.setdefault("refresh", found["refresh_token"])

    def refresh() -> None:
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh"]}
        found = ask_token(http, client, **form)
        tokens["refresh"] = found["refresh_token"]

    def credentials() -> None:
        ask_token(http, client, grant_type="client_credentials")

    def userinfo() -> None:
        bearer = {"Authorization": f"Bearer {tokens['access']}"}
        check(http.get(client.userinfo, headers=bearer))

    def introspect() -> None:
        answer = http.post(client.introspect, data={"token": tokens["access"]}, headers=header)
        check(answer)
        if not answer.json()["active"]:
            raise SystemExit("a token that lives is said to have ended")

    return {
        "code exchange": exchange,
        "refresh": refresh,
        "userinfo": userinfo,
        "introspection": introspect,
        "client credentials": credentials,
    }


def other_questions(http: httpx.Client, made: Made) -> dict[str, Ask]:
    """What only authserver is asked."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    login = {"username": made.service_user, "password": made.service_password}
    header = basic(made.service_user, made.service_password)
    cookie = {"Cookie": f"authserver={made.cookie}"}
    return {
        "discovery": lambda: check(http.get("/.well-known/openid-configuration")),
        "JWKS": lambda: check(http.get("/o2/jwks/")),
        "/checkpassword/, service user": lambda: check(http.post("/checkpassword/", json=login)),
        "/checkpassword/, no password": lambda: check(
            http.post("/checkpassword/", json={"username": "maria"}, headers=bearer)
        ),
        "Docker token, service user": lambda: check(http.get(DOCKER, headers=header)),
        "page of a user's applications": lambda: check(http.get("/", headers=cookie)),
    }
