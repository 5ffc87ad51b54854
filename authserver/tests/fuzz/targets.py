"""What is fuzzed: whatever comes in, it is read as what it says, or refused in the one way that
there is for it."""

import base64
import contextlib
import functools
import ipaddress
import json
import os
import tempfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import jwt
from authclient.server import BadAnswer, Misused, Server, believed
from django.core.handlers.wsgi import WSGIRequest

from authclient import djb, keys
from authserver import signing
from authserver.checkpassword.requests import (
    LONGEST_NAME,
    LONGEST_NONCE,
    BadRequest,
    read_question,
)

CLIENT = "192.0.2.7"

# --- /checkpassword/ -----------------------------------------------------------------------------


def ask(body: bytes, **headers: str) -> None:
    """A question that is read is one that can be answered."""
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/checkpassword/",
        "authserver.client": CLIENT,
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.input": BytesIO(body),
        **headers,
    }
    try:
        question = read_question(WSGIRequest(environ))
    except BadRequest:
        return
    assert question.username.strip()
    assert len(question.username) <= LONGEST_NAME
    for text in (question.username, question.password or "", question.domain, question.nonce):
        text.encode()
    assert len(question.nonce) <= LONGEST_NONCE
    assert all(isinstance(scope, str) for scope in question.scopes)
    ipaddress.ip_address(question.client)
    assert question.trusted or question.client == CLIENT


def as_json(data: bytes) -> None:
    ask(data, CONTENT_TYPE="application/json")


def as_form(data: bytes) -> None:
    ask(data, CONTENT_TYPE="application/x-www-form-urlencoded")
    ask(data, CONTENT_TYPE="multipart/form-data; boundary=x")


def as_basic(data: bytes) -> None:
    """The first byte says how long the credentials are; the headers of the fields come after."""
    credentials, rest = data[1 : data[0] + 1 if data else 0], data[data[0] + 1 if data else 0 :]
    texts = iter(rest.decode("latin-1").split("\n"))
    names = ("SCOPES", "DOMAIN", "CLIENT", "NONCE", "TOKEN")
    headers = {f"HTTP_X_AUTH_{name}": next(texts, "") for name in names}
    for value in (base64.b64encode(credentials), credentials):
        ask(b"", HTTP_AUTHORIZATION=f"Basic {value.decode('latin-1')}", **headers)


# --- The client ----------------------------------------------------------------------------------


def key_file(data: bytes) -> None:
    """A file that has no key is a misuse, an answer that has none is a bad one."""
    with contextlib.suppress(ValueError):
        keys.load(data)

    class Said(Server):
        def ask(self, method: str, query: str = "", fields: dict[str, Any] | None = None) -> bytes:
            return data

    for form in ("pubkey", "cert"):
        with contextlib.suppress(BadAnswer):
            keys.fetch(Said("https://localhost/"), None, form)


@functools.cache
def private_key() -> str:
    return signing.make_private_key()


def token(data: bytes) -> None:
    """What is no token of ours is not believed, signed by the right key or not."""
    key = keys.load(signing.public_pem(private_key()).encode())
    signed = jwt.api_jws.encode(data, signing.load(private_key()), algorithm="RS256")
    for text in (data, signed.encode()):
        try:
            claims = believed(text, key, "localhost")
        except BadAnswer:
            continue
        assert json.loads(data) == claims
        assert claims["iss"] == "localhost"
        assert claims["aud"] == "net.maurus.authclient" or "net.maurus.authclient" in claims["aud"]


def descriptor(data: bytes) -> None:
    """What comes at descriptor 3 is a name and a password, byte for byte, or refused."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        os.dup2(file.fileno(), djb.INPUT)
    try:
        name, password = djb.read_input()
    except (djb.NoLogin, Misused):
        return
    assert data.startswith(f"{name}\0{password}\0".encode())
    assert len(data) <= djb.LARGEST
    made = djb.environment(name, djb.Userdb(home="/mail/%u"), lookup=False)
    assert made["USER"] == name
    assert os.path.normpath(made["HOME"]).startswith("/mail")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "as_json": as_json,
    "as_form": as_form,
    "as_basic": as_basic,
    "key_file": key_file,
    "token": token,
    "descriptor": descriptor,
}

CLAIMS = {
    "sub": "a", "aud": "net.maurus.authclient", "iss": "localhost", "exp": 9999999999, "nbf": 0,
    "nonce": "n", "authenticated": True, "authorized": True, "scopes": ["x"],
}  # fmt: skip
FIELDS = {"username": "a", "password": "b", "scopes": ["c"], "client": "::1", "nonce": "n"}
PART = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\na\r\n--x--\r\n'
# what the fuzzer begins with
SEEDS = {
    "as_json": [json.dumps(FIELDS).encode()],
    "as_form": [b"username=a&password=b&scopes=c,d&client=::1&nonce=n&domain=x.y", PART],
    "as_basic": [b"\x03a:b" + b"c,d\nx.y\n::1\nn\n" + b"t" * 16],
    "key_file": [
        signing.public_pem(private_key()).encode(),
        b'{"public_key_pem":[""],"cert":[""]}',
    ],
    "token": [json.dumps(CLAIMS).encode()],
    "descriptor": [b"name\0password\0t\0"],
}
