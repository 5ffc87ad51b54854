"""What `serve` does beside its requests: what is past its time is cleared, in batches."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from authserver.accounts import devices as known_devices
from authserver.accounts import sessions, throttle
from authserver.accounts.standing import confirm_owners
from authserver.audit import record
from authserver.oidc import devices, keys
from authserver.oidc import tokens as oidc_tokens
from authserver.registry import tokens
from authserver.waits import with_database

EVERY = 60  # seconds
BATCH = 1000
# each deletes a batch of what is old, and returns how many it were
CLEARING: list[Callable[[int], int]] = [
    sessions.clear_old,
    known_devices.clear_old,
    throttle.clear_old,
    record.clear_old,
    tokens.clear_old,
    oidc_tokens.clear_old_grants,
    oidc_tokens.clear_old_tokens,
    devices.clear_old,
    keys.forget_private_keys,
]
log = logging.getLogger(__name__)


async def clear(what: Callable[[int], int]) -> None:
    while await with_database(partial(what, BATCH)) >= BATCH:
        await asyncio.sleep(0.1)  # others want to write too


async def keep_house() -> None:
    works: list[Callable[[], Awaitable[None]]] = [partial(clear, what) for what in CLEARING]
    while True:
        for work in (*works, confirm_owners):
            try:
                await work()
            except Exception:  # the next round tries again
                log.exception("housekeeping")
        await asyncio.sleep(EVERY)
