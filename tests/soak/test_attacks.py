"""What locks nobody out: a right login every 0.1 s, each on a connection of its own, beside clients
that do their worst. None may be lost, that is refused, cut, or not answered. How long they take is
printed, and not judged: it depends on what else the machine does."""

import contextlib
import math
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator

import pytest
from etc import right
from service import BOUND, Service, Start
from wire import HEALTH, Wire, login

SECONDS = float(os.environ.get("ATTACK_SECONDS") or 20)
READY = HEALTH.replace(b"health", b"ready")


def connect(port: int) -> socket.socket | None:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(BOUND)
    try:
        client.connect(("127.0.0.1", port))
    except OSError:
        client.close()
        return None
    client.setblocking(False)
    return client


def take_nothing(port: int, number: int) -> None:
    """Keep so many connections that ask without end and read nothing; who is cut comes back."""
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
    """Infinite, and printed, where it is lost."""
    began = time.monotonic()
    try:
        with Wire(service.connect()) as wire:
            answer = wire.send(login("sha512", right("sha512"))).answer()
        assert answer.json == {"valid": True, "username": "sha512"}, answer
    except (AssertionError, OSError) as error:
        print(f"\nlost after {time.monotonic() - began:.1f} s: {error!r}")
        return math.inf
    return time.monotonic() - began


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
    lost = times.count(math.inf)
    half, *_, slow = (f"{each * 1000:.0f} ms" for each in statistics.quantiles(times, n=20)[9:])
    print(
        f"\n{attack.__name__}, {number} clients: {len(times)} right logins, {lost} lost; "
        f"half within {half}, 95 of 100 within {slow}"
    )
    assert lost == 0
