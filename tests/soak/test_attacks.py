"""What locks nobody out: a right login every 0.1 s, each on a connection of its own, beside clients
that do their worst. None may be lost, that is refused, cut, or take longer than 5 seconds."""

import contextlib
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import Service, Start, right
from wire import HEALTH, Wire, login

SECONDS = float(os.environ.get("ATTACK_SECONDS") or 20)
READY = HEALTH.replace(b"health", b"ready")
LOST = 5.0


def connect(port: int) -> socket.socket | None:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(LOST)
    try:
        client.connect(("127.0.0.1", port))
    except OSError:
        client.close()
        return None
    client.setblocking(False)
    return client


def take_nothing(port: int, number: int) -> None:
    """Keep so many connections that ask without end and read nothing; one that is cut comes back."""
    clients = [connect(port) for _ in range(number)]
    while True:
        for at, client in enumerate(clients):
            try:
                if client is None:
                    raise OSError
                client.send(HEALTH * 50)
            except BlockingIOError:
                continue
            except OSError:
                if client:
                    client.close()
                clients[at] = connect(port)
        time.sleep(0.01)


def ask_whether_ready(port: int, number: int) -> None:
    """Keep so many connections that ask /ready again as soon as they have the answer."""
    clients = [connect(port) for _ in range(number)]
    asked = [False] * number
    while True:
        for at, client in enumerate(clients):
            try:
                if client is None:
                    raise OSError
                if asked[at] and not client.recv(4096):
                    raise OSError
                client.send(READY)
                asked[at] = True
            except BlockingIOError:
                continue
            except OSError:
                if client:
                    client.close()
                clients[at], asked[at] = connect(port), False
        time.sleep(0.001)


@contextlib.contextmanager
def attacked(attack: Callable[[int, int], None], port: int, number: int) -> Iterator[None]:
    attacker = multiprocessing.get_context("fork").Process(target=attack, args=(port, number))
    attacker.start()
    try:
        yield
    finally:
        attacker.kill()
        attacker.join()


def seconds_of_a_login(service: Service) -> float:
    """`LOST` where it is."""
    began = time.monotonic()
    try:
        with Wire(service.connect(LOST)) as wire:
            answer = wire.send(login("sha512", right("sha512"))).answer()
    except (AssertionError, OSError):
        return LOST
    return (
        time.monotonic() - began if answer.json == {"valid": True, "username": "sha512"} else LOST
    )


@pytest.mark.parametrize(
    ("attack", "number"), [(take_nothing, 1000), (ask_whether_ready, 300)], ids=str
)
def test_no_right_login_is_lost(
    start: Start, attack: Callable[[int, int], None], number: int
) -> None:
    service = start(LOG_LEVEL="ERROR")
    with attacked(attack, service.port, number):
        time.sleep(2)  # until all are there
        times, until = [], time.monotonic() + SECONDS
        while time.monotonic() < until:
            times.append(seconds_of_a_login(service))
            time.sleep(0.1)
    lost = sum(each >= LOST for each in times)
    slow = statistics.quantiles(times, n=20)[-1]
    print(
        f"\n{attack.__name__}, {number} clients: {len(times)} right logins, {lost} lost; "
        f"half within {statistics.median(times) * 1000:.0f} ms, 95 of 100 within {slow * 1000:.0f}"
    )
    assert lost == 0
