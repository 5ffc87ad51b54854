"""The turns at PAM: how many calls run at once, who is next, who waits how long, and what a hung
call costs."""

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
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


# --- the turns by themselves -------------------------------------------------------------------


class Place:
    """Turns with one gate, and what came of the questions asked there."""

    def __init__(self, places: int = 1) -> None:
        self.gate, self.other = main.Gate("PAM", places), main.Gate("another", 1)
        self.turns = main.Turns(self.gate, self.other)
        self.turns.PATIENCE = self.turns.HANG = BOUND
        self.order: list[str] = []  # in which the steps began
        self.ran_in: dict[str, int] = {}  # the thread of each
        self.ends: list[str] = []  # in which they ended, and how
        self.threads: list[threading.Thread] = []

    def ask(self, name: str, go: threading.Event, **step: Any) -> None:
        """Ask a question of one step, which ends when `go` is set, in a thread of its own."""

        def run() -> str:
            self.ran_in[name] = threading.get_native_id()
            self.order.append(name)
            assert go.wait(BOUND)
            return name

        def steps() -> main.Steps:
            return (yield main.Step(**{"gate": self.gate, "run": run, **step}))

        def ask() -> None:
            try:
                self.ends.append(self.turns.ask(steps()))
            except main.Error as error:
                self.ends.append(f"{name}: {error.reason}")

        self.threads.append(threading.Thread(target=ask))
        self.threads[-1].start()

    def ask_in_order(self, names: list[str], go: threading.Event) -> None:
        """Ask these, the first of which runs; names with u are preferred."""
        for number, name in enumerate(names):
            self.ask(name, go, preferred=name.startswith("u"))
            while not self.order or self.queued() < number:
                time.sleep(0.001)

    def queued(self) -> int:
        return sum(map(len, self.gate.lanes))

    def join(self) -> None:
        for thread in self.threads:
            thread.join(BOUND)


