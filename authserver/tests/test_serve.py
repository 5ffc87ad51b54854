"""authserver serve: how it starts, what a client cannot do to it, and how it ends."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from authserver import protocol
from authserver.accounts.management.commands.serve import listen
from authserver.accounts.models import User
from authserver.audit.models import Event
from authserver.audit.record import record
from tests import databases
from tests.databases import AUTHSERVER
from tests.processes import BOUND, free_port
from tests.server import DEFAULTS, PASSWORD, Serve, Server


def run_serve(tmp_path: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    environment = {**DEFAULTS, "DATA_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [AUTHSERVER, "serve"],
        env={**environment, **{name: str(value) for name, value in settings.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.environment["PORT"])), BOUND)


@pytest.mark.once
@pytest.mark.parametrize("workers", [1, 2])
def test_a_used_port_is_one_line(server: Server, tmp_path: Path, workers: int) -> None:
    url = databases.new_database(tmp_path)
    port = server.environment["PORT"]
    done = run_serve(tmp_path, DATABASE_URL=url, PORT=port, WORKERS=workers, LOG_LEVEL="ERROR")
    databases.drop_database(url)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert port in last
    assert "Address already in use" in last


@pytest.mark.once
def test_a_host_that_is_none_is_one_line(tmp_path: Path) -> None:
    url = databases.new_database(tmp_path)
    for host in ("192.0.2.1", "no.such.host.invalid"):
        done = run_serve(tmp_path, DATABASE_URL=url, HOST=host, LOG_LEVEL="ERROR")
        assert done.returncode == 1
        assert "HOST" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_a_database_without_migrations_is_1_with_the_command(tmp_path: Path) -> None:
    url = databases.new_database(tmp_path, empty=True)
    done = run_serve(tmp_path, DATABASE_URL=url)
    databases.drop_database(url)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "authserver migrate" in done.stderr


@pytest.mark.once
def test_a_database_that_is_down_at_the_start_is_one_line(tmp_path: Path) -> None:
    down = f"postgres://nobody:secret-of-the-database@127.0.0.1:{free_port()}/nothing"
    file = tmp_path / "a folder"
    file.mkdir()
    for url in (down, f"sqlite:///{file}"):
        done = run_serve(tmp_path, DATABASE_URL=url)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("authserver: the database cannot be used")
        assert "Traceback" not in done.stderr
        assert "secret-of-the-database" not in done.stderr


def test_several_workers_answer_and_end_together(serve: Serve) -> None:
    server = serve(WORKERS=2)
    server.make_user("jane")
    server.browser().signed_in("jane", PASSWORD)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    pids = children.read_text().split()
    assert len(pids) >= 2
    assert server.stop() == 0
    deadline = time.monotonic() + BOUND
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_requests_finish(serve: Serve, stop: signal.Signals) -> None:
    server = serve(REFUSAL_SECONDS=2)
    browser = server.browser()
    action, fields = browser.form("/account/login/")
    with ThreadPoolExecutor(1) as threads:
        data = {**fields, "login": "nobody", "password": "wrong guess"}
        running = threads.submit(browser.post, action, data=data)
        with server.database():
            while not Event.objects.filter(kind="login.refused").exists():
                time.sleep(0.02)  # it is judged, and is being held
        server.process.send_signal(stop)
        assert running.result().status_code == 200
    assert server.process.wait(BOUND) == 0
    assert "Wrong name or password." in running.result().text


def test_idle_connections_do_not_delay_the_end(serve: Serve) -> None:
    server = serve()
    idle = [connect(server) for _ in range(5)]
    idle[0].sendall(b"GET / HTTP/1.1\r\nHo")
    assert server.stop() == 0
    assert server.find("timeout graceful shutdown exceeded") is None
    for each in idle:
        each.close()


# --- Slow and greedy clients -------------------------------------------------------------------


def closed_after(peer: socket.socket, drip: bytes = b"", every: float = 0.5) -> float:
    """Seconds until the server closes the connection, while a byte is sent now and then."""
    began, at = time.monotonic(), 0
    peer.settimeout(every)
    while time.monotonic() - began < BOUND:
        try:
            if drip:
                peer.sendall(drip[at : at + 1])
                at += 1
            if not peer.recv(65_536):
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    raise AssertionError("it is still open")


BEGUN = b"POST /checkpassword/ HTTP/1.1\r\nHost: x\r\n"
SLOW = {
    "says nothing": (b"", b"", protocol.HEAD_SECONDS),
    "drips its head": (b"", b"GET / HTTP/1.1\r\nX: " + b"x" * 500, protocol.HEAD_SECONDS),
    "drips line ends": (b"", b"\r\n" * 500, protocol.HEAD_SECONDS),
    "drips its headers": (BEGUN, b"X: " + b"x" * 500, protocol.HEAD_SECONDS),
    "drips another head": (
        b"GET /health/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 500,
        protocol.HEAD_SECONDS,
    ),
    "drips its body": (
        BEGUN + b"Content-Length: 5000\r\n\r\n",
        b"x" * 500,
        protocol.BODY_SECONDS,
    ),
}


@pytest.mark.once
def test_a_slow_request_has_an_end(server: Server) -> None:
    def wait_for(name: str) -> float:
        before, drip, _ = SLOW[name]
        with connect(server) as peer:
            peer.sendall(before)
            return closed_after(peer, drip)

    with ThreadPoolExecutor(len(SLOW)) as threads:
        found = dict(zip(SLOW, threads.map(wait_for, SLOW), strict=True))
    for name, (_, _, seconds) in SLOW.items():
        assert found[name] >= seconds - 1, found


async def endless(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await asyncio.sleep(0)  # to a client that is gone, `send` does not wait


@pytest.mark.once
def test_an_answer_that_is_not_taken_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.5)

    async def run() -> None:
        config = uvicorn.Config(endless, http=protocol.Protocol, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        listener = await asyncio.get_running_loop().create_server(
            lambda: protocol.Protocol(config, server.server_state, {}), "127.0.0.1", 0
        )
        _reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        while server.server_state.connections:  # until it gives up, while nothing is read
            await asyncio.sleep(0.01)
        writer.close()
        listener.close()
        for task in server.server_state.tasks:
            task.cancel()

    with ThreadPoolExecutor(1) as thread:  # where no test of pages has left a loop that runs
        thread.submit(asyncio.run, asyncio.wait_for(run(), BOUND)).result()


@pytest.mark.once
def test_many_slow_clients_do_not_keep_others_out(server: Server) -> None:
    slow = [connect(server) for _ in range(300)]
    for each in slow:
        each.sendall(b"POST /account/login/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx")
    assert httpx.get(server.base + "/health/", timeout=BOUND, trust_env=False).status_code == 200
    for each in slow:
        each.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_413_before_it_is_kept(server: Server, chunked: bool) -> None:
    with connect(server) as peer:
        how = "Transfer-Encoding: chunked" if chunked else "Content-Length: 10000000"
        head = f"POST /checkpassword/ HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n"
        peer.sendall(head.encode())
        if chunked:
            for _ in range(5):
                peer.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        assert peer.makefile("rb").readline().startswith(b"HTTP/1.1 413")


def test_a_head_that_outgrows_its_limit_is_431(server: Server) -> None:
    with connect(server) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n")
        answer = b""
        try:
            for number in range(200):
                peer.sendall(b"X-%d: " % number + b"x" * 1000 + b"\r\n")
                time.sleep(0)
        except OSError:
            pass
        try:
            answer = peer.recv(65_536)
        except OSError:
            return  # closed before the answer could be read
    assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\nHost: x\r\n\r\nxx",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_nonsense_is_400_or_closed_and_logs_no_bug(server: Server, raw: bytes) -> None:
    with connect(server) as peer:
        peer.sendall(raw)
        peer.shutdown(socket.SHUT_WR)
        status = peer.makefile("rb").readline()
    assert not status or b" 400 " in status or b" 404 " in status, status
    assert httpx.get(server.base + "/health/", timeout=BOUND, trust_env=False).status_code == 200


# --- The database ------------------------------------------------------------------------------


def test_workers_that_write_at_once_lose_nothing(serve: Serve) -> None:
    one = serve(MAX_FAILURES=0, WORKERS=2)
    two = serve(MAX_FAILURES=0, DATABASE_URL=one.environment["DATABASE_URL"])
    one.make_user("writer")
    browsers = [server.browser() for server in (one, two) for _ in range(4)]
    forms = [browser.form("/account/login/") for browser in browsers]

    def write(number: int) -> list[int]:
        browser, (action, fields) = browsers[number], forms[number]
        found = []
        for _ in range(5):
            data = {**fields, "login": "writer", "password": "wrong guess"}
            found.append(browser.post(action, data=data).status_code)
        return found

    with ThreadPoolExecutor(8) as threads:
        found = [status for each in threads.map(write, range(8)) for status in each]
    assert Counter(found) == {200: 40}
    with one.database():
        assert Event.objects.filter(kind="login.refused", subject="writer").count() == 40


@pytest.mark.sqlite
def test_a_locked_sqlite_is_503_and_works_again(serve: Serve) -> None:
    server = serve()
    server.make_user("jane")
    with server.database():
        from django.db import transaction

        browser = server.browser()
        action, fields = browser.form("/account/login/")
        with ThreadPoolExecutor(1) as threads, transaction.atomic():
            User.objects.update(fullname="x")  # a writer that does not end
            data = {**fields, "login": "jane", "password": PASSWORD}
            answer = threads.submit(browser.post, action, data=data).result()
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    server.browser().signed_in("jane", PASSWORD)


@pytest.mark.postgres
def test_a_database_that_goes_away_is_503_and_comes_back(serve: Serve) -> None:
    folder = databases.new_folder()
    cluster = databases.Cluster(folder / "cluster")
    try:
        url = f"{cluster.url}/postgres"
        databases.migrate({"DATABASE_URL": url})
        server = serve(DATABASE_URL=url)
        server.make_user("jane")
        server.browser().signed_in("jane", PASSWORD)
        cluster.stop()
        check_down(server)
        cluster.start()
        deadline = time.monotonic() + BOUND
        while server.browser().get("/health/").status_code != 200:
            assert time.monotonic() < deadline
        server.browser().signed_in("jane", PASSWORD)
        server.stop()
    finally:
        cluster.stop()
        shutil.rmtree(folder)


def check_down(server: Server) -> None:
    browser = server.browser()
    browser.cookies.set("authserver", "x" * 43)
    for path in ("/account/", "/admin/", "/o2/jwks/"):
        answer = browser.get(path)
        assert answer.status_code == 503, (path, answer.text)
        assert answer.headers["retry-after"]
        assert "Traceback" not in answer.text
    assert browser.get("/health/").status_code == 503
    assert browser.get("/static/style.css").status_code == 200
    assert browser.get("/account/login/").status_code == 200  # it asks the database nothing


def test_old_rows_are_cleared_by_serve_itself(serve: Serve) -> None:
    first = serve()
    user = first.make_user("jane")
    first.browser().signed_in("jane", PASSWORD)
    with first.database():
        record("old.event")
        Event.objects.filter(kind="old.event").update(at="2020-01-01T00:00:00Z")
        user.sessions.update(expires_at="2020-01-01T00:00:00Z")
    second = serve(DATABASE_URL=first.environment["DATABASE_URL"])
    assert second.process.poll() is None
    deadline = time.monotonic() + BOUND
    with first.database():
        while Event.objects.filter(kind="old.event").exists() or user.sessions.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert Event.objects.filter(kind="login").exists()


@pytest.mark.once
def test_the_body_of_an_answer_does_not_wait_until_its_head_is_confirmed() -> None:
    listener = listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
