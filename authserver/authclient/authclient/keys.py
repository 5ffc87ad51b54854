"""The key that the server's tokens are checked with: fetched, kept in a file, read from it."""

import json
import os
import tempfile
from typing import Any
from urllib.parse import urlencode

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from authclient.server import BadAnswer, Misused, Server

LARGEST = 65_536  # bytes of a file


class NoSuchDomain(Exception):
    """The server has no key for the domain."""


class Unwritable(Exception):
    """The key cannot be written."""


def load(pem: bytes) -> RSAPublicKey:
    """The RSA key of a public key or a certificate in PEM; ValueError for anything else."""
    try:
        if b"BEGIN CERTIFICATE" in pem:
            key: Any = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:  # which is no ValueError
        raise ValueError(str(error)) from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA key")
    return key


def read(path: str) -> RSAPublicKey:
    """The key in a file; raises Misused."""
    try:
        with open(path, "rb") as file:
            return load(file.read(LARGEST))
    except OSError as error:
        raise Misused(f"--jwtkey: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise Misused(f"--jwtkey: {path} has no RSA key in PEM; get one with -m init") from None


def fetch(server: Server, domain: str | None, form: str) -> bytes:
    """The key of the domain in PEM, by `form` pubkey or cert; raises NoSuchDomain, BadAnswer."""
    query = {"format": form} | ({"domain": domain} if domain else {})
    try:
        answer = server.ask("GET", "?" + urlencode(query))
    except BadAnswer as error:
        if error.status == 404:
            raise NoSuchDomain("the server has no key for this domain") from None
        raise
    name = "cert" if form == "cert" else "public_key_pem"
    try:
        lines = json.loads(answer)[name]
        pem = ("\n".join(lines) + "\n").encode("ascii")
        load(pem)
    except (ValueError, KeyError, TypeError):
        raise BadAnswer("the answer has no RSA key") from None
    return pem


def holds(path: str, pem: bytes) -> bool | None:
    """Whether a file holds that key; None where there is no file."""
    try:
        with open(path, "rb") as file:
            kept = file.read(LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unwritable(f"{path} cannot be read: {error.strerror}") from None
    try:
        return load(kept).public_numbers() == load(pem).public_numbers()
    except ValueError:
        return False


def write(path: str, pem: bytes) -> None:
    """Write the file whole or not at all, over another one too."""
    path = os.path.realpath(path)
    try:
        descriptor, made = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".jwtkey")
    except OSError as error:
        raise Unwritable(f"{path} cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fchmod(descriptor, 0o644)  # it is public
            os.fsync(descriptor)
        os.replace(made, path)
    except OSError as error:
        os.unlink(made)
        raise Unwritable(f"{path} cannot be written: {error.strerror}") from None
