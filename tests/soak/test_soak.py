"""All kinds of clients for minutes or hours: no answer is wrong, the log has each one, and nothing
is left behind.

SOAK_MINUTES says how long, SOAK_SEED repeats what the clients choose.
"""

import contextlib
import json
import os
import random
import re
import socket
import ssl
import struct
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import secrecy
from etc import Etc, right
from load import INVALID, NOT_FOUND, await_quiet, await_that, opened
from secrecy import TOKEN, keep_secret
from service import BOUND, Service
from test_logging import LINE
from test_tls import make_pair
from wire import HEALTH, Wire, post

MINUTES = float(os.environ.get("SOAK_MINUTES") or 3)
SEED = os.environ.get("SOAK_SEED") or str(random.randrange(10**6))
WARM_UP = 20  # seconds, after which the service has what it keeps for good
MORE_MEMORY = 2**23  # bytes that may be resident beyond that: the allocator's share varies so much
TIMEOUT = 10  # REQUEST_TIMEOUT
LIMIT = 3  # MAX_FAILURES
SETTINGS = {
    "AUTH_TOKEN": TOKEN,
    "FAIL_DELAY": "0.1",
    "REQUEST_TIMEOUT": str(TIMEOUT),
    "LOG_LEVEL": "INFO",
    "MAX_FAILURES": str(LIMIT),
    "FAILURE_WINDOW": "86400",  # a day: no count goes by itself meanwhile
}
THROTTLED = {"valid": False, "error": "Too many failed logins"}
JUDGED = "192.0.2."  # where clients are whose every answer is judged and counted
OTHERS = "198.51.100.1"
OWNERS = range(1, 9)


def passwords(number: int) -> list[str]:
    """What an owner changes between, and guesses."""
    return [f"password{n}-of-owner{number}" for n in range(3)]


class Watched(Service):
    """Its log is counted as it comes, and not kept: in hours it would be gigabytes."""

    def read_log(self) -> None:
        assert self.process.stderr
        self.counts, self.odd, leak = Counter[str](), list[str](), secrecy.leak()
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "surrogateescape").rstrip("\n")
            with self.logged:
                if " event=start " in line:
                    self.lines.append(line)
                elif leak.search(line) or not LINE.fullmatch(line) or " level=INFO " not in line:
                    self.odd.append(line)
                elif f" client={JUDGED}" in line:
                    kind = re.findall(r"(?:event|path|status|result)=\S+", line)
                    self.counts[" ".join(kind)] += 1
                self.logged.notify_all()
        with self.logged:
            self.ended = True
            self.logged.notify_all()


class Target(NamedTuple):
    """A service, by TLS or not."""

    service: Watched
    tls: ssl.SSLContext | None

    def connect(self) -> Wire:
        plain = self.service.connect()
        return Wire(self.tls.wrap_socket(plain, server_hostname="127.0.0.1") if self.tls else plain)


def headers(client: str) -> str:
    lines = [f"Authorization: Bearer {TOKEN}", f"X-Forwarded-For: {client}"]
    lines.append("Content-Type: application/json")
    return "".join(f"{line}\r\n" for line in lines)


def login(username: str, password: str, client: str) -> bytes:
    body = json.dumps({"username": username, "password": password}).encode()
    return post(body, headers=headers(client))


def user_info(username: str, client: str) -> bytes:
    line = f"GET /user-info?username={username} HTTP/1.1"
    return f"{line}\r\nHost: nas\r\n{headers(client)}\r\n".encode()


class Model:
    """What is right for one name, which only one member asks for: password, lock, and the failed
    logins. `of_clients` counts those of that member's clients, over all names."""

    def __init__(self, name: str, of_clients: Counter[str], served: bool) -> None:
        self.name, self.of_clients = name, of_clients
        self.password, self.locked = "", not served
        self.failed, self.total, self.usual = Counter[str](), 0, set[str]()

    def answer(self, client: str, password: str) -> dict[str, Any]:
        most = max(self.total, self.of_clients[client])
        if self.failed[client] >= LIMIT or (most >= 10 * LIMIT and client not in self.usual):
            return THROTTLED
        if password == self.password and not self.locked:
            self.failed[client] = 0
            self.usual.add(client)
            return {"valid": True, "username": self.name}
        self.failed[client] += 1
        self.total += 1
        self.of_clients[client] += 1
        return INVALID


