"""How a request runs: all of it in one thread, in one go."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response

from authserver.waits import Waits

KEPT = 8  # threads


class Handler(ASGIHandler):
    """Django's, but the middleware of a request and its view run one inside the other.

    Replaces Django's asynchronous chain, which goes to the thread and back for each middleware,
    ten times for a request: half of what a small one costs.
    """

    _middleware_chain: Any

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)
        in_thread = sync_to_async(self._middleware_chain)
        self._middleware_chain = convert_exception_to_response(Waits(in_thread))


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
