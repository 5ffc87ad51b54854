"""A proxy that answers what a test tells it to: main.py cannot be made to answer wrongly. It stands
for a service that is broken, taken over, or not ugos-auth-proxy at all."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

from service import BOUND

Answer = bytes | Callable[[socket.socket, threading.Event], None]

ACCOUNT = {
    "exists": True,
    "username": "alice",
    "uid": 1005,
    "gid": 100,
    "full_name": "Alice",
    "email": "",
    "home": "/home/alice",
    "shell": "/bin/sh",
    "groups": ["users"],
}


def answer(status: int, body: Any, headers: Iterable[str] = ()) -> bytes:
    """An answer with that status; a body that is not bytes goes as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} Told",
        "Content-Type: application/json",
        *headers,
        f"Content-Length: {len(content)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content


RIGHT = answer(200, {"valid": True, "username": "alice"})
WRONG = answer(200, {"valid": False, "error": "Invalid credentials"})
KNOWN = answer(200, ACCOUNT)


class Asked(NamedTuple):
    """A request as it came in."""

    method: str
    path: str
    headers: http.client.HTTPMessage
    body: bytes


class Hostile:
    """Listens on a port of its own; `validate` and `user_info` are what it answers: bytes, or what
    it does to the connection until the event is set, which is when the test ends. `greeting` is
    done to it before it is read."""

    def __init__(
        self, validate: Answer = RIGHT, user_info: Answer = KNOWN, greeting: Answer = b""
    ) -> None:
        self.answers = {"/validate": validate, "/user-info": user_info}
        self.greeting = greeting
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.threads.append(
                    threading.Thread(target=self.serve, args=(connection,), daemon=True)
                )
                self.threads[-1].start()

    def serve(self, connection: socket.socket) -> None:
        with (
            connection,
            connection.makefile("rb") as file,
            contextlib.suppress(OSError, ValueError),
        ):
            if not isinstance(self.greeting, bytes):
                self.greeting(connection, self.over)
                return
            method, target, _ = file.readline().decode("latin-1").split(" ")
            headers = http.client.parse_headers(file)
            body = file.read(int(headers.get("Content-Length", "0")))
            self.asked.append(Asked(method, target, headers, body))
            told = self.answers.get(target.split("?")[0], b"")
            if isinstance(told, bytes):
                connection.sendall(told)
            else:
                told(connection, self.over)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(BOUND)
            assert not thread.is_alive(), "a connection to the proxy stayed open"


def silent(connection: socket.socket, over: threading.Event) -> None:
    """Sends nothing, until the other side has gone."""
    with contextlib.suppress(OSError):
        while connection.recv(4096):
            pass


def dripping(data: bytes) -> Answer:
    """Sends `data` byte by byte, ten a second: each read of the other side succeeds, the whole
    never arrives."""

    def drip(connection: socket.socket, over: threading.Event) -> None:
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            if over.wait(0.1):
                return

    return drip


def endless(head: bytes) -> Answer:
    """Sends `head`, then bytes as fast as they are taken."""

    def flow(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        while not over.is_set():
            connection.sendall(b" " * 65536)

    return flow
