"""What `serve` does beside its requests: what is past its time is cleared, in batches."""

import asyncio
import logging
from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from authserver.accounts import sessions, throttle
from authserver.audit import record
from authserver.oidc import devices, keys
from authserver.oidc import tokens as oidc_tokens
from authserver.registry import tokens

EVERY = 60  # seconds
BATCH = 1000
# each deletes a batch of what is old, and returns how many it were
CLEARING: list[Callable[[int], int]] = [
    sessions.clear_old,
    throttle.clear_old,
    record.clear_old,
    tokens.clear_old,
    oidc_tokens.clear_old_grants,
    oidc_tokens.clear_old_tokens,
    devices.clear_old,
    keys.forget_private_keys,
]
log = logging.getLogger(__name__)


def clear(what: Callable[[int], int]) -> int:
    try:
        return what(BATCH)
    finally:
        close_old_connections()


async def keep_house() -> None:
    while True:
        for what in CLEARING:
            try:
                while await sync_to_async(clear, thread_sensitive=False)(what) >= BATCH:
                    await asyncio.sleep(0.1)  # others want to write too
            except Exception:  # the next round tries again
                log.exception("housekeeping")
        await asyncio.sleep(EVERY)
