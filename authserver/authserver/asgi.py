"""The application that the server runs, and the work that it does beside its requests."""

import asyncio
import contextlib
import logging
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authserver.settings")

import django

from authserver.settings import ENV

django.setup(set_prefix=False)

from authserver.handler import Handler, Threads
from authserver.housekeeping import keep_house
from authserver.log import set_up
from authserver.protocol import limited

set_up(ENV.log_level)
requests = limited(Threads(Handler()))


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await requests(scope, receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    """Start and stop (ASGI, lifespan): the house is kept as long as the server runs."""
    await receive()
    work = asyncio.create_task(keep_house())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    logging.getLogger(__name__).info("stop")
    await send({"type": "lifespan.shutdown.complete"})
