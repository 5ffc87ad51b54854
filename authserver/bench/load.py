"""Requests per second of 16 clients at two workers, beside a bare view's."""

import http.client
import threading
import time
from collections.abc import Mapping
from typing import Any

from bench.questions import Made, exchange_code, open_http
from bench.served import serve, serve_bare

PORT, BARE_PORT = 18000, 18001
CLIENTS, SECONDS = 16, 5.0


def rate(port: int, path: str, headers: Mapping[str, str]) -> float:
    """Answers per second that 16 clients get, each over a connection of its own."""
    done, errors = [0] * CLIENTS, []
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

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
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
        bare = rate(BARE_PORT, "/bare/", {})
        print(f"\n{CLIENTS} clients, 2 workers: requests per second, of a bare view's {bare:.0f}")
        for path, headers in (
            ("/.well-known/openid-configuration", {}),
            ("/o2/jwks/", {}),
            ("/o2/userinfo/", bearer),
        ):
            one = rate(PORT, path, headers)
            print(f"{path:34}{one:6.0f}{one / bare:8.2f}")
    finally:
        for server in servers:
            server.stop()