class Member:
    """One client; `turn` is what it does again and again."""

    pause = 0.02  # seconds between two turns, on average

    def __init__(self, target: Target, number: int) -> None:
        self.target, self.number = target, number
        self.chance = random.Random(f"{SEED} {number}")
        self.answered = Counter[str]()  # as the log must have it

    def turn(self) -> None:
        raise NotImplementedError

    def rest(self) -> None:
        """Close what it keeps open."""


class Owner(Member):
    """Logs in with one account and with made-up names, rightly and wrongly, at home and elsewhere;
    changes the password, locks and unlocks; and knows what must be answered."""

    writing = threading.Lock()  # of the account files

    def __init__(self, target: Target, number: int) -> None:
        super().__init__(target, number)
        self.etc = target.service.etc
        self.wire: Wire | None = None
        failed = Counter[str]()  # from each place
        self.account = Model(f"owner{number}", failed, served=True)
        self.strangers = [Model(f"stranger{number}.{n}", failed, served=False) for n in range(10)]
        self.places = [f"{JUDGED}{number * 10 + n}" for n in range(6)]  # the first is its home
        name = self.account.name
        self.info = {
            "exists": True,
            "username": name,
            "full_name": name,
            "email": "",
            "groups": ["users"],
            "uid": 3000 + number,
            "gid": 100,
            "home": f"/home/{name}",
            "shell": "/usr/sbin/nologin",
        }
        self.change()

    def change(self) -> None:
        """Another password, and now and then a lock that lasts until the next change."""
        account, scheme = self.account, self.chance.choice(["sha512", "yescrypt"])
        account.password = self.chance.choice(passwords(self.number))
        account.locked = self.chance.random() < 0.2
        with self.writing:
            self.etc.set_password(account.name, account.password, scheme)
            if account.locked:
                self.etc.lock(account.name)

    def ask(self, asked: bytes, path: str, truth: dict[str, Any]) -> None:
        self.wire = self.wire or self.target.connect()
        began = time.monotonic()
        answer = self.wire.send(asked).answer()
        assert answer.json == truth
        assert answer.status == (429 if truth is THROTTLED else 200)
        assert truth.get("valid") is not False or time.monotonic() - began >= 0.1
        self.answered[f"event=request path={path} status={answer.status}"] += 1
        # so some come on a connection of their own, others on one that is kept
        if self.chance.random() < 0.5:
            self.rest()

    def rest(self) -> None:
        if self.wire:
            self.wire.close()
        self.wire = None

    def log_in(self, model: Model, client: str, password: str) -> None:
        truth = model.answer(client, password)
        result = "throttled" if truth is THROTTLED else "valid" if truth["valid"] else "invalid"
        self.ask(login(model.name, password, client), "/validate", truth)
        self.answered[f"event=verdict result={result}"] += 1

    def turn(self) -> None:
        chance, account, home = self.chance, self.account, self.places[0]
        guess = chance.choice(passwords(self.number))  # may be the right one
        careful = account.failed[home] < LIMIT - 1
        match chance.choices(range(7), (30, 5, 10, 10, 15, 5, 3))[0]:
            case 0 if not account.locked or careful:
                self.log_in(account, home, account.password)
            case 1 if careful:
                self.log_in(account, home, guess)
            case 2:
                self.log_in(account, chance.choice(self.places[1:]), guess)
            case 3:
                self.log_in(chance.choice(self.strangers), chance.choice(self.places), guess)
            case 4:
                truth = {**self.info, "active": not account.locked}
                self.ask(user_info(account.name, home), "/user-info", truth)
            case 5:
                self.ask(user_info(self.strangers[0].name, home), "/user-info", NOT_FOUND)
            case 6:
                self.change()


class Churn(Member):
    """Connects and goes away, at any moment of a request, in any way."""

    def turn(self) -> None:
        chance = self.chance
        whole = chance.choice(
            [HEALTH, login("des", right("des"), OTHERS), user_info("des", OTHERS)]
        )
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for _ in range(chance.choice([1, 1, 1, 20])):
                wire = stack.enter_context(self.target.connect())
                wire.send(
                    whole[: chance.randrange(len(whole) + 1)] if chance.random() < 0.5 else whole
                )
                if chance.random() < 0.5:  # a reset instead of an end
                    wire.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )


ANSWERS = {200, 400, 401, 404, 405, 413, 414, 415, 431, 501}  # to what is garbled, or may be


