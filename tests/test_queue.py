"""The turns at PAM: how many calls run at once, who is next, who waits how long, and what a hung
call costs."""

import os
import select
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from etc import PLAIN, Etc, right
from secrecy import WRONG
from service import BOUND, CPUS, Response, Start

import main

pytestmark = pytest.mark.alone


class Blocker:
    """A stack that blocks every login of a name that begins with `hang`, in PAM, until it is let
    go.

    `accounts` of them are made, with the password `right(name)`.
    """

    def __init__(self, etc: Etc, accounts: int) -> None:
        self.names = [f"hang{number}" for number in range(accounts)]
        for name in self.names:
            etc.add_user(name, right(name))
        for fifo in ("calls", "gate"):
            os.mkfifo(etc.path / fifo)
        etc.script(
            "block",
            "case $PAM_USER in hang*) echo $PAM_USER >/etc/calls; read line </etc/gate;; esac\n",
        )
        etc.pam("ugos-auth-proxy", "auth required pam_exec.so quiet /etc/block\n" + PLAIN)
        self.calls = os.open(etc.path / "calls", os.O_RDWR)
        self.gate = os.open(etc.path / "gate", os.O_RDWR)
        self.threads = ThreadPoolExecutor(64)
        self.begun = b""

    def next_call(self, timeout: float = BOUND) -> str:
        """The name of the next login that PAM has begun with; waits for it, "" when none comes."""
        while b"\n" not in self.begun:
            if not select.select([self.calls], [], [], timeout)[0]:
                return ""
            self.begun += os.read(self.calls, 4096)
        name, _, self.begun = self.begun.partition(b"\n")
        return name.decode()

    def release(self, number: int = 1) -> None:
        os.write(self.gate, b"\n" * number)

    def close(self) -> None:
        self.release(100)
        self.threads.shutdown()
        os.close(self.calls)
        os.close(self.gate)


@pytest.fixture
def blocker(etc: Etc) -> Iterator[Blocker]:
    blocker = Blocker(etc, 12)
    yield blocker
    blocker.close()


def login(blocker: Blocker, service: Any, name: str, password: str = "") -> Future[Response]:
    return blocker.threads.submit(service.validate, name, password or right(name))


def fill(blocker: Blocker, service: Any) -> list[Future[Response]]:
    """Take all turns; they are kept until `release`."""
    logins = [login(blocker, service, name) for name in blocker.names[: len(CPUS)]]
    assert sorted(blocker.next_call() for _ in logins) == blocker.names[: len(CPUS)]
    return logins


def test_as_many_calls_run_at_once_as_there_are_processors(start: Start, blocker: Blocker) -> None:
    service = start()
    logins = [login(blocker, service, name) for name in blocker.names]
    for _ in CPUS:
        assert blocker.next_call()
    for _ in blocker.names[len(CPUS) :]:
        assert blocker.next_call(0.02) == "", "a call is begun although none has ended"
        blocker.release()
        assert blocker.next_call()
    blocker.release(len(CPUS))
    assert [answer.result().json for answer in logins] == [
        {"valid": True, "username": n} for n in blocker.names
    ]


def test_a_login_that_waits_4_seconds_for_its_turn_is_503(start: Start, blocker: Blocker) -> None:
    service = start()
    kept = fill(blocker, service)
    began = time.monotonic()
    # a name that is not served, and a question of /ready, take their turns in the same queue
    waiting = [login(blocker, service, "des"), login(blocker, service, "no.such.user", WRONG)]
    asked = blocker.threads.submit(service.request, "GET", "/ready")
    for answer in (future.result() for future in waiting):
        assert (answer.status, answer.json["valid"]) == (503, False)
        assert int(answer.headers["Retry-After"]) > 0
    assert 4 <= time.monotonic() - began < 9
    assert asked.result().status == 503
    assert service.request("GET", "/health").status == 200
    assert service.request("GET", "/user-info?username=des").status == 200
    service.wait_for_log("event=verdict user=des .* result=error reason=")
    blocker.release(len(kept))
    assert all(future.result().json["valid"] for future in kept)
    assert service.validate("des", right("des")).json["valid"] is True
    assert service.request("GET", "/ready").status == 200


def test_a_login_at_its_usual_place_does_not_wait_for_a_flood_of_others(
    start: Start, blocker: Blocker
) -> None:
    service = start()
    assert service.validate("des", right("des")).json["valid"] is True
    kept = fill(blocker, service)
    strangers = [login(blocker, service, name, WRONG) for name in blocker.names[len(CPUS) :]]
    for _ in range(50):  # so that they have come before it
        assert service.request("GET", "/health").status == 200
    usual = login(blocker, service, "des")
    blocker.release()  # the next turn may be a stranger's, and the one after that is not
    if blocker.next_call(1):
        blocker.release()
    answer = usual.result()
    assert answer.json == {"valid": True, "username": "des"}
    asked = [future.result() for future in strangers if future.done()]
    assert sum(answer.status == 200 for answer in asked) <= 2  # others may have waited too long
    blocker.release(100)
    assert [future.result().status for future in kept] == [200] * len(kept)


