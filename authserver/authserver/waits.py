"""Waiting without holding anything.

A view that needs what takes time (the NAS's answer, a slow password hash, its turn) raises a
`Wait`. `Waits`, the outermost middleware, then lets the worker thread and the database connection
go, awaits it on the event loop, and runs the request again; the view finds the result by
`results_of(request)`. A response that must not leave before a certain time (a refusal) has that
time in `leave_at`, and is held here as well.

Whoever raises a Wait has written nothing yet, or what he wrote is meant to stand.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponse

MOST = 16  # waits of one request
T = TypeVar("T")


class Wait(Exception):
    """Something to be awaited outside of the view. `key` tells it from others of the request."""

    key: object

    async def result(self) -> Any:
        """What is awaited. It raises nothing: a failure is a result too. It has an end."""
        raise NotImplementedError


class Results(dict[object, Any]):
    """What a request has waited for, by the keys of its waits."""


def results_of(request: HttpRequest) -> Results:
    if not hasattr(request, "wait_results"):
        request.wait_results = Results()  # type: ignore[attr-defined]
    found: Results = request.wait_results  # type: ignore[attr-defined]
    return found


class Waiting(HttpResponse):
    """Stands for the response until the wait is over."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(status=503)
        self.wait = wait


def started_of(request: HttpRequest) -> float:
    """When the request came, by time.monotonic()."""
    found: float = request.META["authserver.started"]
    return found


def leave_after(request: HttpRequest, response: HttpResponse, seconds: float) -> HttpResponse:
    """Let `response` leave no sooner than so many seconds after its request came."""
    response.leave_at = started_of(request) + seconds  # type: ignore[attr-defined]
    return response


class Waits:
    """The outermost middleware (`handler.py`), which alone runs on the event loop."""

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponse]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        request.META["authserver.started"] = time.monotonic()
        for _ in range(MOST):
            response = await self.get_response(request)
            if not isinstance(response, Waiting):
                break
            wait = response.wait
            results_of(request)[wait.key] = await wait.result()
        else:
            raise RuntimeError("a request that waits for ever")
        leave_at: float = getattr(response, "leave_at", 0.0)
        if leave_at > time.monotonic():
            await asyncio.sleep(leave_at - time.monotonic())
        return response


def let_go() -> None:
    """Give this thread's database connections back, but for one whose transaction goes on.

    One to SQLite is kept open: it is nobody else's, and holds nothing outside of a transaction.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block and connection.vendor != "sqlite":
            connection.close()


async def with_database(function: Callable[[], T]) -> T:
    """`function()` in a thread, whose database connection is held no longer than it runs."""

    def run() -> T:
        try:
            return function()
        finally:
            let_go()

    # thread-sensitive would be the thread of a request, which may be over by then
    return await sync_to_async(run, thread_sensitive=False)()


class LetGo:
    """Right inside of `Waits`: no wait, and no slow client, holds a database connection."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.get_response(request)
        finally:
            let_go()

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return Waiting(error) if isinstance(error, Wait) else None
