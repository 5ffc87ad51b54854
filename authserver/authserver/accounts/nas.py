"""The NAS, asked live at ugos-auth-proxy: is this password right, and who is this account?

Its answers are read strictly: what is not exactly an answer is no verdict (`Unreachable`).
"""

import asyncio
import json
import re
import ssl
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import httpx
from django.conf import settings

ANSWER_SECONDS = 5  # for a whole answer
LARGEST = 65_536  # bytes of one
LONGEST_NAME, LONGEST_PASSWORD = 256, 1000  # bytes
LARGEST_QUESTION = 4096  # bytes of a body that it takes


class Unreachable(Exception):
    """No verdict; the text says why, for the log."""


@dataclass(frozen=True)
class Account:
    """An account as `GET /user-info` tells it. `active` is True where it does not say."""

    username: str
    uid: int
    full_name: str
    email: str
    groups: tuple[str, ...]
    active: bool


@dataclass(frozen=True)
class Answer:
    """What `POST /validate` said: `username` where the password is right, else `error`, and
    `retry_after` in seconds where the NAS has had too many failed logins."""

    username: str = ""
    error: str = ""
    retry_after: int = 0


def is_set_up() -> bool:
    return bool(settings.ENV.ugos_auth_proxy_url)


def can_ask(name: str, password: str) -> bool:
    """Whether the proxy would judge these; anything else it answers 400, and is wrong here."""
    name = name.strip()
    try:
        sizes = len(name.encode()), len(password.encode())
    except UnicodeEncodeError:
        return False
    if not 1 <= sizes[0] <= LONGEST_NAME or not 1 <= sizes[1] <= LONGEST_PASSWORD:
        return False
    if any(c in "/:@" or unicodedata.category(c) == "Cc" for c in name):
        return False
    return "\0" not in password and len(question(name, password)) <= LARGEST_QUESTION


def question(name: str, password: str) -> bytes:
    """The body of `POST /validate`."""
    fields = {"username": name.strip(), "password": password}
    return json.dumps(fields, ensure_ascii=False).encode()


@lru_cache(1)
def verification() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings.ENV.ugos_auth_proxy_ca)


async def exchange(method: str, path: str, **arguments: Any) -> tuple[int, httpx.Headers, Any]:
    """One question: the status, the headers and the JSON of its answer; raises Unreachable."""
    if not is_set_up():
        raise Unreachable("UGOS_AUTH_PROXY_URL is not set")
    headers = {"Authorization": f"Bearer {settings.ENV.ugos_auth_proxy_token}"}
    headers |= arguments.pop("headers", {})
    url = settings.ENV.ugos_auth_proxy_url
    try:
        verify = verification() if url.startswith("https:") else False
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            httpx.AsyncClient(
                verify=verify, trust_env=False, follow_redirects=False, timeout=ANSWER_SECONDS
            ) as http,
            http.stream(method, url + path, headers=headers, **arguments) as response,
        ):
            body = b""
            async for part in response.aiter_raw():
                body += part
                if len(body) > LARGEST:
                    raise Unreachable("an answer that is too large")
        return response.status_code, response.headers, read_json(body)
    except TimeoutError:
        raise Unreachable("no whole answer within 5 seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise Unreachable(type(error).__name__) from None


def read_json(body: bytes) -> Any:
    """The value of an answer's body: UTF-8, no key twice."""
    try:
        return json.loads(body.decode(), object_pairs_hook=read_object)
    except (ValueError, RecursionError):
        raise Unreachable("an answer that is not JSON") from None


def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key given twice")
    return found


def read_text(value: Any) -> str:
    """A text that a database takes: no NUL, no unpaired surrogate."""
    if not isinstance(value, str) or any(
        character == "\0" or unicodedata.category(character) == "Cs" for character in value
    ):
        raise Unreachable("an answer with what is no text")
    return value


async def validate(name: str, password: str, client: str) -> Answer:
    """Whether the password is right; raises Unreachable where that is not said."""
    status, headers, found = await exchange(
        "POST",
        "/validate",
        content=question(name, password),
        headers={"Content-Type": "application/json", "X-Forwarded-For": client},
    )
    if status == 429:
        seconds = headers.get("retry-after", "")
        known = re.fullmatch("[1-9][0-9]{0,5}", seconds)
        return Answer(error="Too many failed logins", retry_after=int(seconds) if known else 60)
    if status != 200 or not isinstance(found, dict):
        raise Unreachable(f"status {status}")
    if found.get("valid") is True:
        username = read_text(found.get("username"))
        if not username or "error" in found:
            raise Unreachable("an answer that contradicts itself")
        return Answer(username=username)
    if found.get("valid") is not False or not found.get("error"):
        raise Unreachable("an answer that is no verdict")
    return Answer(error=read_text(found["error"]))


async def user_info(name: str) -> Account | None:
    """Who an account is, None where there is none; raises Unreachable where that is not said."""
    status, _, found = await exchange("GET", f"/user-info?username={quote(name, safe='')}")
    if status != 200 or not isinstance(found, dict):
        raise Unreachable(f"status {status}")
    if found.get("exists") is False and "uid" not in found:
        return None
    if found.get("exists") is not True:
        raise Unreachable("an answer that does not say whether it exists")
    return read_account(found)


def read_account(found: dict[str, Any]) -> Account:
    uid, groups, active = found.get("uid"), found.get("groups"), found.get("active", True)
    if type(uid) is not int or not 0 < uid < 2**32:
        raise Unreachable("an account without a uid")
    if not isinstance(groups, list):
        raise Unreachable("an account without groups")
    if type(active) is not bool:
        raise Unreachable("an account that is neither active nor not")
    username = read_text(found.get("username"))
    if not username:
        raise Unreachable("an account without a name")
    return Account(
        username=username,
        uid=uid,
        full_name=read_text(found.get("full_name", "")),
        email=read_text(found.get("email", "")),
        groups=tuple(map(read_text, groups)),
        active=active,
    )
