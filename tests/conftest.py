"""The fixtures of the suite, and what fails a run beside its tests: a leak in a log; in CI, a
skip."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import secrecy
from etc import Etc
from secrecy import TOKEN
from service import COVERAGE_FOLDER, ROOT, Service, Start

if TYPE_CHECKING:
    from logins import Site

# --- The run -----------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--coverage", action="store_true", help="measure what the services run of main.py"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--coverage"):
        os.environ.setdefault("COVERAGE_PROCESS_START", str(ROOT / "pyproject.toml"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    found = secrecy.leaks()
    if hasattr(
        session.config, "workeroutput"
    ):  # a worker of pytest-xdist: it has no say in the end
        session.config.workeroutput["leaks"] = found
    elif found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for data in COVERAGE_FOLDER.iterdir():
        shutil.move(data, ROOT / data.name)
    shutil.rmtree(COVERAGE_FOLDER)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    secrecy.LEAKED.extend(getattr(node, "workeroutput", {}).get("leaks", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := secrecy.leaks():
        terminalreporter.section("FAILED: a secret or a bug in the services' logs", red=True)
        for line in lines:
            terminalreporter.line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report  # type: ignore[return-value]


# --- Fixtures ----------------------------------------------------------------------------------


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path / "etc")


@pytest.fixture
def start(etc: Etc) -> Iterator[Start]:
    """Starts services: settings are keyword arguments in capitals, the others are those of
    `Service`."""
    running: list[Service] = []

    def begin(*, etc: Etc = etc, **options: Any) -> Service:
        env = {name: str(value) for name, value in options.items() if name.isupper()}
        others = {name: value for name, value in options.items() if not name.isupper()}
        running.append(Service(etc, env, **others))
        return running[-1]

    yield begin
    for service in running:
        service.stop()


@pytest.fixture
def site(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator["Site"]:
    """The double of authentik with the blueprint; at the end no password may be left anywhere in
    it."""
    from logins import Site

    for name in ("UGOS_AUTH_PROXY_URL", "UGOS_AUTH_PROXY_TOKEN", "UGOS_AUTH_PROXY_CA", "GROUP_MAP"):
        monkeypatch.delenv(name, raising=False)
    authentik = Site(tmp_path_factory.getbasetemp())
    yield authentik
    assert not authentik.leaks()


@pytest.fixture
def nas(start: Start, site: "Site", monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service that the policy of `site` asks, with a token."""
    running = start(AUTH_TOKEN=TOKEN)
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", f"http://127.0.0.1:{running.port}")
    monkeypatch.setenv("UGOS_AUTH_PROXY_TOKEN", TOKEN)
    return running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for a module, with the settings of `DEFAULTS`."""
    running = Service(Etc(tmp_path_factory.mktemp("module") / "etc"), {})
    yield running
    running.stop()
