"""Start and stop."""

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from etc import Etc, right
from secrecy import WRONG
from service import Service, Start
from wire import HEALTH, Wire, login


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(start: Start, number: signal.Signals) -> None:
    service = start()
    assert service.validate("des", right("des")).json["valid"] is True
    service.process.send_signal(number)
    assert service.process.wait(10) == 0
    said = [line for line in service.log_lines() if "level=DEBUG" not in line]
    assert f"event=stop signal={number.name}" in said[-1]
    assert "Traceback" not in "\n".join(service.log_lines())
    with pytest.raises(ConnectionRefusedError):
        service.connect()


@pytest.mark.alone
def test_a_held_refusal_is_still_answered_after_sigterm_and_no_connection_taken(
    start: Start,
) -> None:
    service = start(FAIL_DELAY=3)
    with Wire(service) as refused, Wire(service) as idle, Wire(service) as half:
        idle.send(HEALTH).answer()
        half.send(HEALTH[:-2])
        began = time.monotonic()
        refused.send(login("des", WRONG))
        service.wait_for_log("event=verdict")
        service.process.terminate()
        assert idle.closed()
        assert half.closed()
        assert time.monotonic() < began + 3, "idle connections were not closed at once"
        assert service.process.poll() is None
        with pytest.raises(ConnectionRefusedError):
            service.connect()
        assert refused.last().json == {"valid": False, "error": "Invalid credentials"}
        assert time.monotonic() >= began + 3
    assert service.process.wait(10) == 0


def test_a_port_can_be_taken_again_at_once(start: Start) -> None:
    service = start()
    with Wire(service) as wire:
        wire.send(HEALTH).answer()
        assert service.stop() == 0
        again = start(PORT=service.port)
        assert again.request("GET", "/health").status == 200


@contextmanager
def hanging(start: Start, etc: Etc) -> Iterator[tuple[Service, Wire]]:
    """A service with a login that hangs in PAM until the end, and its connection."""
    etc.script("hang", 'echo "$$" > /etc/hangs\nexec sleep 60\n')
    etc.pam(
        "ugos-auth-proxy",
        "auth required pam_exec.so quiet /etc/hang\naccount required pam_unix.so\n",
    )
    service = start()
    with Wire(service) as wire:
        wire.send(login("des", right("des")))
        deadline = time.monotonic() + 30
        while not (etc.path / "hangs").exists() or not etc.read("hangs"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        try:
            yield service, wire
        finally:
            os.kill(int(etc.read("hangs")), signal.SIGKILL)


@pytest.mark.alone
def test_a_call_that_hangs_in_pam_does_not_hold_the_stop(start: Start, etc: Etc) -> None:
    with hanging(start, etc) as (service, _):
        began = time.monotonic()
        service.process.terminate()
        assert service.process.wait(30) == 0
        assert time.monotonic() - began < 14  # 10, and a slow machine


@pytest.mark.alone
def test_a_call_that_hangs_for_a_peer_who_is_gone_does_not_hold_the_stop(
    start: Start, etc: Etc
) -> None:
    with hanging(start, etc) as (service, wire):
        wire.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # closing resets
        wire.file.close()
        wire.socket.close()
        service.wait_for_log("event=verdict .*reason=HANG")
        began = time.monotonic()
        service.process.terminate()
        assert service.process.wait(30) == 0
        assert time.monotonic() - began < 9  # a request that runs would be given 10


@pytest.mark.alone
def test_an_answer_that_is_not_taken_does_not_hold_the_stop(start: Start) -> None:
    service = start(REQUEST_TIMEOUT=60, LOG_LEVEL="WARNING")
    with Wire(service) as wire:
        wire.socket.setblocking(False)
        while select.select([], [wire.socket], [], 1)[1]:  # until neither side can send any more
            wire.socket.send(HEALTH * 1000)
        service.process.terminate()
        assert service.process.wait(14) == 0  # 10, and a slow machine


@pytest.mark.parametrize("host", ["::1", "::"])
def test_an_ipv6_address_works(start: Start, host: str) -> None:
    service = start(HOST=host)
    assert service.validate("des", right("des")).json["valid"] is True
    assert "client=::1 " in service.wait_for_log("event=verdict")


def test_an_ipv4_client_of_an_ipv6_socket_is_called_by_its_ipv4_address(start: Start) -> None:
    service = start(HOST="::")
    service.host = "127.0.0.1"
    assert service.validate("des", right("des")).json["valid"] is True
    assert "client=127.0.0.1 " in service.wait_for_log("event=verdict")


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "http://127.0.0.1"), ("::1", "http://[::1]")]
)
def test_systemd_is_told_once_it_listens_and_where(
    start: Start, tmp_path: Path, host: str, url: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        service = start(HOST=host, NOTIFY_SOCKET=tmp_path / "notify")
        systemd.settimeout(30)
        assert systemd.recv(1000).decode() == f"READY=1\nSTATUS={url}:{service.port}"


def test_a_start_does_not_fail_because_nobody_is_there_to_be_told(
    start: Start, tmp_path: Path
) -> None:
    service = start(NOTIFY_SOCKET=tmp_path / "nobody")
    assert "error=" in service.wait_for_log("level=WARNING event=notify ")
    assert service.request("GET", "/health").status == 200


@pytest.fixture(scope="module")
def old_pam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with python-pam 2.0.2, as Debian has it, and six."""
    folder = tmp_path_factory.mktemp("pam")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(folder),
    ]
    done = subprocess.run(
        [*command, "python-pam==2.0.2", "six"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"python-pam 2.0.2 cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    return folder


def test_python_pam_2_0_2_works_as_well(start: Start, old_pam: Path) -> None:
    where = [sys.executable, "-c", "import pam; print(pam.__file__)"]
    loaded = subprocess.run(
        where, env={"PYTHONPATH": str(old_pam)}, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.startswith(str(old_pam))
    service = start(PYTHONPATH=old_pam)
    assert service.request("GET", "/ready").status == 200
    for name in ("des", "sha512", "yescrypt"):
        assert service.validate(name, right(name)).json == {"valid": True, "username": name}
        assert service.validate(name, WRONG).json == {
            "valid": False,
            "error": "Invalid credentials",
        }
    assert service.validate("des.expired", right("des.expired")).json["error"] == "Account expired"
    assert (
        service.validate("des.mustchange", right("des.mustchange")).json["error"]
        == "Password expired"
    )
    assert service.validate("nopassword", WRONG).json["valid"] is False


def test_with_python_pam_2_0_2_a_null_password_and_the_delay_of_the_stack_are_off_too(
    start: Start, old_pam: Path
) -> None:
    service = start(PYTHONPATH=old_pam, PAM_SERVICE="debian")
    began = time.monotonic()
    assert service.validate("nopassword", WRONG).json == {
        "valid": False,
        "error": "Invalid credentials",
    }
    for _ in range(4):  # 2 s each, were the delay still libpam's
        assert service.validate("des", WRONG).json["valid"] is False
    assert time.monotonic() - began < 6
    assert service.validate("des", right("des")).json["valid"] is True
