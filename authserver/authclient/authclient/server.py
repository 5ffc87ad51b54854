"""One question to authserver, over one connection, and what its answer is worth."""

import http.client
import ipaddress
import json
import os
import signal
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import jwt

AUDIENCE = "net.maurus.authclient"
SECONDS = 20  # for a whole answer; the server itself waits 5 for the NAS
LARGEST = 65_536  # bytes of one
REQUIRED = ["sub", "aud", "iss", "exp", "nbf", "nonce", "authenticated", "authorized", "scopes"]


class Misused(Exception):
    """The command cannot be run as it was given."""


class NoConnection(Exception):
    """The server cannot be reached, or says that it cannot answer now."""


class BadAnswer(Exception):
    """The server has answered, but not with what was asked for."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Wrong(Exception):
    """Wrong name or password."""


@dataclass(frozen=True)
class Server:
    """Where to ask: the URL of the endpoint, and how to know that it is the right one."""

    url: str
    ca_file: str | None = None
    validate: bool = True
    token: str = ""

    @property
    def parts(self) -> SplitResult:
        try:
            url = urlsplit(self.url)
            _ = url.port
            (url.hostname or "").encode("idna")  # an empty label, or one that is too long
        except ValueError:
            raise Misused("-u is no URL") from None
        if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
            raise Misused("-u must be the https URL of the endpoint")
        if url.scheme == "http" and not is_loopback(url.hostname):
            raise Misused("-u must begin with https:// (http is for this machine only)")
        return url

    def connection(self) -> http.client.HTTPConnection:
        url = self.parts
        assert url.hostname  # noqa: S101  (`parts` has looked)
        if url.scheme == "http":
            return http.client.HTTPConnection(url.hostname, url.port, timeout=SECONDS)
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise Misused(f"--ca-file cannot be used: {error.strerror or error}") from None
        if not self.validate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=SECONDS, context=context)

    def ask(self, method: str, query: str = "", fields: dict[str, Any] | None = None) -> bytes:
        """The body of a 200; raises NoConnection, Wrong (401) or BadAnswer."""
        path = (self.parts.path or "/") + query
        headers = {"Accept": "application/jwt, application/json"}
        body = None
        if fields is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(fields).encode()
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self.connection()
        signal.signal(signal.SIGALRM, too_slow)
        signal.alarm(SECONDS)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read(LARGEST + 1)
        except (OSError, http.client.HTTPException) as error:
            raise NoConnection(f"{type(error).__name__}: {error}") from None
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            connection.close()
        if response.status == 503:
            raise NoConnection("the server cannot answer now (503)")
        if response.status == 401:
            raise Wrong
        if response.status != 200 or len(answer) > LARGEST:
            raise BadAnswer(f"the server answers {response.status}", response.status)
        return answer


def too_slow(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"no whole answer within {SECONDS} seconds")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True)
class Claims:
    """What a believed answer says."""

    canonical_username: str
    authenticated: bool
    authorized: bool
    scopes: tuple[str, ...]


def check(
    server: Server,
    key: Any,
    username: str,
    password: str | None,
    scopes: list[str],
    domain: str | None,
    client: str | None = None,
) -> Claims:
    """Ask `/checkpassword/`; raises what `Server.ask` does, and BadAnswer for what is not believed.

    `password` is None to ask what a user may do without one.
    """
    nonce = os.urandom(24).hex()
    fields = {
        "username": username,
        "password": password,
        "scopes": scopes,
        "domain": domain,
        "client": client,
        "nonce": nonce,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    token = server.ask("POST", fields=fields)
    claims = believed(token, key, domain or server.parts.hostname or "")
    if claims["sub"] != username or claims["nonce"] != nonce:
        raise BadAnswer("the token is not the answer to this question")
    if password is not None and claims["authenticated"] is not True:
        raise BadAnswer("the token does not say that the password is right")
    return Claims(
        str(claims.get("canonical_username") or username),
        claims["authenticated"] is True,
        claims["authorized"] is True,
        tuple(scope for scope in claims["scopes"] if isinstance(scope, str)),
    )


def believed(token: bytes, key: Any, domain: str) -> dict[str, Any]:
    """The claims of a token that the right key has signed for us, now; raises BadAnswer.

    Its issuer is the domain, or a parent that signs for its subdomains.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=["RS256"], audience=AUDIENCE, options={"require": REQUIRED}
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise BadAnswer(f"the token is not believed: {error}") from None
    if not f".{domain.lower()}".endswith(f".{claims['iss']}") or not claims["iss"]:
        raise BadAnswer("the token is another domain's")
    if not isinstance(claims["scopes"], list):
        raise BadAnswer("the token's scopes are no list")
    return claims
