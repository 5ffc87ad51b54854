"""What a right login waits while 50 clients guess.

As a program (`python -m bench.guessing PORT`) it guesses until it is ended.
"""

import http.client
import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from bench.questions import PASSWORD, Ask, open_http
from bench.served import check, serve

PORT = 18000
CLIENTS = 50
LOGINS = 20


def guess(port: int, mine: int) -> None:
    """Guess at one name after another, each unknown, from an address that nobody has used."""
    connection = http.client.HTTPConnection("127.0.0.1", port, source_address=("127.0.0.2", 0))
    for number in itertools.count():
        body = json.dumps({"username": f"guess-{mine}-{number}", "password": "a wrong password"})
        headers = {"Content-Type": "application/json", "Host": f"localhost:{port}"}
        connection.request("POST", "/checkpassword/", body, headers)
        connection.getresponse().read()


def main() -> None:
    port = int(sys.argv[1])
    for number in range(CLIENTS):
        threading.Thread(target=guess, args=(port, number), daemon=True).start()
    threading.Event().wait()


def waits_of(ask: Ask) -> list[float]:
    waits = []
    for _ in range(LOGINS):
        begun = time.monotonic()
        ask()
        waits.append((time.monotonic() - begun) * 1000)
    return waits


def measure_guessing(**settings: Any) -> None:
    server = serve(PORT, MAX_FAILURES="10", **settings)
    client = open_http(f"http://localhost:{PORT}")

    def login() -> None:
        fields = {"username": "maria", "password": PASSWORD}
        check(client.post("/checkpassword/", json=fields))

    guessers = None
    try:
        idle = waits_of(login)
        guessers = subprocess.Popen([sys.executable, "-m", "bench.guessing", str(PORT)])
        time.sleep(5)  # until they all wait for their turn
        busy = waits_of(login)
    finally:
        if guessers:
            guessers.terminate()
            guessers.wait()
        server.stop()
    unit = statistics.median(idle)
    print(
        f"\na login with a local password takes {unit:.0f} ms; while {CLIENTS} clients guess"
        f" {statistics.median(busy) / unit:.1f} times that, at most {max(busy) / unit:.1f} times"
    )


if __name__ == "__main__":
    main()
