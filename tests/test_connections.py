"""How long a connection may take, how many there may be, and what happens when the system has no
more to give."""

import contextlib
import os
import re
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from etc import right
from secrecy import WRONG
from service import Service, Start, parallel
from wire import HEALTH, Wire, login, post

SOON = (
    20.0  # seconds within which a cut that is due after 1 must have come, on however slow a machine
)


def until_cut(wire: Wire, drip: bytes = b"") -> float:
    """Wait for the end, sending `drip` all the time; the seconds that it took. Fails if an answer
    comes."""
    began = time.monotonic()
    while not select.select([wire.socket], [], [], 0.05)[0]:
        assert time.monotonic() < began + SOON, "not cut"
        with contextlib.suppress(OSError):
            wire.send(drip)
    assert wire.closed()
    return time.monotonic() - began


def until_broken(wire: Wire, data: bytes, pause: float = 0) -> None:
    """Send `data` over and over, reading nothing, until the connection breaks."""
    began = time.monotonic()
    while time.monotonic() < began + SOON:
        try:
            wire.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return
        time.sleep(pause)
    pytest.fail("not cut")


def comes_in(service: Service) -> None:
    """A new connection is served, if not at once, as a connection may count for a moment after its
    last answer."""
    began = time.monotonic()
    while service.request("GET", "/health").status != 200:
        assert time.monotonic() < began + SOON


# --- Time


@pytest.fixture
def hasty(start: Start) -> Service:
    return start(REQUEST_TIMEOUT=1)


@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"", b""),
        (b"GET /health HTTP/1.1\r\nHost: nas\r\nX: ", b""),
        (b"GET /health HTTP/1.1\r\nHost: nas\r\nX: ", b"y"),
        (b"", b"GET "),
        (login("des", right("des"))[:-1], b""),
        (post(b" " * 4096)[:-4096], b" "),
    ],
    ids=[
        "idle",
        "half a head",
        "a dripping head",
        "a dripping request line",
        "half a body",
        "a dripping body",
    ],
)
def test_a_request_that_does_not_arrive_whole_in_time_is_closed_without_an_answer(
    hasty: Service, sent: bytes, drip: bytes
) -> None:
    began = time.monotonic()
    with Wire(hasty) as wire:
        wire.send(sent)
        until_cut(wire, drip)
        assert time.monotonic() - began > 0.9
    assert hasty.request("GET", "/health").status == 200
    assert not any("verdict" in line for line in hasty.log_lines())


@pytest.mark.parametrize("drip", [b"", b"G"], ids=["idle", "dripping the next request"])
def test_a_connection_that_is_kept_alive_has_the_same_time(hasty: Service, drip: bytes) -> None:
    with Wire(hasty) as wire:
        began = time.monotonic()
        wire.send(HEALTH).answer()
        until_cut(wire, drip)
        assert time.monotonic() - began > 0.9


def test_every_request_on_a_connection_has_its_own_time(start: Start) -> None:
    with Wire(start(REQUEST_TIMEOUT=2)) as wire:
        began = time.monotonic()
        while time.monotonic() < began + 3:
            assert wire.send(HEALTH).answer().status == 200
            select.select([wire.socket], [], [], 0.2)


def test_the_time_of_a_request_begins_with_its_first_byte(start: Start) -> None:
    with Wire(start(REQUEST_TIMEOUT=6)) as wire:
        wire.send(HEALTH).answer()
        for part in (
            b"",
            HEALTH[:9],
        ):  # idle for less than its time, then the same for the request: more together
            wire.send(part)
            assert not select.select([wire.socket], [], [], 4)[0], "cut too early"
        assert wire.send(HEALTH[9:]).answer().status == 200


def test_what_follows_an_error_is_not_read_for_ever(hasty: Service) -> None:
    with Wire(hasty) as wire:
        assert wire.send(post(b"")[:-5] + b"9999999\r\n\r\n").last().status == 413
        until_broken(wire, b"x", pause=0.02)


def test_an_answer_that_is_not_taken_costs_its_connection(start: Start) -> None:
    service = start(REQUEST_TIMEOUT=1, MAX_CONNECTIONS=1, LOG_LEVEL="WARNING")
    with Wire(service) as wire:
        until_broken(wire, HEALTH * 1000)
        comes_in(service)


def test_a_request_that_takes_longer_than_the_time_to_arrive_is_answered(start: Start) -> None:
    service = start(REQUEST_TIMEOUT=0.5, FAIL_DELAY=1.5)
    with Wire(service) as wire:
        assert wire.send(login("des", WRONG)).answer().json["valid"] is False


# --- Number


