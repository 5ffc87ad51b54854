"""What the suite promises of itself: where services run, and what fails a run or is said of it."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from service import CPUS, ROOT, Start, free_port

LEAK = """
import secrecy

def test_that_passes():
    secrecy.LOGGED.append("level=INFO password=" + secrecy.keep_secret("a-leaked-password"))
"""
SKIP = """
import pytest

@pytest.mark.skip(reason="needs a thing that is not there")
def test_that_is_skipped():
    pass
"""


def run(tmp_path: Path, text: str, *options: str, ci: str = "") -> tuple[int, str]:
    """The exit status and output of pytest over a file with `text`, with the suite's conftest."""
    (tmp_path / "test_inner.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", "pyproject.toml", *options]
    command += ["-p", "no:schemathesis", "-p", "no:hypothesispytest"]  # slow to load
    ran = subprocess.run(
        [*command, "--rootdir", tmp_path, tmp_path],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "tests"), "CI": ci},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout


@pytest.mark.parametrize("number", range(1, len(CPUS) + 1))
def test_a_service_runs_on_the_processors_that_it_is_given(
    start: Start, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("service.CPUS", CPUS[-number:])
    assert os.sched_getaffinity(start().process.pid) == set(CPUS[-number:])


@pytest.mark.parametrize("options", [(), ("--numprocesses=1",)], ids=["one process", "a worker"])
def test_a_secret_in_a_log_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    status, said = run(tmp_path, LEAK, *options)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "1 passed" in said
    assert "level=INFO password=a-leaked-password" in said


def test_what_is_skipped_is_said_with_the_reason(tmp_path: Path) -> None:
    status, said = run(tmp_path, SKIP)
    assert status == pytest.ExitCode.OK
    assert re.search(r"SKIPPED \[1\] .*: needs a thing that is not there", said)


def test_in_ci_a_skip_is_a_failure(tmp_path: Path) -> None:
    status, said = run(tmp_path, SKIP, ci="true")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "skipped, which CI does not allow" in said


def test_a_port_is_kept_for_whoever_names_it() -> None:
    port = free_port()
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):  # by SO_REUSEADDR, as the service does
        pass
