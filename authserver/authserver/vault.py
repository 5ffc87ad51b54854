"""Database credentials from Vault (https://developer.hashicorp.com/vault/api-docs/secret/databases).

They are a lease: renewed when two thirds of its time are over, or read anew where that fails.
"""

import threading
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

SECONDS = 5  # for an answer
SHORTEST = 10  # seconds that a lease must last to be of use


class VaultError(Exception):
    """Vault gives no credentials; the text says why, without a secret."""


def libraries() -> tuple[Any, Any]:
    """hvac and requests, loaded where they are used: only who has a Vault pays for them."""
    return import_module("hvac"), import_module("requests")


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

    def __init__(self, address: str, token: str, ca: str | None, path: str) -> None:
        self.address, self.token, self.ca, self.path = address, token, ca, path
        self.lease: Lease | None = None
        self.lock = threading.Lock()

    def client(self) -> Any:
        hvac, requests = libraries()
        session = requests.Session()
        session.trust_env = False  # no proxy of the environment gets the token
        session.verify = self.ca or True
        return hvac.Client(
            self.address,
            self.token,
            timeout=SECONDS,
            session=session,
            allow_redirects=False,
            verify=self.ca or True,
        )

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
                answer = self.ask(lambda vault: vault.sys.renew_lease(lease.id))
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
        answer = self.ask(lambda vault: vault.read(self.path))
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

    def ask(self, question: Any) -> Any:
        hvac, requests = libraries()
        try:
            return question(self.client())
        except hvac.exceptions.VaultError as error:
            name = type(error).__name__
            raise VaultError(f"Vault at {self.address} refuses {self.path}: {name}") from None
        except requests.RequestException as error:
            name = type(error).__name__
            raise VaultError(f"Vault at {self.address} cannot be reached: {name}") from None

    def forget(self) -> None:
        """Read anew at the next use: the database has refused them."""
        with self.lock:
            self.lease = None
