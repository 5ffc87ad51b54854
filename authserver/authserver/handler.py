"""How a request runs: all of it in one thread, in one go."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response

from authserver.waits import Waits

MOST = 16  # threads, as many as a pool has database connections (settings.py)


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
    """The threads in which requests run: each has one to itself while there are enough, and shares
    it with others that wait for the NAS, or for a refusal's time, while there are not.

    Replaces a new thread for each request, Django's own way, and so a new database connection:
    two thirds of what a small request costs with SQLite, and without a bound.
    """

    def __init__(self, application: Any) -> None:
        self.application = application
        self.executors = [ThreadPoolExecutor(1, "request") for _ in range(MOST)]
        self.requests = [0] * MOST  # that each has now

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        least = self.requests.index(min(self.requests))
        self.requests[least] += 1
        try:
            async with ThreadSensitiveContext(executor=self.executors[least]):
                await self.application(scope, receive, send)
        finally:
            self.requests[least] -= 1
