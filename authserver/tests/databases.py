"""The database of a test run: SQLite files, or databases in a PostgreSQL cluster of its own."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import free_port

SHARED = "AUTHSERVER_TESTS"  # a folder that the workers of pytest-xdist share
CLUSTER = "AUTHSERVER_TESTS_CLUSTER"  # postgres://USER@HOST:PORT of the cluster, where there is one
AUTHSERVER = str(Path(sys.executable).with_name("authserver"))


def binaries() -> Path | None:
    """Where PostgreSQL's programs are: Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


class Cluster:
    """A PostgreSQL server on a free loopback port, with its files in `folder`.

    It refuses to run as root, and then runs as the user `postgres`. It trusts whoever connects,
    and does not care for its disk: both are right for a test only.
    """

    def __init__(self, folder: Path) -> None:
        found = binaries()
        assert found, "PostgreSQL is not installed"
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        self.as_user = []
        if os.geteuid() == 0:
            self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(folder, "postgres", "postgres")
        self.pg_ctl = [*self.as_user, str(found / "pg_ctl"), "-D", str(folder / "data")]
        options = "--username=authserver --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync"
        self.run("init", "-o", options)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(folder),
            "max_connections": "300",
            "fsync": "off",
            "full_page_writes": "off",
        }
        with (folder / "data/postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self.start()

    @property
    def url(self) -> str:
        return f"postgres://authserver@127.0.0.1:{self.port}"

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [*self.pg_ctl, *arguments],
            stdout=subprocess.DEVNULL if "start" in arguments else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        self.run("-w", "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        self.run("-m", "immediate", "stop")


def cluster_url() -> str:
    """Of the run's cluster; "" where it runs on SQLite."""
    return os.environ.get(CLUSTER, "")


def execute(statement: str) -> None:
    """Run one statement in the run's cluster."""
    import psycopg

    with psycopg.connect(f"{cluster_url()}/postgres", autocommit=True) as connection:
        connection.execute(statement.encode())


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Alone among the workers; the folder that they share."""
    folder = Path(os.environ[SHARED])
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder


def migrate(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [AUTHSERVER, "migrate", "--verbosity", "0"],
        env={"PATH": os.environ["PATH"], "SECRET_KEY": "x" * 32, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def new_database(folder: Path, *, empty: bool = False) -> str:
    """The DATABASE_URL of a new database: migrated, unless `empty`. SQLite's is in `folder`."""
    if not cluster_url():
        file = folder / "db.sqlite3"
        if not empty:
            shutil.copy(migrated_file(), file)
        return f"sqlite:///{file}"
    name = f"t{uuid.uuid4().hex[:16]}"
    template = "template0" if empty else migrated_database()
    with locked("create"):  # a template may have one user at a time
        execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"{cluster_url()}/{name}"


def drop_database(url: str) -> None:
    if url.startswith("postgres"):
        execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")


def migrated_file() -> Path:
    with locked("migrated") as folder:
        file = folder / "migrated.sqlite3"
        if not file.exists():
            made = folder / "made.sqlite3"
            migrate({"DATABASE_URL": f"sqlite:///{made}", "DATA_DIR": str(folder)})
            made.rename(file)
    return file


def migrated_database() -> str:
    with locked("migrated") as folder:
        done = folder / "migrated"
        if not done.exists():
            execute("CREATE DATABASE migrated TEMPLATE template0")
            migrate({"DATABASE_URL": f"{cluster_url()}/migrated"})
            done.touch()
    return "migrated"


def new_folder() -> Path:
    """For the whole run. The cluster's user has to reach into it."""
    folder = Path(tempfile.mkdtemp(prefix="authserver-tests-"))
    folder.chmod(0o755)
    return folder
