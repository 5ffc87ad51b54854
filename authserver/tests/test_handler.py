"""The threads in which requests run."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from authserver.handler import MOST, Threads
from tests.processes import BOUND

pytestmark = pytest.mark.once


class Requests:
    """An application whose requests each run for a moment, and then wait until `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.ran_in: list[int] = []
        self.threads = Threads(self.application)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.ran_in.append(await sync_to_async(threading.get_ident)())
        await self.go.wait()

    def begin(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.threads({}, None, None))


def run_in_loop(coroutine: Coroutine[Any, Any, list[int]]) -> list[int]:
    """By a thread of its own: this one may have a loop that runs, of a browser's test."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, asyncio.wait_for(coroutine, BOUND)).result()


def test_requests_one_after_another_run_in_one_thread() -> None:
    async def run() -> list[int]:
        requests = Requests()
        requests.go.set()
        for _ in range(20):
            await requests.begin()
        return requests.ran_in

    assert len(set(run_in_loop(run()))) == 1


def test_however_many_wait_there_are_so_many_threads_and_all_of_them_run() -> None:
    async def run() -> list[int]:
        requests = Requests()
        held = [requests.begin() for _ in range(20 * MOST)]
        while len(requests.ran_in) < len(held):
            await asyncio.sleep(0)
        requests.go.set()
        await asyncio.gather(*held)
        return requests.ran_in

    ran_in = run_in_loop(run())
    assert len(set(ran_in)) == MOST
    assert {ran_in.count(thread) for thread in ran_in} == {20}