class Garbage(Member):
    """Sends what is no request; the answer is an error, or none."""

    pause = 0.1

    def turn(self) -> None:
        chance, good = self.chance, bytearray(login("des", right("des"), OTHERS))
        for _ in range(chance.randrange(1, 6)):
            good[chance.randrange(good.index(b"\r\n\r\n"))] = chance.choice(b"\0\r\n :{\xff")
        sent = chance.choice(
            [bytes(good), chance.randbytes(2000), b"GET /" + b"a" * 9000, b"\r\n" * 50]
        )
        with self.target.connect() as wire:
            try:
                line = wire.send(sent).file.readline()
            except OSError:  # it may be closed before all is sent
                return
            assert not line or int(line.split()[1]) in ANSWERS, line


class Slow(Member):
    """Takes its time: to ask, for longer than it has, and to read."""

    pause = 0.5

    def turn(self) -> None:
        chance = self.chance
        asked = login("des", right("des"), f"{JUDGED}1")
        with self.target.connect() as wire:
            match chance.randrange(3):
                case 0:  # in time
                    for at in range(0, len(asked), 16):
                        wire.send(asked[at : at + 16])
                        time.sleep(TIMEOUT / 100)
                    assert wire.answer().json == {"valid": True, "username": "des"}
                    self.answered["event=request path=/validate status=200"] += 1
                    self.answered["event=verdict result=valid"] += 1
                case 1:  # too late
                    assert wire.send(asked[:-1]).closed()
                case 2:  # never reads
                    wire.socket.settimeout(TIMEOUT)
                    try:
                        while True:
                            wire.send(HEALTH * 1000)
                    except OSError:
                        pass


def resident(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def run(members: Iterable[Member], seconds: float) -> None:
    """Let them all do their turns for so long, or until one has failed."""
    over, failed = threading.Event(), list[str]()

    def turns(member: Member) -> None:
        try:
            while not over.wait(member.chance.expovariate(1 / member.pause)):
                member.turn()
        except Exception:  # noqa: BLE001 - whatever it is, it fails the test
            failed.append(f"{type(member).__name__} {member.number}: {traceback.format_exc()}")
            over.set()

    running = [threading.Thread(target=turns, args=(member,), daemon=True) for member in members]
    for thread in running:
        thread.start()
    over.wait(seconds)
    over.set()
    for thread in running:
        thread.join(BOUND)
        assert not thread.is_alive()
    for member in members:
        member.rest()
    assert not failed, "\n".join(failed)


def settle(target: Target, members: Iterable[Member], descriptors: list[str] | None = None) -> None:
    """Wait until no client is left; only these descriptors may be open then, and the log must have
    each answer."""
    service, answered = target.service, Counter[str]()
    for member in members:
        if member.target is target:
            answered.update(member.answered)
    await_quiet(service, target.connect())
    await_that(
        lambda: descriptors is None or opened(service) == descriptors, "descriptors are left behind"
    )
    await_that(
        lambda: service.odd or service.counts == answered,
        f"{answered} answered, in the log {service.counts}",
    )
    assert service.odd == []


def test_no_answer_is_wrong_none_is_lost_and_nothing_is_left_behind(tmp_path: Path) -> None:
    print(f"\nSOAK_MINUTES={MINUTES:g} SOAK_SEED={SEED}")
    etc, pair = Etc(tmp_path / "etc"), make_pair(tmp_path)
    for number in OWNERS:
        for password in passwords(number):
            keep_secret(password)
        etc.add_user(f"owner{number}", password, uid=3000 + number)
    tls = {"TLS_CERT": str(pair.cert), "TLS_KEY": str(pair.key)}
    plain = Target(Watched(etc, SETTINGS), None)
    private = Target(
        Watched(etc, {**SETTINGS, **tls}), ssl.create_default_context(cafile=str(pair.cert))
    )
    members: list[Member] = [Owner((plain, private)[number % 2], number) for number in OWNERS]
    members += [kind(target, 100) for target in (plain, private) for kind in (Churn, Garbage, Slow)]
    try:
        run(members, WARM_UP)
        before = {}
        for target in (plain, private):
            settle(target, members)
            before[target] = opened(target.service), resident(target.service)
        run(members, MINUTES * 60)
        for target, (descriptors, memory) in before.items():
            settle(target, members, descriptors)
            now, total = resident(target.service), target.service.counts.total()
            kind = "TLS" if target.tls else "plain"
            print(f"{kind}: {total} lines judged; {memory >> 10} kB, then {now >> 10} kB")
            assert now < memory + MORE_MEMORY
    finally:
        for target in (plain, private):
            assert target.service.stop() == 0
