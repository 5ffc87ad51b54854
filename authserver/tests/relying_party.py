"""An application as a client of the server: it asks, and reads what comes back."""

import base64
import hashlib
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import httpx
import jwt

from tests.browser import Browser
from tests.processes import BOUND, LIMITS, keep_secret
from tests.server import PASSWORD, Server

if TYPE_CHECKING:
    from authserver.oidc.models import Application

CALLBACK = "https://app.example.org/callback"


def s256(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def query_of(answer: httpx.Response) -> dict[str, str]:
    """The query of the address that an answer redirects to."""
    assert answer.status_code in (302, 303), (answer.status_code, answer.text)
    return {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


class RelyingParty:
    """An application of `server`, made with `values` (those of `create_application`)."""

    def __init__(self, server: Server, name: str = "", **values: Any) -> None:
        from authserver.oidc import applications

        self.server, self.name = server, name or f"app {secrets.token_hex(4)}"
        values.setdefault("redirect_uris", [CALLBACK])
        self.redirect_uri = next(iter(values["redirect_uris"]), "")
        with server.database():
            application, self.secret = applications.create_application(self.name, "tests", **values)
        keep_secret(self.secret)
        self.client_id = application.client_id
        self.is_public = application.is_public
        self.verifier = keep_secret(secrets.token_urlsafe(48))
        self.http = httpx.Client(
            base_url=server.base, timeout=BOUND, trust_env=False, limits=LIMITS
        )

    def row(self) -> "Application":
        """Its row; only within `server.database()`."""
        from authserver.oidc.models import Application

        return Application.objects.get(client_id=self.client_id)

    def url(self, **parameters: str | None) -> str:
        """The address of an authorization request; None leaves a parameter out."""
        asked: dict[str, str | None] = {
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": "openid",
            "state": "the-state",
            "code_challenge": s256(self.verifier),
            "code_challenge_method": "S256",
            **parameters,
        }
        query = urlencode({k: v for k, v in asked.items() if v is not None})
        return f"/o2/authorize/?{query}"

    def authorize(self, browser: Browser, **parameters: str | None) -> dict[str, str]:
        """What comes back to the application; the user agrees where he is asked."""
        answer = browser.get(self.url(**parameters))
        if answer.status_code == 200:
            answer = browser.submit(self.url(**parameters), allow="yes")
        assert answer.headers["Location"].startswith(self.redirect_uri), answer.headers
        return query_of(answer)

    def code(self, browser: Browser, **parameters: str | None) -> str:
        return keep_secret(self.authorize(browser, **parameters)["code"])

    def post(self, path: str, *, basic: bool = False, **form: Any) -> httpx.Response:
        """A form to an endpoint, with the application's credentials."""
        data = {k: v for k, v in form.items() if v is not None}
        headers = {}
        if basic:
            text = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(text.encode()).decode()
        else:
            mine = {"client_id": self.client_id, "client_secret": self.secret}
            data |= {k: v for k, v in mine.items() if v and k not in form}
        return self.http.post(path, data=data, headers=headers)

    def exchange(self, code: str, **form: Any) -> httpx.Response:
        given: dict[str, Any] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
            **form,
        }
        return self.kept(self.post("/o2/token/", **given))

    def refresh(self, token: str, **form: Any) -> httpx.Response:
        return self.kept(
            self.post("/o2/token/", grant_type="refresh_token", refresh_token=token, **form)
        )

    def kept(self, answer: httpx.Response) -> httpx.Response:
        for name in ("access_token", "refresh_token", "id_token"):
            if answer.status_code == 200 and name in answer.json():
                keep_secret(answer.json()[name])
        return answer

    def tokens(self, browser: Browser, **parameters: str | None) -> dict[str, Any]:
        """What a whole sign-in brings."""
        answer = self.exchange(self.code(browser, **parameters))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def userinfo(self, access_token: str) -> httpx.Response:
        return self.http.get("/o2/userinfo/", headers={"Authorization": f"Bearer {access_token}"})

    def introspect(self, token: str) -> dict[str, Any]:
        answer = self.post("/o2/introspect/", token=token)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def is_alive(self, token: str) -> bool:
        return bool(self.introspect(token)["active"])

    def claims(self, id_token: str) -> dict[str, Any]:
        """The claims of an id_token, judged as OpenID Connect Core, 3.1.3.7 says."""
        keys = jwt.PyJWKSet.from_dict(self.http.get("/o2/jwks/").json())
        key = keys[jwt.get_unverified_header(id_token)["kid"]]
        found: dict[str, Any] = jwt.decode(
            id_token,
            key.key,
            algorithms=["RS256"],
            audience=self.client_id,
            issuer=self.server.base,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
        return found


def signed_in(server: Server, identifier: str = "", **fields: Any) -> Browser:
    """A browser in which a new user of the server is signed in."""
    identifier = identifier or f"user-{secrets.token_hex(4)}"
    server.make_user(identifier, **fields)
    return server.browser().signed_in(identifier, PASSWORD)


def sign_out(browser: Browser) -> None:
    """Sign out as the pages do it."""
    token = browser.form("/account/login/")[1]["csrfmiddlewaretoken"]
    answer = browser.post(
        "/account/logout/",
        data={"csrfmiddlewaretoken": token},
        headers={"Origin": browser.base},
    )
    assert answer.status_code == 302, answer.text
