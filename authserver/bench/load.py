"""Requests per second of many clients at two workers, beside a bare view's."""

import http.client
import threading
import time
from collections.abc import Mapping
from typing import Any

from bench.questions import DOCKER, Made, exchange_code, open_http
from bench.served import basic, serve, serve_bare

PORT, BARE_PORT = 18000, 18001
SECONDS = 5.0


def rate(port: int, path: str, headers: Mapping[str, str], clients: int) -> float:
    """Answers per second that so many clients get, each over a connection of its own."""
    done, errors = [0] * clients, []
    until = time.monotonic() + SECONDS

    def ask(mine: int) -> None:
        connection = http.client.HTTPConnection("localhost", port)
        while time.monotonic() < until:
            connection.request("GET", path, headers=dict(headers))
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                errors.append(answer.status)
            done[mine] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise SystemExit(f"{path}: {errors[0]}")
    return sum(done) / SECONDS


def measure_load(made: Made, **settings: Any) -> None:
    servers = [serve(PORT, WORKERS="2", **settings), serve_bare("application", BARE_PORT, 2)]
    try:
        code = made.client.codes[-1]
        found = exchange_code(open_http(f"http://localhost:{PORT}"), made.client, code)
        bearer = {"Authorization": f"Bearer {found['access_token']}"}
        docker = basic(made.service_user, made.service_password)
        print("\nat 2 workers          clients   requests a second   of a bare view's")
        for name, path, headers, clients, beside in (
            ("discovery", "/.well-known/openid-configuration", {}, 16, "bare"),
            ("JWKS", "/o2/jwks/", {}, 16, "bare"),
            ("userinfo", "/o2/userinfo/", bearer, 16, "bare"),
            ("Docker token", DOCKER, docker, 32, "signature"),
        ):
            ours = rate(PORT, path, headers, clients)
            theirs = rate(BARE_PORT, f"/{beside}/", {}, clients)
            print(f"{name:22}{clients:7}{ours:20.0f}{ours / theirs:10.2f} ({beside}: {theirs:.0f})")
    finally:
        for server in servers:
            server.stop()
