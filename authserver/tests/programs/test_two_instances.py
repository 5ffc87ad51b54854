"""Two servers on one database behind nginx: a sign-in goes on at the other; one is killed."""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import Browser
from tests.processes import BOUND, Program, free_port
from tests.relying_party import RelyingParty, query_of
from tests.server import PASSWORD, Server

CLIENTS, ROUNDS = 16, 4

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream authserver {{ server 127.0.0.1:{ports[0]}; server 127.0.0.1:{ports[1]}; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://authserver;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto http;
    }}
  }}
}}
"""


class Pair:
    """Two servers, and nginx in front; `front` is a server at nginx's address, for browsers."""

    def __init__(self, folder: Path) -> None:
        port, ports = free_port(), [free_port(), free_port()]
        base = f"http://localhost:{port}"
        settings: dict[str, Any] = {"BASE_URL": base, "TRUSTED_PROXIES": "127.0.0.0/8"}
        self.first = Server(folder / "first", PORT=ports[0], **settings)
        url = self.first.environment["DATABASE_URL"]
        self.second = Server(folder / "second", PORT=ports[1], DATABASE_URL=url, **settings)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, ports=ports))
        self.nginx = Program(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], {})
        self.first.address = f"http://127.0.0.1:{port}"  # where its browsers go
        wait_for(base)

    def stop(self) -> None:
        self.nginx.stop()
        self.second.stop()
        self.first.stop()


def wait_for(base: str) -> None:
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{base}/health/", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)  # nothing tells from outside when a port is open
    raise AssertionError(f"{base} does not answer")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    if not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        pytest.skip("needs Debian's nginx")
    running = Pair(tmp_path)
    yield running
    running.stop()


def code_of(party: RelyingParty, browser: Browser) -> str:
    """A code, or "" where the server that was asked has just been killed."""
    answer = browser.get(party.url(scope="openid offline_access"))
    return query_of(answer)["code"] if answer.status_code == 302 else ""


def use_twice(party: RelyingParty, code: str) -> None:
    """Use a code twice at once: it works once, and where the second was judged its family ends."""
    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(lambda _: party.exchange(code), range(2)))
    statuses = [answer.status_code for answer in answers]
    brought = [answer.json()["refresh_token"] for answer in answers if answer.status_code == 200]
    refreshed = [party.refresh(token).status_code for token in brought]
    assert len(brought) <= 1, "a code has worked twice"
    if 400 in statuses:  # else the server of the other has just been killed
        assert 200 not in refreshed, "a family has survived the second use of its code"


def test_a_sign_in_begun_on_one_goes_on_at_the_other_and_one_may_be_killed(pair: Pair) -> None:
    names = [f"user{number}" for number in range(CLIENTS)]
    for name in names:
        pair.first.make_user(name)
    party = RelyingParty(pair.first, skip_authorization=True)
    killed, counts = threading.Event(), Counter[str]()
    all_signed_in = threading.Barrier(CLIENTS)

    def client(name: str) -> None:
        browser = pair.first.browser().signed_in(name, PASSWORD)
        all_signed_in.wait(BOUND)
        for number in range(ROUNDS):
            if name == names[0] and number == ROUNDS // 2:
                pair.second.process.kill()
                killed.set()
            code = code_of(party, browser)
            if not code:
                counts["lost"] += 1
                continue
            use_twice(party, code)
            counts["used"] += 1
        assert killed.wait(BOUND)
        assert browser.is_signed_in()  # with one that is left
        assert party.exchange(code_of(party, browser)).status_code == 200

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(client, name) for name in names]:
            done.result()
    assert counts["used"] > CLIENTS
