"""The database's credentials from Vault: a real PostgreSQL, a server, and what can go wrong."""

import contextlib
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from authserver.environment import Environment
from authserver.vault import Credentials, Vault, VaultError
from tests.databases import Cluster, binaries, migrate, new_folder
from tests.processes import BOUND, keep_secret
from tests.server import Server
from tests.vault import TOKEN, Stub

pytestmark = pytest.mark.once
PATH = "database/creds/authserver"
OWNER = "authserver_owner"


class Database:
    """A cluster that wants passwords, with a database of the role OWNER, and Vault's users."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(folder / "postgres")
        self.numbers = itertools.count(1)
        self.execute(f"CREATE ROLE {OWNER} NOLOGIN", "postgres")
        self.execute(f"CREATE DATABASE sso OWNER {OWNER}", "postgres")
        rules = "host all authserver 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self.cluster.folder / "data/pg_hba.conf").write_text(rules)
        self.cluster.stop()
        self.cluster.start()

    def execute(self, statement: str, database: str = "sso") -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(f"{self.cluster.url}/{database}", autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def make_user(self) -> tuple[str, str]:
        """As Vault's creation_statements do."""
        name, password = f"v-authserver-{next(self.numbers)}", os.urandom(12).hex()
        self.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}' IN ROLE {OWNER}")
        return name, password

    def drop_user(self, name: str) -> None:
        """As Vault does when a lease is revoked."""
        where = f"FROM pg_stat_activity WHERE usename = '{name}'"
        self.execute(f"SELECT pg_terminate_backend(pid) {where}")
        self.execute(f'DROP ROLE "{name}"')


class Place:
    """A Vault, its database, and the settings of a server that uses them."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder)
        self.stub = Stub(folder)
        self.stub.make_user = self.database.make_user
        self.settings: dict[str, Any] = {
            "VAULT_ADDR": self.stub.url,
            "VAULT_CA": self.stub.ca,
            "VAULT_TOKEN": TOKEN,
            "VAULT_DATABASE_PATH": PATH,
            "DATABASE_NAME": "sso",
            "DATABASE_PARENTROLE": OWNER,
            # where it is; who comes is Vault's
            "DATABASE_URL": f"postgres://127.0.0.1:{self.database.cluster.port}/ignored",
        }


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    if not binaries():
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    with contextlib.ExitStack() as stack:
        folder = new_folder()
        stack.callback(shutil.rmtree, folder)
        made = Place(folder)
        stack.callback(made.database.cluster.stop)
        stack.callback(made.stub.stop)
        yield made


@pytest.fixture(scope="module")
def running(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that is up, on a database that it has migrated itself."""
    migrate({name: str(value) for name, value in place.settings.items()})
    made = Server(tmp_path_factory.mktemp("server"), **place.settings)
    yield made
    made.stop()


@pytest.fixture
def server(place: Place, running: Server) -> Iterator[Server]:
    yield running
    place.stub.fault = None


def health(server: Server) -> int:
    return httpx.get(server.address + "/health/", timeout=BOUND, trust_env=False).status_code


def test_what_it_makes_belongs_to_the_parent_role(place: Place, server: Server) -> None:
    rows = place.database.execute("SELECT DISTINCT tableowner FROM pg_tables "
                                  "WHERE schemaname = 'public'")  # fmt: skip
    assert rows == [(OWNER,)]
    assert server.run("user", "create", "maria", "Maria").returncode == 0
    assert '"maria"' in server.run("user", "list", "-f", "json").stdout
    assert server.run("user", "remove", "-y", "maria").returncode == 0


def test_a_lease_that_is_revoked_is_replaced_before_anybody_notices(
    place: Place, server: Server
) -> None:
    assert health(server) == 200
    for name in re.findall(r"v-authserver-\d+", " ".join(place.stub.leases)):
        place.database.drop_user(name)
    place.stub.leases.clear()
    assert health(server) == 200
    assert len(place.stub.leases) == 1


def test_a_short_lease_is_read_anew_in_time(place: Place, tmp_path: Path, server: Server) -> None:
    place.stub.lease_seconds = 1
    short = Server(tmp_path, **place.settings)
    try:
        before, deadline = len(place.stub.leases), time.monotonic() + BOUND
        while len(place.stub.leases) < before + 2 and time.monotonic() < deadline:
            assert health(short) == 200
        assert len(place.stub.leases) >= before + 2
    finally:
        place.stub.lease_seconds = 3600
        short.stop()