def test_two_hung_calls_are_503_after_10_seconds_and_cost_only_themselves(
    start: Start, blocker: Blocker
) -> None:
    service = start()
    began = time.monotonic()
    hung = [future.result() for future in fill(blocker, service)]
    assert 10 <= time.monotonic() - began < 20
    for answer in hung:
        assert (answer.status, answer.json["valid"]) == (503, False)
        assert int(answer.headers["Retry-After"]) > 0
    for _ in range(5):
        assert service.validate("des", right("des")).json["valid"] is True
    assert service.request("GET", "/ready").status == 200
    service.wait_for_log(f"event=verdict user={blocker.names[0]} .* result=error")
    began = time.monotonic()
    assert service.stop() == 0, "stopping does not wait for them"
    assert time.monotonic() - began < 8


def test_with_eight_hung_calls_none_is_begun_and_ready_says_so(
    start: Start, blocker: Blocker, tmp_path: Path
) -> None:
    eight = "import os\nos.sched_getaffinity = lambda process: set(range(8))\n"
    (tmp_path / "sitecustomize.py").write_text(eight)
    service = start(PYTHONPATH=tmp_path)  # where there are 8 processors, all hang in the same time
    names = blocker.names
    hung = [login(blocker, service, name) for name in names[:8]]
    assert all(blocker.next_call() for _ in hung)
    assert [future.result().status for future in hung] == [503] * 8
    began = time.monotonic()
    for name in ("des", "no.such.user", names[8]):
        answer = service.validate(name, right("des"))
        assert (answer.status, answer.json["valid"]) == (503, False)
    assert blocker.next_call(0.1) == ""
    answer = service.request("GET", "/ready")
    assert answer.status == 503
    assert "hang" in answer.json["error"]
    assert time.monotonic() - began < 4, "nobody waits for a turn that cannot come"
    blocker.release(8)  # and when they come back after all, all is well
    deadline = time.monotonic() + BOUND
    while service.request("GET", "/ready").status == 503 and time.monotonic() < deadline:
        pass
    assert service.validate("des", right("des")).json["valid"] is True
    logins = [login(blocker, service, name) for name in names]
    for _ in names:
        assert blocker.next_call()
        blocker.release()
    assert all(future.result().json["valid"] for future in logins)


# --- the gate by itself ------------------------------------------------------------------------


class Step(main.Call):
    """A call that notes when it runs, and ends when `go` is set."""

    def __init__(
        self, name: str, order: list[str], go: threading.Event, preferred: bool = False
    ) -> None:
        super().__init__(self.step, preferred=preferred)
        self.name, self.order, self.go = name, order, go

    def step(self) -> str:
        self.order.append(self.name)
        assert self.go.wait(BOUND)
        return self.name


def queued(gate: main.Gate) -> int:
    return sum(map(len, gate.lanes))


def ask_in_order(gate: main.Gate, calls: list[Step], ends: list[str]) -> list[threading.Thread]:
    """Ask for each in a thread of its own, the first of which runs; `ends` is how they ended."""

    def ask(call: Step) -> None:
        try:
            ends.append(gate.ask(call))
        except main.Error as error:
            ends.append(f"{call.name}: {error.reason}")

    threads = [threading.Thread(target=ask, args=(call,)) for call in calls]
    for number, thread in enumerate(threads):
        thread.start()
        while not calls[0].order or queued(gate) < number:
            time.sleep(0.001)
    return threads


def test_waiting_calls_are_served_in_order_of_arrival_and_two_lanes_take_turns() -> None:
    gate, order, go = main.Gate("PAM", 1), list[str](), threading.Event()
    names = ["first", "s1", "s2", "s3", "s4", "u1", "u2", "s5", "u3"]
    calls = [Step(name, order, go, preferred=name.startswith("u")) for name in names]
    threads = ask_in_order(gate, calls, [])
    go.set()
    for thread in threads:
        thread.join(BOUND)
    assert [name for name in order if name.startswith("s")] == ["s1", "s2", "s3", "s4", "s5"]
    assert [name for name in order if name.startswith("u")] == ["u1", "u2", "u3"]
    places = [place for place, name in enumerate(order) if name.startswith("u")]
    assert places in ([1, 3, 5], [2, 4, 6])


def test_patience_is_that_of_each_call_by_itself() -> None:
    gate, order, go, ends = main.Gate("PAM", 1), list[str](), threading.Event(), list[str]()
    gate.PATIENCE = 0.5
    runs, old, new = (Step(name, order, go) for name in ("runs", "old", "new"))
    first, second = ask_in_order(gate, [runs, old], ends)
    second.join(BOUND)
    gate.PATIENCE = BOUND
    third = threading.Thread(target=lambda: ends.append(gate.ask(new)))
    third.start()
    while not queued(gate):
        time.sleep(0.001)
    go.set()
    first.join(BOUND)
    third.join(BOUND)
    assert (sorted(ends), order) == (["new", "old: PATIENCE", "runs"], ["runs", "new"])


