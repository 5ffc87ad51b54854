"""What comes in at `/checkpassword/`, in its three forms."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.utils.crypto import constant_time_compare

from authserver.http import client, read_address

LONGEST_NONCE = 64  # characters
LONGEST_NAME = 1000


class BadRequest(Exception):
    """The request cannot be read; the text says what is wrong with it."""


@dataclass(frozen=True)
class Question:
    """`password` is None where none was sent; `trusted`: the caller has CHECKPASSWORD_TOKEN."""

    username: str
    password: str | None
    scopes: tuple[str, ...]
    domain: str
    client: str
    nonce: str
    trusted: bool


def read_question(request: HttpRequest) -> Question:
    """Raises BadRequest."""
    authorization = request.headers.get("Authorization", "")
    scheme, _, credentials = authorization.partition(" ")
    kind = request.content_type
    if scheme.lower() == "basic":
        fields = read_basic(request, credentials.strip())
        token = request.headers.get("X-Auth-Token", "")
    else:
        token = credentials.strip() if scheme.lower() == "bearer" else ""
        if kind == "application/json":
            fields = read_json(request.body)
        elif kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
            fields = read_form(request)
        else:
            raise BadRequest("Send application/json, a form, or HTTP Basic")
    kept = settings.ENV.checkpassword_token
    trusted = bool(kept) and constant_time_compare(token, kept)
    return judged(fields, trusted, client(request))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BadRequest("A key is given twice")
    return fields


def read_json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body is not a JSON object")
    return fields


def read_form(request: HttpRequest) -> dict[str, Any]:
    if request.encoding and request.encoding.lower().replace("_", "-") != "utf-8":
        raise BadRequest("The form is not in UTF-8")
    try:
        lists = request.POST.lists()
    except (MultiPartParserError, SuspiciousOperation):  # the second: too many fields or files
        raise BadRequest("The form cannot be read") from None
    for name, values in lists:
        if len(values) > 1:
            raise BadRequest(f"{name!r} is given twice")
    return split_scopes(request.POST.dict())


def read_basic(request: HttpRequest, credentials: str) -> dict[str, Any]:
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadRequest("Authorization is not HTTP Basic in UTF-8") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise BadRequest("Authorization has no password")
    fields: dict[str, Any] = {"username": username, "password": password}
    for name in ("scopes", "domain", "client", "nonce"):
        if value := request.headers.get(f"X-Auth-{name}"):
            fields[name] = value
    return split_scopes(fields)


def split_scopes(fields: dict[str, Any]) -> dict[str, Any]:
    """Scopes with commas between, as a list."""
    if "scopes" in fields:
        parts = (part.strip() for part in fields["scopes"].split(","))
        fields = {**fields, "scopes": [part for part in parts if part]}
    return fields


def judged(fields: dict[str, Any], trusted: bool, peer: str) -> Question:
    texts = {}
    for name in ("username", "password", "domain", "client", "nonce"):
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"{name!r} is not a string")
        try:
            (value or "").encode()
        except UnicodeEncodeError:
            raise BadRequest(f"{name!r} has an unpaired surrogate in it") from None
        texts[name] = value
    username = texts["username"]
    if not username or not username.strip():
        raise BadRequest("'username' is missing")
    if len(username) > LONGEST_NAME:
        raise BadRequest(f"'username' is too long: at most {LONGEST_NAME} characters")
    scopes = fields.get("scopes")
    scopes = [] if scopes is None else scopes
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise BadRequest("'scopes' is not a list of strings")
    nonce = texts["nonce"] or ""
    if len(nonce) > LONGEST_NONCE:
        raise BadRequest(f"'nonce' is too long: at most {LONGEST_NONCE} characters")
    address = peer
    if trusted and texts["client"]:
        try:
            address = str(read_address(texts["client"]))
        except ValueError:
            raise BadRequest("'client' is not an IP address") from None
    return Question(
        username=username,
        password=texts["password"],
        scopes=tuple(scopes),
        domain=texts["domain"] or urlsplit(settings.BASE_URL).hostname or "",
        client=address,
        nonce=nonce,
        trusted=trusted,
    )