def until(event: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not event():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def at_once() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_steps_that_wait_are_served_in_order_of_arrival_and_two_lanes_take_turns() -> None:
    place, go = Place(), threading.Event()
    place.ask_in_order(["first", "s1", "s2", "s3", "s4", "u1", "u2", "s5", "u3"], go)
    go.set()
    place.join()
    order = place.order
    assert [name for name in order if name.startswith("s")] == ["s1", "s2", "s3", "s4", "s5"]
    assert [name for name in order if name.startswith("u")] == ["u1", "u2", "u3"]
    places = [number for number, name in enumerate(order) if name.startswith("u")]
    assert places in ([1, 3, 5], [2, 4, 6])


def test_patience_is_that_of_each_step_by_itself() -> None:
    place, go = Place(), threading.Event()
    place.turns.PATIENCE = 0.5
    place.ask_in_order(["runs", "old"], go)
    place.threads[1].join(BOUND)
    place.turns.PATIENCE, began = BOUND, time.monotonic()
    place.ask("new", go)
    until(lambda: place.queued() == 1)
    (waits,) = place.gate.lanes[False]
    assert began < waits.deadline - BOUND < time.monotonic()
    go.set()
    place.join()
    assert sorted(place.ends) == ["new", "old: PATIENCE", "runs"]
    assert place.order == ["runs", "new"]


def test_a_step_that_hangs_gives_its_place_to_the_next_at_once(at_once: threading.Event) -> None:
    place, hangs = Place(), threading.Event()
    place.turns.HANG = 0.5
    place.ask("hangs", hangs)
    until(lambda: place.order == ["hangs"])
    place.ask("next", at_once)
    place.join()
    assert place.ends in (["next", "hangs: HANG"], ["hangs: HANG", "next"])
    assert (len(place.gate.hung), place.turns.threads) == (1, 1)
    hangs.set()  # it comes back after all, to nobody, and its thread is one too many
    until(lambda: not place.gate.hung)
    place.ask("after", at_once)
    place.join()
    assert place.ends[-1] == "after"
    until(lambda: not Path(f"/proc/self/task/{place.ran_in['hangs']}").exists())
    assert place.turns.threads == 1


def test_one_that_waits_while_too_many_hang_begins_as_soon_as_one_is_back(
    at_once: threading.Event,
) -> None:
    place, hangs = Place(), threading.Event()
    place.turns.HANG, place.gate.MAX_HUNG = 0.5, 1
    place.ask("hangs", hangs)
    until(lambda: place.order == ["hangs"])
    place.ask("next", at_once)
    place.threads[0].join(BOUND)
    place.ask("other", at_once, gate=place.other)  # by a thread that looks at all gates
    place.threads[2].join(BOUND)
    assert place.order == ["hangs", "other"]
    hangs.set()
    place.threads[1].join(BOUND / 2)
    assert place.ends == ["hangs: HANG", "other", "next"]


def test_a_step_that_hangs_is_settled_when_its_time_is_over_and_not_again() -> None:
    """Else its login would count as being at PAM for ever, or twice."""
    place, hangs, settled = Place(), threading.Event(), list[Any]()
    place.turns.HANG = 0.5
    place.ask("hangs", hangs, settle=settled.append)
    place.join()
    assert place.ends == ["hangs: HANG"]
    assert (settled, place.gate.running) == ([None], set())
    hangs.set()
    until(lambda: not place.gate.hung)
    assert settled == [None]


def test_a_step_that_raises_gives_back_its_turn(at_once: threading.Event) -> None:
    place = Place()

    def steps() -> main.Steps:
        yield main.Step(place.gate, lambda: 1 // 0)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            place.turns.ask(steps())
    place.ask("right", at_once)
    place.join()
    assert place.order == ["right"]


@pytest.mark.parametrize("rule", ["admit", "settle"])
def test_a_rule_that_fails_is_told_to_the_asker_and_gives_back_the_turn(
    rule: str, at_once: threading.Event
) -> None:
    """As where there is no memory left: nobody waits for ever, and no thread is lost."""

    def fail(*_: object) -> bool:
        raise MemoryError

    place = Place()
    rules: dict[str, Any] = {rule: fail}

    def steps() -> main.Steps:
        yield main.Step(place.gate, lambda: None, **rules)

    for _ in range(3):
        with pytest.raises(MemoryError):
            place.turns.ask(steps())
    place.ask("right", at_once)
    place.join()
    assert (place.order, place.turns.threads) == (["right"], 1)


def test_a_question_goes_from_step_to_step_in_one_thread_while_nobody_else_asks() -> None:
    """To hand it on would cost more than the step, and another's thread none at all."""
    first, second = main.Gate("first", 1), main.Gate("second", 1)
    turns = main.Turns(first, second)

    def steps() -> main.Steps:
        one = yield main.Step(first, threading.get_ident)
        two = yield main.Step(second, threading.get_ident)
        return one, two

    for _ in range(20):
        one, two = turns.ask(steps())
        assert one == two
    assert turns.threads <= 2


def test_what_the_steps_raise_between_two_turns_reaches_the_asker() -> None:
    place = Place()

    def steps() -> main.Steps:
        yield main.Step(place.gate, lambda: None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.turns.ask(steps())
    assert not place.gate.running


def test_steps_that_become_possible_together_are_begun_together() -> None:
    """The end of one lets two in: the thread that takes the first wakes another one for the
    second."""
    place, held, go, allowed = Place(2), threading.Event(), threading.Event(), [1]
    rules = {"admit": lambda: allowed[0] > 0, "settle": lambda _: allowed.append(allowed.pop() + 2)}
    place.ask("first", held, **rules)
    until(lambda: place.order == ["first"])
    allowed[0] = 0
    for name in ("second", "third"):
        place.ask(name, go, **rules)
    until(lambda: place.queued() == 2 and bool(place.turns.idle))  # one has looked, and waits
    held.set()
    until(lambda: len(place.order) == 3)
    go.set()
    place.join()


def test_a_step_that_may_never_run_ends_at_its_turn_and_costs_none(
    at_once: threading.Event,
) -> None:
    def refuse() -> bool:
        raise main.Error(429, "no", "NEVER")

    place = Place()
    place.ask("refused", at_once, admit=refuse)
    place.join()
    place.ask("right", at_once)
    place.join()
    assert place.ends == ["refused: NEVER", "right"]
    assert place.order == ["right"]
