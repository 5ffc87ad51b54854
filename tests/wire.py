"""A raw connection to the service, on which a test decides what is sent when."""

import http.client
import json
import socket
import ssl
from typing import Self

import openapi
from service import Response, Service

HEALTH = b"GET /health HTTP/1.1\r\nHost: nas\r\n\r\n"


def post(
    body: bytes, path: str = "/validate", headers: str = "Content-Type: application/json\r\n"
) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: nas\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def login(username: str, password: str) -> bytes:
    return post(json.dumps({"username": username, "password": password}).encode())


class Wire:
    """A connection; every answer that is read from it is held against what the contract says of all
    answers."""

    def __init__(self, to: Service | socket.socket) -> None:
        self.socket = to if isinstance(to, socket.socket) else to.connect()
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def answer(self, head_only: bool = False) -> Response:
        """The next answer."""
        line = self.file.readline()
        assert line, "closed without an answer"
        version, status, _ = line.decode().split(" ", 2)
        headers = http.client.parse_headers(self.file)
        assert version == "HTTP/1.1"
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert len(headers.keys()) == len({name.lower() for name in headers}), "a header twice"
        raw = b"" if head_only else self.file.read(int(headers["Content-Length"]))
        data = None if head_only else json.loads(raw)
        assert head_only or isinstance(data, dict)
        openapi.check_any(int(status), headers, raw, head_only)
        return Response(int(status), headers, data, raw)

    def last(self, head_only: bool = False) -> Response:
        """The next answer, after which the connection must be closed, and must say so."""
        response = self.answer(head_only)
        assert self.closed(), "not closed after the answer"
        assert response.headers["Connection"] == "close"
        return response

    def closed(self) -> bool:
        """Wait for the end; whether nothing came before it."""
        try:
            return self.file.read() == b""
        except (ConnectionResetError, ssl.SSLEOFError):
            return True
