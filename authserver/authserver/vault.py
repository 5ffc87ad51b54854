"""HashiCorp Vault: the database's credentials come from it, and secrets are written into it.

https://developer.hashicorp.com/vault/api-docs/secret/databases and .../secret/kv. Credentials are
a lease: renewed when two thirds of its time are over, or read anew where that fails.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from authserver.environment import BadSetting, Environment

SECONDS = 5  # for an answer
SHORTEST = 10  # seconds that a lease must last to be of use


class VaultError(Exception):
    """Vault does not do what it was asked; the text says why, without a secret."""


def libraries() -> tuple[Any, Any]:
    """hvac and requests, loaded where they are used: only who has a Vault pays for them."""
    return import_module("hvac"), import_module("requests")


class Vault:
    """The Vault of the settings. Nothing but its answer counts: no redirect, no proxy."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.address, self.ca = environment.vault_addr, environment.vault_ca

    def client(self) -> Any:
        hvac, requests = libraries()
        try:
            token = self.environment.read_again("VAULT_TOKEN")
        except BadSetting as error:
            raise VaultError(str(error)) from None
        session = requests.Session()
        session.trust_env = False  # no proxy of the environment gets the token
        session.verify = self.ca or True
        return hvac.Client(
            self.address,
            token,
            timeout=SECONDS,
            session=session,
            allow_redirects=False,
            verify=self.ca or True,
        )

    def ask(self, path: str, question: Callable[[Any], Any]) -> Any:
        """What `question` gets from the client; raises VaultError, which names `path`."""
        hvac, requests = libraries()
        try:
            return question(self.client())
        except hvac.exceptions.VaultError as error:
            name = type(error).__name__
            raise VaultError(f"Vault at {self.address} refuses {path}: {name}") from None
        except requests.RequestException as error:
            name = type(error).__name__
            raise VaultError(f"Vault at {self.address} cannot be reached: {name}") from None

    def write(self, path: str, values: Mapping[str, str]) -> None:
        """Write a secret of the KV engine, of either version; raises VaultError.

        `path` is as `vault kv put` takes it, and like that the version is found out by the
        question which that command asks (sys/internal/ui/mounts). Version 2 keeps its secrets
        below MOUNT/data, in a member `data`.
        """
        path = path.strip("/")
        answer = self.ask(path, lambda vault: vault.read(f"sys/internal/ui/mounts/{path}"))
        try:
            mount: str = answer["data"]["path"]
            two = (answer["data"].get("options") or {}).get("version") == "2"
        except (AttributeError, KeyError, TypeError):
            raise VaultError(f"Vault at {self.address} does not say what {path} is") from None
        data: dict[str, Any] = dict(values)
        if two:
            below = path.removeprefix(mount).removeprefix("data/")
            path, data = f"{mount}data/{below}", {"data": data}
        done = self.ask(path, lambda vault: vault.write_data(path, data=data))
        if not isinstance(done, dict) and done.status_code not in (200, 204):
            raise VaultError(f"Vault at {self.address} refuses {path}: {done.status_code}")


@dataclass
class Lease:
    user: str
    password: str
    id: str
    renewable: bool
    seconds: float
    since: float

    def is_young(self) -> bool:
        return time.monotonic() - self.since < self.seconds * 2 / 3

    def is_over(self) -> bool:
        return time.monotonic() - self.since >= self.seconds - SHORTEST / 2


class Credentials:
    """The user and the password of the database at `path`, as long as they last."""

    def __init__(self, vault: Vault, path: str) -> None:
        self.vault, self.path = vault, path
        self.lease: Lease | None = None
        self.lock = threading.Lock()

    def current(self) -> Lease:
        """What counts now; raises VaultError where there is nothing that does."""
        with self.lock:
            if self.lease is None:
                self.lease = self.read()
            elif not self.lease.is_young():
                self.lease = self.renewed(self.lease)
            return self.lease

    def renewed(self, lease: Lease) -> Lease:
        """The lease with new time, or another; the old one while it lasts and Vault fails."""
        if lease.renewable and not lease.is_over():
            try:
                answer = self.vault.ask(self.path, lambda vault: vault.sys.renew_lease(lease.id))
                seconds = float(answer["lease_duration"])
                if seconds > SHORTEST:
                    lease.seconds, lease.since = seconds, time.monotonic()
                    return lease
            except (VaultError, KeyError, TypeError, ValueError):
                pass  # it is at its longest, or was revoked: read anew
        try:
            return self.read()
        except VaultError:
            if lease.is_over():
                raise
            return lease

    def read(self) -> Lease:
        answer = self.vault.ask(self.path, lambda vault: vault.read(self.path))
        try:
            data = answer["data"]
            lease = Lease(
                user=data["username"],
                password=data["password"],
                id=answer.get("lease_id") or "",
                renewable=bool(answer.get("renewable")),
                seconds=float(answer.get("lease_duration") or 3600),
                since=time.monotonic(),
            )
        except (KeyError, TypeError, ValueError):
            raise VaultError(f"{self.path} has no username and password") from None
        if not isinstance(lease.user, str) or not isinstance(lease.password, str):
            raise VaultError(f"{self.path} has no username and password")
        return lease

    def forget(self, lease: Lease) -> None:
        """Read anew at the next use: the database has refused it."""
        with self.lock:
            if self.lease is lease:
                self.lease = None
