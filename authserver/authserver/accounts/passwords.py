"""Local passwords: which may be set, how they are kept, and how many are checked at a time."""

import asyncio
import hashlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import bcrypt
from django.contrib.auth.hashers import BCryptPasswordHasher
from django.core.exceptions import ValidationError

from authserver.waits import Wait

SHORTEST, LONGEST = 8, 72  # bytes; bcrypt takes no more


def check_password_form(password: str) -> None:
    """ValidationError where `password` cannot be a local one."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise ValidationError("The password has an unpaired surrogate in it.") from None
    if size < SHORTEST:
        raise ValidationError(f"The password is too short: at least {SHORTEST} characters.")
    if size > LONGEST:
        raise ValidationError(f"The password is too long: at most {LONGEST} bytes.")
    if "\0" in password:
        raise ValidationError("The password has a NUL in it.")


class Hasher(BCryptPasswordHasher):
    """bcrypt in the form that crypt(3), Dovecot and OpenSMTPD read, behind `bcrypt$`."""

    rounds = 11


# of a password that nobody knows; it has the cost of `Hasher`
NOBODYS = b"$2b$11$ep2zuyAly9x626xwv5SmDO/O20LAwUoePteSTD1c90oHkVG6hnKH6"


def is_right(password: str, encoded: str) -> bool:
    """Whether `password` is the one that `encoded` was made of.

    Takes its time on a processor, the same where there is no password: time tells nothing.
    """
    algorithm, _, hashed = encoded.partition("$")
    given = password.encode("utf-8", "surrogatepass")
    if len(given) > LONGEST or b"\0" in given:
        return False
    if algorithm != Hasher.algorithm:
        bcrypt.checkpw(given, NOBODYS)
        return False
    try:
        return bcrypt.checkpw(given, hashed.encode("ascii"))
    except ValueError:
        return False


class Gate:
    """As many hashes at a time as there are processors; where a user is known, he goes first."""

    MOST = 500  # waiting

    def __init__(self) -> None:
        self.free = len(os.sched_getaffinity(0))
        self.threads = ThreadPoolExecutor(self.free, thread_name_prefix="hash")
        self.lanes: tuple[deque[asyncio.Future[None]], deque[asyncio.Future[None]]]
        self.lanes = (deque(), deque())

    async def check(self, password: str, encoded: str, known: bool) -> bool | None:
        """Whether it is right; None where too many are waiting."""
        if self.free:
            self.free -= 1
        else:
            lane = self.lanes[0 if known else 1]
            if len(lane) >= self.MOST:
                return None
            turn = asyncio.get_running_loop().create_future()
            lane.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # its turn came as its client went
                    self.pass_on()
                raise
        loop = asyncio.get_running_loop()
        check = loop.run_in_executor(self.threads, is_right, password, encoded)
        # its place is free when it is done, not when its client goes away
        check.add_done_callback(lambda _: self.pass_on())
        return await asyncio.shield(check)

    def pass_on(self) -> None:
        """Give the place to who waits, or back. One whose request is gone is passed over."""
        for lane in self.lanes:
            while lane:
                turn = lane.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self.free += 1


gate = Gate()


class PasswordCheck(Wait):
    """Whether a local password is right: True, False, or None where too many wait."""

    def __init__(self, password: str, encoded: str, known: bool) -> None:
        self.password, self.encoded, self.known = password, encoded, known
        self.key = (
            "password",
            encoded,
            hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest(),
        )

    async def result(self) -> bool | None:
        return await gate.check(self.password, self.encoded, self.known)