@pytest.mark.parametrize("fault", [(503, {"errors": ["Vault is sealed"]}), (403, {"errors": []})])
def test_without_vault_a_command_is_one_line_and_exit_1(
    place: Place, server: Server, fault: Any
) -> None:
    place.stub.fault = fault
    done = server.run("user", "list", LOG_LEVEL="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"Vault at {place.stub.url} refuses {PATH}" in done.stderr
    # who has a lease goes on
    assert health(server) == 200


# --- The lease, by itself ------------------------------------------------------------------------


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    made = Stub(tmp_path)
    numbers = itertools.count(1)
    made.make_user = lambda: (f"user-{next(numbers)}", "a password of the database")
    yield made
    made.stop()


@pytest.fixture
def credentials(stub: Stub) -> Credentials:
    return credentials_of(stub)


def credentials_of(stub: Stub, **changes: object) -> Credentials:
    given = {
        "APPCONFIG_DIR": "/nonexistent",
        "VAULT_ADDR": stub.url,
        "VAULT_CA": stub.ca,
        "VAULT_TOKEN": TOKEN,
        **changes,
    }
    environment = Environment({name: str(value) for name, value in given.items()})
    return Credentials(Vault(environment), PATH)


def age(credentials: Credentials, seconds: float) -> None:
    """Let the lease be so many seconds older."""
    assert credentials.lease
    credentials.lease.since -= seconds


def count(stub: Stub, what: str) -> int:
    return sum(what in line for line in stub.asked)


def test_a_lease_is_asked_for_once_and_renewed_after_two_thirds(
    stub: Stub, credentials: Credentials
) -> None:
    for _ in range(3):
        assert credentials.current().user == "user-1"
    age(credentials, 2300)
    credentials.current()
    assert stub.asked == [f"GET /v1/{PATH}"]
    age(credentials, 200)
    for _ in range(3):
        assert credentials.current().user == "user-1"
    assert stub.asked == [f"GET /v1/{PATH}", "PUT /v1/sys/leases/renew"]


@pytest.mark.parametrize("why", ["not renewable", "revoked", "at its longest", "over"])
def test_what_cannot_be_renewed_is_read_anew_before_it_ends(
    stub: Stub, credentials: Credentials, why: str
) -> None:
    stub.renewable = why != "not renewable"
    credentials.current()
    if why == "revoked":
        stub.leases.clear()
    if why == "at its longest":
        stub.lease_seconds = 5
    age(credentials, 3599 if why == "over" else 2500)
    assert credentials.current().user == "user-2"


FAULTS = [
    (503, {"errors": ["Vault is sealed"]}),
    (403, {"errors": ["permission denied"]}),
    (404, {"errors": []}),
    (500, None),
    (307, None),
    (200, None),
    (200, []),
    (200, {"data": None}),
    (200, {"data": {"username": "x"}}),
    (200, {"data": {"username": 1, "password": 2}}),
    (200, {"data": {"username": "x", "password": "y"}, "lease_duration": "soon"}),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_while_vault_fails_a_lease_counts_to_its_end_and_no_longer(
    stub: Stub, credentials: Credentials, fault: Any
) -> None:
    credentials.current()
    stub.fault = fault
    age(credentials, 2500)
    assert credentials.current().user == "user-1"
    age(credentials, 1100)
    with pytest.raises(VaultError):
        credentials.current()
    stub.fault = None
    assert credentials.current().user == "user-2"


def test_an_answer_that_does_not_come_is_an_error_after_five_seconds(
    stub: Stub, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authserver.vault.SECONDS", 0.5)
    stub.hang = True
    with pytest.raises(VaultError, match="cannot be reached: ReadTimeout"):
        credentials.current()


def test_only_the_pinned_authority_is_believed(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Stub(tmp_path / "other")
    try:
        with pytest.raises(VaultError, match="SSLError"):
            credentials_of(stub, VAULT_CA=other.ca).current()
    finally:
        other.stop()
    assert stub.asked == []


def test_a_proxy_of_the_environment_is_not_asked(
    stub: Stub, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert credentials.current().user == "user-1"


def test_the_token_may_be_replaced_in_its_file(stub: Stub, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hvs.old-token")
    credentials = credentials_of(stub, VAULT_TOKEN="", VAULT_TOKEN_FILE=file)
    with pytest.raises(VaultError):
        credentials.current()
    file.write_text(TOKEN + "\n")
    assert credentials.current().user == "user-1"
    file.unlink()
    age(credentials, 2500)
    assert credentials.current().user == "user-1"  # it lasts on
    age(credentials, 1100)
    with pytest.raises(VaultError, match="VAULT_TOKEN_FILE"):
        credentials.current()


def test_what_is_refused_says_no_secret(stub: Stub) -> None:
    token = keep_secret("hvs.another-token")
    with pytest.raises(VaultError) as error:
        credentials_of(stub, VAULT_TOKEN=token).current()
    assert token not in str(error.value)
    assert "Forbidden" in str(error.value)
