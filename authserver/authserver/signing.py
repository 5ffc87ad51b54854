"""RSA keys and what they sign: RS256 (RFC 7518), `kid` by RFC 7638, certificates of their own."""

import base64
import datetime
import hashlib
import json
from functools import lru_cache
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import RSAAlgorithm

BITS = 2048
CERTIFICATE_DAYS = 3650


def make_private_key() -> str:
    """A new RSA key, as unencrypted PKCS #8 in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode()


@lru_cache(64)
def load(private_pem: str) -> rsa.RSAPrivateKey:
    """The key, kept loaded: to load one costs more than to sign with it."""
    key = serialization.load_pem_private_key(private_pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("not an RSA key")
    return key


@lru_cache(64)
def public_jwk(private_pem: str) -> dict[str, str]:
    """The public half as a JWK (RFC 7517), with its SHA-256 thumbprint (RFC 7638) as `kid`."""
    jwk = RSAAlgorithm.to_jwk(load(private_pem).public_key(), as_dict=True)
    members = {name: str(jwk[name]) for name in ("e", "kty", "n")}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return {**members, "kid": thumbprint.rstrip(b"=").decode(), "use": "sig", "alg": "RS256"}


def public_pem(private_pem: str) -> str:
    """The public half as SubjectPublicKeyInfo in PEM."""
    key = load(private_pem).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def make_certificate(private_pem: str, name: str, issuer_pem: str = "") -> str:
    """A certificate for `name` in PEM, signed by the key itself, or by the one of `issuer_pem`.

    It may sign others (RFC 5280, 4.2.1.9), so that who trusts it can be led on to the next key.
    """
    key = load(private_pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if not issuer_pem:  # with this name in both, Go takes the second for the first once more
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(load(issuer_pem or private_pem), hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@lru_cache(64)
def chain(certificates_pem: str) -> list[str]:
    """The certificates as `x5c` (RFC 7515, 4.1.6) has them."""
    found = x509.load_pem_x509_certificates(certificates_pem.encode())
    ders = (each.public_bytes(serialization.Encoding.DER) for each in found)
    return [base64.b64encode(der).decode() for der in ders]


def sign(private_pem: str, claims: dict[str, Any], **header: Any) -> str:
    """The claims as a JWT, signed with RS256; `header` adds to `alg`, `typ` and `kid`."""
    header = {"kid": public_jwk(private_pem)["kid"], **header}
    return jwt.encode(claims, load(private_pem), algorithm="RS256", headers=header)