def test_a_call_that_hangs_gives_its_place_to_the_next_at_once() -> None:
    gate, order, ends = main.Gate("PAM", 1), list[str](), list[str]()
    gate.PATIENCE = BOUND
    hangs, goes_on = threading.Event(), threading.Event()
    goes_on.set()
    calls = [Step("hangs", order, hangs), Step("next", order, goes_on)]
    first, second = ask_in_order(gate, calls, ends)
    with pytest.raises(main.Error, match="hangs"):
        gate.abandon(calls[0])
    second.join(BOUND)
    assert ends == ["next"]
    assert (len(gate.hung), gate.threads) == (1, 1)
    hangs.set()  # it comes back after all, to nobody, and its thread is one too many
    while gate.hung:
        time.sleep(0.001)
    assert gate.ask(Step("after", order, goes_on)) == "after"
    assert gate.threads == 1
    calls[0].done.release()  # the asker of this test does not wait for its time
    first.join(BOUND)


def test_one_that_waits_while_too_many_hang_begins_as_soon_as_one_is_back() -> None:
    gate, order, ends = main.Gate("PAM", 1), list[str](), list[str]()
    gate.PATIENCE, gate.MAX_HUNG = BOUND, 1
    hangs, goes_on = threading.Event(), threading.Event()
    goes_on.set()
    calls = [Step("hangs", order, hangs), Step("next", order, goes_on)]
    first, second = ask_in_order(gate, calls, ends)
    with pytest.raises(main.Error, match="hangs"):
        gate.abandon(calls[0])
    while not gate.idle:  # the thread in its place has looked, and may begin nothing
        time.sleep(0.001)
    assert order == ["hangs"]
    hangs.set()
    second.join(BOUND / 2)
    assert ends == ["next"]
    calls[0].done.release()
    first.join(BOUND)


def test_a_call_that_has_run_for_its_time_ends_with_an_error() -> None:
    gate, order, ends = main.Gate("PAM", 1), list[str](), list[str]()
    gate.PATIENCE, gate.HANG = 0.1, 0.5
    hangs = threading.Event()
    (asker,) = ask_in_order(gate, [Step("hangs", order, hangs)], ends)
    asker.join(BOUND)
    hangs.set()
    assert ends == ["hangs: HANG"]


def test_a_call_that_hangs_is_settled_when_its_time_is_over_and_not_again() -> None:
    """Else its login would count as being at PAM for ever, or twice."""
    gate, order, ends, settled = main.Gate("PAM", 1), list[str](), list[str](), list[Any]()
    gate.PATIENCE, gate.HANG = 0.1, 0.5
    hangs = threading.Event()
    call = Step("hangs", order, hangs)
    call.settle = settled.append
    (asker,) = ask_in_order(gate, [call], ends)
    asker.join(BOUND)
    assert (settled, gate.running) == ([None], set())
    hangs.set()
    while gate.hung:
        time.sleep(0.001)
    assert settled == [None]


def test_a_call_that_raises_gives_back_its_turn() -> None:
    gate, order, go = main.Gate("PAM", 1), list[str](), threading.Event()
    go.set()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            gate.ask(main.Call(lambda: 1 // 0))
    gate.ask(Step("right", order, go))
    assert order == ["right"]


def test_calls_that_become_possible_together_are_begun_together() -> None:
    """The end of one lets two in: the thread that takes the first wakes another one for the
    second."""
    gate, order, go = main.Gate("PAM", 2), list[str](), threading.Event()
    held, allowed = threading.Event(), [1]
    first, *others = (Step(name, order, go) for name in ("first", "second", "third"))
    first.go = held
    for call in (first, *others):
        call.admit = lambda: allowed[0] > 0
        call.settle = lambda _: allowed.append(allowed.pop() + 2)
    threads = [threading.Thread(target=gate.ask, args=(call,)) for call in (first, *others)]
    threads[0].start()
    while order != ["first"]:
        time.sleep(0.001)
    allowed[0] = 0
    for thread in threads[1:]:
        thread.start()
    while queued(gate) < 2 or not gate.idle:  # the free thread has looked, and waits
        time.sleep(0.001)
    held.set()
    deadline = time.monotonic() + BOUND
    while len(order) < 3:
        assert time.monotonic() < deadline, "one waits although a thread is free"
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(BOUND)


def test_a_call_that_may_never_run_ends_at_its_turn_and_costs_none() -> None:
    def refuse() -> bool:
        raise main.Error(429, "no")

    gate, order, go = main.Gate("PAM", 1), list[str](), threading.Event()
    go.set()
    with pytest.raises(main.Error, match="no"):
        gate.ask(main.Call(lambda: order.append("refused"), admit=refuse))
    assert gate.ask(Step("right", order, go)) == "right"
    assert order == ["right"]
