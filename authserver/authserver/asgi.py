"""The application that the server runs, and the work that it does beside its requests."""

import asyncio
import contextlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authserver.settings")

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response

from authserver.settings import ENV

django.setup(set_prefix=False)

from authserver.housekeeping import keep_house
from authserver.log import set_up
from authserver.protocol import limited
from authserver.waits import Waits

KEPT = 8  # threads


class Handler(ASGIHandler):
    """Django's, with `Waits` outermost, and all that is inside of it called in one thread."""

    def load_middleware(self, is_async: bool = False) -> None:
        """Replaces Django's chain for ASGI, which goes from the event loop to the thread and back
        at every other middleware and at the view: a third of what a small request costs."""
        super().load_middleware(is_async=False)
        chain: Any = self._middleware_chain  # type: ignore[has-type]
        inside = sync_to_async(chain, thread_sensitive=True)
        self._middleware_chain = convert_exception_to_response(Waits(inside))


class Threads:
    """The threads in which requests run: one has one at a time, and the next takes it over.

    Replaces a new thread for each request, Django's own way, and so a new database connection:
    two thirds of what a small request costs with SQLite.
    """

    def __init__(self, application: Any) -> None:
        self.application = application
        self.free: list[ThreadPoolExecutor] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        thread = self.free.pop() if self.free else ThreadPoolExecutor(1, "request")
        try:
            async with ThreadSensitiveContext(executor=thread):
                await self.application(scope, receive, send)
        finally:
            if len(self.free) < KEPT:
                self.free.append(thread)
            else:
                thread.shutdown(wait=False)


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
