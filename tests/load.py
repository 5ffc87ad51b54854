"""Questions that go on in the background, from many clients at once; every answer is judged."""

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

from etc import right
from secrecy import WRONG
from service import BOUND, CPUS, Response, Service
from wire import HEALTH, Wire, login

TRUE, UNAVAILABLE, CLOSED = "true", "503", "closed"  # how a question may end
INVALID = {"valid": False, "error": "Invalid credentials"}
NOT_FOUND = {"exists": False, "error": "User not found"}


class Question(NamedTuple):
    """A request, the only answer with status 200 that is true, and what stands beside `error` in a
    503."""

    kind: str
    request: bytes
    truth: dict[str, Any]
    refusal: dict[str, Any]


def right_login(name: str) -> Question:
    return Question(
        "right", login(name, right(name)), {"valid": True, "username": name}, {"valid": False}
    )


def wrong_login(name: str, kind: str = "wrong") -> Question:
    return Question(kind, login(name, WRONG), INVALID, {"valid": False})


def user_info(name: str, truth: dict[str, Any]) -> Question:
    request = f"GET /user-info?username={name} HTTP/1.1\r\nHost: nas\r\n\r\n".encode()
    return Question("info", request, truth, {"exists": False})


def judge(question: Question, answer: Response) -> str:
    """How the answer is to be called; one that the contract does not allow is called by what it
    says."""
    if (answer.status, answer.json) == (200, question.truth):
        return TRUE
    refusal = {**question.refusal, "error": answer.json.get("error")}
    if (
        (answer.status, answer.json) == (503, refusal)
        and refusal["error"]
        and int(answer.headers["Retry-After"]) > 0
    ):
        return UNAVAILABLE
    return f"{answer.status} {json.dumps(answer.json)}"


def ask(wire: Wire, question: Question) -> tuple[str, bool]:
    """How a question ends, on a connection that is open; and whether another one may follow on
    it."""
    try:
        wire.send(question.request)
        if not wire.file.peek(1):
            return CLOSED, False
    except TimeoutError:
        return "no answer", False
    except OSError:
        return CLOSED, False
    try:
        answer = wire.answer()
        return judge(question, answer), answer.headers["Connection"] != "close"
    except (AssertionError, OSError, ValueError) as error:
        return f"no whole answer: {error!r}", False


class Client(threading.Thread):
    """Asks one question again and again, on a connection that it keeps, or each time on a new
    one."""

    def __init__(self, load: "Load", question: Question, kept: bool) -> None:
        super().__init__(daemon=True)
        self.load, self.question, self.kept = load, question, kept
        self.said: list[str] = []  # how each ended

    def run(self) -> None:
        while not self.load.over.is_set():
            try:
                with Wire(self.load.service) as wire:
                    more = True
                    while more and not self.load.over.is_set():
                        said, open_still = ask(wire, self.question)
                        self.note(said)
                        more = open_still and self.kept
            except OSError:
                self.note(CLOSED)
            if self.said[-1:] == [CLOSED]:
                self.load.over.wait(0.02)

    def note(self, said: str) -> None:
        with self.load.changed:
            self.said.append(said)
            self.load.changed.notify_all()


def mixed(service: Service) -> list[Question]:
    """Right and wrong logins, cheap and dear hashes, and user-info, of names that exist and of one
    that does not."""
    known = service.request("GET", "/user-info?username=jane.doe", source="127.0.0.2").json
    logins = [
        right_login("des"),
        right_login("yescrypt"),
        wrong_login("des"),
        wrong_login("no.such.user", "unknown"),
    ]
    return [*logins, user_info("jane.doe", known), user_info("no.such.user", NOT_FOUND)]


class Load:
    """Two clients for each question: one keeps its connection, the other does not."""

    def __init__(self, service: Service, questions: Iterable[Question]) -> None:
        self.service, self.over, self.changed = service, threading.Event(), threading.Condition()
        self.clients = [Client(self, each, kept) for each in questions for kept in (True, False)]

    def __enter__(self) -> Self:
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for client in self.clients:
            client.join(BOUND)
            assert not client.is_alive()
        assert not self.false(), self.false()

    def false(self) -> set[tuple[str, str]]:
        """What was said at any time that may not be said at all."""
        told = {(client.question.kind, said) for client in self.clients for said in client.said}
        return {each for each in told if each[1] not in {TRUE, UNAVAILABLE, CLOSED}}

    def next(self, number: int = 5) -> set[tuple[str, str]]:
        """How the next `number` questions of each client that begin from now on end, as pairs of
        kind and end."""
        with self.changed:
            begin = {client: len(client.said) + 1 for client in self.clients}  # one is under way
            done = self.changed.wait_for(
                lambda: (
                    self.false()
                    or all(len(client.said) >= at + number for client, at in begin.items())
                ),
                BOUND,
            )
            assert not self.false(), self.false()
            assert done, "not enough answers in time"
            return {
                (c.question.kind, said)
                for c, at in begin.items()
                for said in c.said[at : at + number]
            }

    def answers(self, *kinds: str) -> int:
        """How many of the questions were answered, of all kinds or these."""
        asked = [client for client in self.clients if not kinds or client.question.kind in kinds]
        return sum(said != CLOSED for client in asked for said in client.said)


# --- What a service holds ------------------------------------------------------------------------

# waiting for signals, accepting, one for each turn at PAM, for each look-up, and for `active`
KEPT_THREADS = 1 + 1 + len(CPUS) + 8 + 1


def await_that(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def opened(service: Service) -> list[str]:
    """What its descriptors are."""
    names = []
    for path in Path(f"/proc/{service.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(re.sub("[0-9]+", "", os.readlink(path)))
    return sorted(names)


def threads(service: Service) -> int:
    # not by listing /proc/PID/task, which may miss some while others end
    return int(
        re.findall(
            r"(?m)^Threads:\s*(\d+)$", Path(f"/proc/{service.process.pid}/status").read_text()
        )[0]
    )


def await_quiet(service: Service, last: Wire) -> None:
    """Wait until nobody is connected. Who is let in comes before `last`, a connection that is made
    for this."""
    with last:
        last.send(HEALTH).answer()
    await_that(lambda: threads(service) <= KEPT_THREADS, "threads are left behind")
