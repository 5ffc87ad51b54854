"""HTTP as the server speaks it: uvicorn's, but every wait for a client has an end."""

import asyncio
from asyncio import TimerHandle
from typing import Any

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10  # for the head of a request, from the connection or its first byte on
BODY_SECONDS = 30  # for its body
ANSWER_SECONDS = 30  # for a client to go on taking an answer
LARGEST_HEAD = 65_536  # bytes


class Protocol(HttpToolsProtocol):
    """uvicorn's gives a client time for ever to send a request and to take its answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.request_deadline: TimerHandle | None = None
        self.answer_deadline: TimerHandle | None = None
        self.is_in_head, self.head_size = True, 0
        self.expect(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_expecting()
        self.resume_writing()
        super().connection_lost(exc)

    # --- The request ---

    def expect(self, seconds: float) -> None:
        """Close the connection unless what comes next has come by then."""
        self.stop_expecting()
        self.request_deadline = self.loop.call_later(seconds, self.give_up, seconds)

    def stop_expecting(self) -> None:
        if self.request_deadline:
            self.request_deadline.cancel()
            self.request_deadline = None

    def give_up(self, seconds: float) -> None:
        if self.flow.read_paused:  # it is we who do not read
            self.expect(seconds)
        elif self.is_in_head and not self.head_size:
            self.transport.close()  # a browser opens some ahead, and asks again without a word
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.request_deadline is None and not self.is_answering():
            self.expect(HEAD_SECONDS)
        if self.is_in_head:
            self.head_size += len(data)
        super().data_received(data)
        if self.is_in_head and self.head_size > LARGEST_HEAD and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
            self.transport.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()
            self.linger()

    def is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.is_in_head, self.head_size = True, 0
        if self.request_deadline is None:
            self.expect(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.is_in_head = False
        self.expect(BODY_SECONDS)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.stop_expecting()

    # --- The answer ---

    def pause_writing(self) -> None:
        super().pause_writing()
        self.answer_deadline = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.answer_deadline:
            self.answer_deadline.cancel()
            self.answer_deadline = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.linger()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.linger()

    def linger(self) -> None:
        """End a connection that is closing, whether its client takes the rest or not."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(ANSWER_SECONDS, self.transport.abort)


class TooLarge(Exception):
    """A body of more than DATA_UPLOAD_MAX_MEMORY_SIZE bytes."""


def limited(application: Any) -> Any:
    """An ASGI application that answers 413 to a larger body, before it is kept anywhere."""

    largest: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        size = 0

        async def counted() -> Any:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > largest:
                raise TooLarge
            return message

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if int(declared) > largest:
                raise TooLarge
            await application(scope, counted, send)
        except TooLarge:
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body"})

    return handle
