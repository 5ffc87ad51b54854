"""The fixtures of the suite, and what is checked over its whole output.

`--database sqlite` (the default) or `--database postgres` says where it runs. No setting of the
environment counts: each is a test's own.
"""

import os
import shutil
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import django
import pytest

from authserver.environment import SETTINGS
from tests import databases
from tests.processes import leaks

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

    from tests.nas import Nas
    from tests.server import Serve, Server

SECRET_KEY = "the-secret-key-of-the-tests-and-nothing-else"
NO_POSTGRES = "PostgreSQL is not installed: apt install postgresql"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=("sqlite", "postgres"), default="sqlite", help="where the suite runs"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Settle the settings of this process before pytest-django reads them."""
    for setting in SETTINGS:
        os.environ.pop(setting.name, None)
        os.environ.pop(f"{setting.name}_FILE", None)
    if not hasattr(config, "workerinput"):
        folder = databases.new_folder()
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ[databases.SHARED] = str(folder)
        os.environ.pop(databases.CLUSTER, None)
        if config.getoption("database") == "postgres" and databases.binaries():
            cluster = databases.Cluster(folder / "postgres")
            config.add_cleanup(cluster.stop)
            os.environ[databases.CLUSTER] = cluster.url
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "authserver.settings",
        "SECRET_KEY": SECRET_KEY,
        "APPCONFIG_DIR": "/nonexistent",
        "DATA_DIR": os.environ[databases.SHARED],
        "REFUSAL_SECONDS": "0",
    }
    if url := databases.cluster_url():
        os.environ["DATABASE_URL"] = f"{url}/postgres"
    django.setup()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other database, and on PostgreSQL what depends on none."""
    on_postgres = config.getoption("database") == "postgres"
    others = ("once", "sqlite") if on_postgres else ("postgres",)
    left_out = [item for item in items if any(map(item.get_closest_marker, others))]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    if on_postgres and not databases.binaries():
        for item in items:
            item.add_marker(pytest.mark.skip(reason=NO_POSTGRES))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if leaks():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if hasattr(session.config, "workerinput"):
        session.config.workeroutput["leaks"] = leaks()  # type: ignore[attr-defined]


def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist has found."""
    found: list[str] = getattr(node, "workeroutput", {}).get("leaks", [])
    LEAKS_OF_WORKERS.extend(found)


LEAKS_OF_WORKERS: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := leaks() + LEAKS_OF_WORKERS:
        terminalreporter.section("FAILED: a secret, or the trace of a bug, in a log", red=True)
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes(django_db_blocker: "DjangoDbBlocker") -> None:
    """Passwords that this process sets are hashed fast: what a hash costs is no matter here."""
    from authserver.accounts.passwords import Hasher
    from tests.server import Server

    Hasher.rounds = 4
    Server.blocker = django_db_blocker


@pytest.fixture(scope="session")
def django_db_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The database of tests with `django_db`: a migrated copy, as a server's."""
    import dj_database_url
    from django.db import connections

    url = databases.new_database(tmp_path_factory.mktemp("database"))
    settings = connections.settings["default"]
    settings["NAME"] = dj_database_url.parse(url)["NAME"]
    settings["OPTIONS"].pop("pool", None)
    yield
    connections.close_all()
    databases.drop_database(url)


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Serve"]:
    """Starts servers, each with a database of its own: `serve(MAX_FAILURES=3)`."""
    from tests.server import Server

    running: list[Server] = []

    def start(**settings: Any) -> Server:
        running.append(Server(tmp_path_factory.mktemp("server"), **settings))
        return running[-1]

    yield start
    for server in reversed(running):  # those that share a database before the one that owns it
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """One server for a module, with the settings of `tests.server.DEFAULTS`."""
    from tests.server import Server

    running = Server(tmp_path_factory.mktemp("module"))
    yield running
    running.stop()


@pytest.fixture
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Nas"]:
    """A NAS: the real ugos-auth-proxy with accounts of its own and real PAM."""
    from tests.nas import Nas

    running = Nas(tmp_path_factory.mktemp("nas"))
    yield running
    running.stop()
