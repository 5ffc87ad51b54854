"""What authserver costs, each figure beside its yardstick in the same run.

    make -C authserver bench                            on SQLite
    make -C authserver bench BENCH=postgres://USER@HOST/EMPTY_DATABASE
                                                        on PostgreSQL, with 100,000 users too
    make -C authserver bench BENCH="--logins 1000"      shorter

CPU is the processor time of the server, as the kernel counts it, for REQUESTS requests over one
connection; the best of ROUNDS rounds, in which all are asked in turns.
"""

import argparse
import dataclasses
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench import client, crowd, guessing, load, peer
from bench.questions import (
    TOKEN,
    Ask,
    Made,
    make_accounts,
    oauth_questions,
    open_http,
    other_questions,
)
from bench.served import Served, check, serve, serve_bare

ROUNDS, REQUESTS = 5, 200
PORT, BARE_PORT, OURS_PORT, PEER_PORT = 18000, 18001, 18002, 18003
CODES = ROUNDS * REQUESTS
FEW = 99  # users beside the one who is asked about
# at most so many bare views: the goals
GOALS = {
    "discovery": 1.2,
    "JWKS": 1.2,
    "userinfo": 2.0,
    "introspection": 2.5,
    "code exchange": 6.0,
    "refresh": 5.5,
    "/checkpassword/, service user": 3.0,
    "Docker token, service user": 3.0,
}
BARE = "bare view"


def cost(served: Served, ask: Ask) -> float:
    """Processor milliseconds of one request."""
    before = served.seconds()
    for _ in range(REQUESTS):
        ask()
    return (served.seconds() - before) * 1000 / REQUESTS


def yardsticks(port: int) -> dict[str, Ask]:
    http = open_http(f"http://localhost:{port}")
    return {name: partial(get, http, f"/{name}/") for name in ("bare", "signature")}


def get(http: Any, path: str) -> None:
    check(http.get(path))


def measure_cpu(made: Made, folder: Path) -> None:
    servers: list[Served] = []
    try:
        servers = [
            serve(PORT),
            serve_bare("application", BARE_PORT),
            serve_bare("ours", OURS_PORT),
        ]
        http = open_http(f"http://localhost:{PORT}")
        bare, ours = yardsticks(BARE_PORT), yardsticks(OURS_PORT)
        work: dict[str, tuple[Served, Ask]] = {
            BARE: (servers[1], bare["bare"]),
            "the same, run as authserver does": (servers[2], ours["bare"]),
            "bare view with an RS256 signature": (servers[1], bare["signature"]),
        }
        asked = {**oauth_questions(http, made.client), **other_questions(http, made)}
        work |= {name: (servers[0], ask) for name, ask in asked.items()}
        if peer.is_installed():
            served, known = peer.serve_peer(PEER_PORT, folder, CODES)
            servers.append(served)
            peers = oauth_questions(open_http(f"http://localhost:{PEER_PORT}"), known)
            work |= {f"oidc-provider: {name}": (served, ask) for name, ask in peers.items()}
        best = dict.fromkeys(work, float("inf"))
        for _ in range(ROUNDS):
            for name, (served, ask) in work.items():
                best[name] = min(best[name], cost(served, ask))
    finally:
        for served in servers:
            served.stop()
    show(best)


def show(best: dict[str, float]) -> None:
    print(f"{'CPU of one request':36}    ms   in bare views   goal")
    for name, value in best.items():
        goal = GOALS.get(name)
        print(f"{name:36}{value:6.2f}{value / best[BARE]:12.1f}{goal or '':>14}")


def measure_memory(made: Made, logins: int) -> None:
    server = serve(PORT)
    try:
        print(f"\nstart to the first answer: {server.start_seconds:.1f} s")
        print(f"memory then: {server.megabytes():.0f} MB (PSS)")
        http = open_http(f"http://localhost:{PORT}")
        login = other_questions(http, made)["/checkpassword/, service user"]
        for _ in range(logins):
            login()
        print(f"memory after {logins:,} logins: {server.megabytes():.0f} MB")
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.bench", description="What authserver costs.")
    parser.add_argument("url", nargs="?", default="", help="of an empty database in PostgreSQL")
    parser.add_argument("--logins", type=int, default=10_000, help="before memory is read again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="authserver-bench-") as folder:
        run(given.url, given.logins, Path(folder))


def run(url: str, logins: int, folder: Path) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "authserver.settings",
        "DATA_DIR": str(folder),
        "BASE_URL": f"http://localhost:{PORT}",
        "SECRET_KEY": "x" * 32,
        "LOG_LEVEL": "ERROR",
        "MAX_FAILURES": "0",
        "CHECKPASSWORD_TOKEN": TOKEN,
        **({"DATABASE_URL": url} if url else {}),
    }
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    # a pool would stay connected, and the database could not be copied
    connections.settings["default"]["OPTIONS"].pop("pool", None)
    call_command("migrate", verbosity=0)
    made = make_accounts(CODES + crowd.CODES + 1, FEW)
    connections.close_all()
    print(f"{'PostgreSQL' if url else 'SQLite'}; {os.cpu_count()} processors; peer: ", end="")
    print(peer.version() if peer.is_installed() else "none, npm is not installed")
    measure_cpu(made, folder)
    load.measure_load(made)
    guessing.measure_guessing()
    measure_memory(made, logins)
    client.measure_client()
    if url:
        codes = made.client.codes[CODES : CODES + crowd.CODES]
        application = dataclasses.replace(made.client, codes=codes)
        crowd.measure_crowd(url, dataclasses.replace(made, client=application))


if __name__ == "__main__":
    main()