def await_sockets(service: Service, number: int) -> None:
    """Wait until so many connections are open, as the kernel sees it."""
    began = time.monotonic()
    while True:
        found = -1  # that on which it listens
        for path in Path(f"/proc/{service.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in between
                found += os.readlink(path).startswith("socket:")
        if found == number:
            return
        assert time.monotonic() < began + SOON, found
        time.sleep(0.02)


def kept(service: Service, stack: contextlib.ExitStack, number: int) -> list[Wire]:
    """Connections that are kept alive."""
    wires = [stack.enter_context(Wire(service)) for _ in range(number)]
    for wire in wires:
        wire.send(HEALTH).answer()
    return wires


def held(service: Service, stack: contextlib.ExitStack, number: int) -> list[Wire]:
    """Connections that wait for a refusal, which is held back."""
    wires = [stack.enter_context(Wire(service)) for _ in range(number)]
    for n, wire in enumerate(wires):
        wire.send(login(f"nobody{n}", WRONG))
    for n in range(number):
        service.wait_for_log(f"event=verdict user=nobody{n} ")
    return wires


def test_the_one_that_has_waited_longest_is_closed_to_make_room(start: Start) -> None:
    service = start(MAX_CONNECTIONS=4, REQUEST_TIMEOUT=60)
    with contextlib.ExitStack() as stack:
        first, second, third, fourth = (stack.enter_context(Wire(service)) for _ in range(4))
        await_sockets(service, 4)
        first.send(HEALTH).answer()  # now the second has waited longest
        third.send(b"GET /he")  # what is not complete is waited for as well
        newest = stack.enter_context(Wire(service)).send(HEALTH)
        assert newest.answer().status == 200
        assert second.closed()
        another = stack.enter_context(Wire(service)).send(HEALTH)
        assert another.answer().status == 200
        assert third.closed()
        for wire in (fourth, first, newest, another):
            assert wire.send(HEALTH).answer().status == 200


def test_a_login_succeeds_while_idle_and_dripping_connections_take_all_room(start: Start) -> None:
    service = start(MAX_CONNECTIONS=10, REQUEST_TIMEOUT=60)
    with contextlib.ExitStack() as stack:
        wires = kept(service, stack, 3) + [stack.enter_context(Wire(service)) for _ in range(7)]
        for n, wire in enumerate(wires):
            wire.send(b"" if n % 2 else login("des", right("des"))[: 20 * n])
        for _ in range(5):
            assert service.validate("des", right("des")).json["valid"] is True
            wires.append(stack.enter_context(Wire(service)).send(b"G"))


def test_when_all_are_busy_the_new_one_gets_503_and_is_closed(start: Start) -> None:
    service = start(MAX_CONNECTIONS=3, FAIL_DELAY=3)
    with contextlib.ExitStack() as stack:
        wires = held(service, stack, 3)
        for sent in (b"", HEALTH, login("des", right("des"))):
            response = stack.enter_context(Wire(service)).send(sent).last()
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert isinstance(response.json["error"], str)
        for wire in wires:
            assert wire.answer().json == {"valid": False, "error": "Invalid credentials"}
    comes_in(service)


def test_one_that_is_refused_is_not_reset_by_what_it_still_sends(start: Start) -> None:
    """A reset would take its answer away; for a second it may send."""
    service = start(MAX_CONNECTIONS=1, FAIL_DELAY=3)
    with contextlib.ExitStack() as stack:
        held(service, stack, 1)
        broken = select.poll()
        for _ in range(20):  # on a busy machine the second may be over too soon
            with Wire(service) as wire:
                assert wire.last().status == 503
                wire.send(HEALTH)
                broken.register(wire.socket, 0)  # of errors it always tells
                if not broken.poll(200):
                    return
                broken.unregister(wire.socket)
    pytest.fail("reset")


def test_a_held_refusal_is_not_closed_to_make_room(start: Start) -> None:
    service = start(MAX_CONNECTIONS=2, FAIL_DELAY=3, REQUEST_TIMEOUT=60)
    with contextlib.ExitStack() as stack:
        (refused,) = held(service, stack, 1)
        (idle,) = kept(service, stack, 1)
        comes_in(service)
        assert idle.closed()
        assert not select.select([refused.socket], [], [], 0)[0]
        assert refused.answer().json["valid"] is False


def asleep(service: Service) -> bool:
    """Whether none of its threads runs, or would if there were a processor for it (proc(5))."""
    for task in Path(f"/proc/{service.process.pid}/task").iterdir():
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            return False
        if state != "S":
            return False
    return True


def full(service: Service, wire: Wire) -> None:
    """Ask without taking an answer, until neither side can send any more."""
    wire.socket.setblocking(False)
    while select.select([], [wire.socket], [], 0.5)[1] or not asleep(service):
        with contextlib.suppress(BlockingIOError):
            wire.socket.send(HEALTH * 100)


def test_one_that_does_not_take_its_answer_for_a_second_makes_room(start: Start) -> None:
    service = start(MAX_CONNECTIONS=2, REQUEST_TIMEOUT=60, FAIL_DELAY=3, LOG_LEVEL="INFO")
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(Wire(service))
        full(service, slow)
        (refused,) = held(service, stack, 1)
        assert service.request("GET", "/health").status == 200
        until_broken(slow, HEALTH)
        assert refused.answer().json["valid"] is False


def test_an_idle_one_that_has_waited_longer_goes_before_one_that_takes_no_answer(
    start: Start,
) -> None:
    service = start(MAX_CONNECTIONS=2, REQUEST_TIMEOUT=60, LOG_LEVEL="INFO")
    with contextlib.ExitStack() as stack:
        idle = stack.enter_context(Wire(service)).send(HEALTH)
        idle.answer()
        slow = stack.enter_context(Wire(service))
        full(service, slow)
        assert service.request("GET", "/health").status == 200
        assert idle.closed()


def narrow(service: Service) -> Wire:
    """A connection on which little fits in between: small segments, and a small window."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.connect((service.host, service.port))
    return Wire(client)


def test_right_logins_come_through_beside_many_who_take_no_answer(start: Start) -> None:
    service = start(LOG_LEVEL="ERROR", REQUEST_TIMEOUT=60, MAX_CONNECTIONS=16)
    with contextlib.ExitStack() as stack:
        parallel(partial(full, service), [stack.enter_context(narrow(service)) for _ in range(16)])
        for _ in range(4):
            assert service.validate("des", right("des")).json["valid"] is True
            full(service, stack.enter_context(narrow(service)))  # takes the place again


# --- What the system has no more of


@contextlib.contextmanager
def descriptors(service: Service, limit: int | None = None) -> Iterator[None]:
    """The running process has no descriptor left: `limit` is the first that it cannot have, else
    the first unused."""
    pid = service.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    lowest_free = min(set(range(len(used) + 1)) - used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit or lowest_free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_without_a_descriptor_open_connections_go_on_and_a_new_one_waits(service: Service) -> None:
    with Wire(service) as old:
        old.send(HEALTH).answer()
        await_sockets(service, 1)
        with contextlib.ExitStack() as stack:
            with descriptors(service):
                waiting = [stack.enter_context(Wire(service)).send(HEALTH) for _ in range(3)]
                for _ in range(5):
                    assert old.send(HEALTH).answer().status == 200
                    # no verdict can come of it, or the right one
                    answer = old.send(login("des", right("des"))).answer()
                    assert (answer.status, answer.json["valid"]) in ((503, False), (200, True))
                service.wait_for_log("level=ERROR event=accept ")
            for wire in waiting:
                assert wire.answer().status == 200
        assert old.send(login("des", right("des"))).answer().json["valid"] is True
    assert service.request("GET", "/ready").status == 200


def test_with_too_few_descriptors_nobody_is_refused_wrongly(service: Service) -> None:
    """pam_unix finds no account then, or no shadow file."""
    pid = service.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with Wire(service) as wire:
        wire.send(HEALTH).answer()
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        for more in range(8):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + more, before[1]))
            answer = wire.send(login("des", right("des"))).answer()
            assert (answer.status, answer.json["valid"]) in ((503, False), (200, True)), more
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert wire.send(login("des", right("des"))).answer().json["valid"] is True


@contextlib.contextmanager
def no_threads(service: Service) -> Iterator[None]:
    """The running process can start none: a cgroup of its own allows fewer than it has."""
    pids = next(
        (
            p
            for p in map(Path, ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"))
            if (p / "cgroup.procs").exists()
        ),
        None,
    )
    group = (pids or Path("/nowhere")) / f"ugos-auth-proxy-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"needs a cgroup to bound the number of threads: {error}")
    pid = str(service.process.pid)
    before = next(
        line
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        if re.search(":pids:|^0::", line)
    )
    try:
        if not (group / "pids.max").exists():
            pytest.skip("needs a cgroup with the pids controller")
        (group / "cgroup.procs").write_text(pid)
        (group / "pids.max").write_text("1")
        yield
        (group / "pids.max").write_text("max")
    finally:
        assert pids
        (pids / before.rpartition(":")[2].lstrip("/") / "cgroup.procs").write_text(pid)
        group.rmdir()


def test_without_a_thread_only_the_new_connection_is_lost(start: Start) -> None:
    service = start()
    with Wire(service) as old:
        assert old.send(login("des", right("des"))).answer().json["valid"] is True
        with no_threads(service):
            for _ in range(5):
                with Wire(service) as wire:
                    assert wire.closed()
                assert old.send(login("des", right("des"))).answer().json["valid"] is True
            service.wait_for_log("level=ERROR.*thread")
    assert service.request("GET", "/ready").status == 200


def test_clients_that_reset_leave_nothing_behind(service: Service) -> None:
    for sent in (
        b"",
        HEALTH[:9],
        HEALTH,
        login("des", WRONG),
        post(b"")[:-5] + b"9999\r\n\r\n",
    ) * 10:
        with Wire(service) as wire:
            wire.send(sent)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert service.request("GET", "/health").status == 200
    await_sockets(service, 0)
