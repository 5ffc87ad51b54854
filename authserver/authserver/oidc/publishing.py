"""Where the secret of an application is written to: a file, Vault, Consul's key/value store.

Everywhere it is the same three: name, client_id, client_secret.
"""

import json
import ssl
from pathlib import Path
from urllib.parse import quote

import httpx
from django.conf import settings
from django.core.exceptions import ValidationError

from authserver.files import private_file
from authserver.oidc.models import Application
from authserver.vault import Vault, VaultError

SECONDS = 5  # for an answer of Consul


def published(application: Application, secret: str) -> dict[str, str]:
    return {
        "name": application.name,
        "client_id": application.client_id,
        "client_secret": secret,
    }


def to_file(values: dict[str, str], path: Path) -> None:
    """One line of JSON, for its owner only."""
    with private_file(path) as file:
        file.write(json.dumps(values).encode() + b"\n")


def to_vault(values: dict[str, str], path: str) -> None:
    """A secret of the KV engine; raises ValidationError."""
    if not settings.ENV.vault_addr:
        raise ValidationError("VAULT_ADDR must be set, to publish into Vault.")
    try:
        Vault(settings.ENV).write(path, values)
    except VaultError as error:
        raise ValidationError(str(error)) from None


def to_consul(values: dict[str, str], path: str) -> None:
    """JSON at the key `path` (https://developer.hashicorp.com/consul/api-docs/kv).

    Raises ValidationError.
    """
    environment = settings.ENV
    address, token = environment.consul_http_addr, environment.consul_http_token
    if not address:
        raise ValidationError("CONSUL_HTTP_ADDR must be set, to publish into Consul.")
    url = f"{address}/v1/kv/{quote(path.strip('/'), safe='/')}"
    verify = ssl.create_default_context(cafile=environment.consul_cacert)
    try:
        with httpx.Client(verify=verify, trust_env=False, timeout=SECONDS) as http:
            headers = {"X-Consul-Token": token} if token else {}
            answer = http.put(url, json=values, headers=headers)
    except httpx.HTTPError as error:
        text = f"Consul at {address} cannot be reached: {type(error).__name__}"
        raise ValidationError(text) from None
    if answer.status_code != 200 or answer.text.strip() != "true":
        raise ValidationError(f"Consul at {address} refuses {path}: {answer.status_code}")
