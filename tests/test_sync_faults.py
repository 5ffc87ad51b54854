"""authentik-sync.py against answers that fail, lie or hang: what is in doubt changes nothing."""

import json
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from api import Api, ApiServer, Request
from authentik.core.models import User
from hostile import ACCOUNT, Answer, Hostile, answer, dripping, endless, silent
from logins import Site, link
from secrecy import TOKEN, keep_secret
from service import BOUND, free_port
from syncing import SYNC, Passes, load, service_account, state

import main

Ask = Callable[..., Hostile]
ACTIVE = {**ACCOUNT, "active": True}
GONE = answer(200, {"exists": False, "error": "User not found"})
READY = answer(200, {"status": "ready"})


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load()


@pytest.fixture
def api(site: Site) -> Iterator[Api]:
    """With `alice` and `bob`."""
    link("alice", ugos_uid=1005)
    link("bob")
    with ApiServer(site) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[Ask]:
    """Starts a NAS that says the same of everybody."""
    started: list[Hostile] = []

    def start(user_info: Answer, ready: Answer = READY) -> Hostile:
        started.append(Hostile(user_info=user_info).__enter__())
        started[-1].answers["/ready"] = ready
        return started[-1]

    yield start
    for each in started:
        each.__exit__()


@pytest.fixture
def run(site: Site, api: Api, proxy: Ask) -> Passes:
    return Passes(
        {
            "UGOS_AUTH_PROXY_TOKEN": TOKEN,
            "AUTHENTIK_URL": api.url,
            "AUTHENTIK_TOKEN": service_account(site),
        }
    )


def test_the_stub_locks_when_it_answers_as_the_service_does(run: Passes, proxy: Ask) -> None:
    """Without this the doubts below would show nothing."""
    stub = proxy(answer(200, {**ACTIVE, "active": False}))
    done = run(UGOS_AUTH_PROXY_URL=stub.url)
    assert state("alice") == (False, True)
    assert state("bob") == (True, None)  # the answer is another account's
    assert done.counts == (2, 1, 0)
    assert [each.path for each in stub.asked] == [
        "/ready",
        "/user-info?username=alice",
        "/user-info?username=bob",
        "/user-info?username=alice",
    ]
    for each in stub.asked:
        assert each.headers["Authorization"] == f"Bearer {TOKEN}"
        assert each.headers["User-Agent"] == f"ugos-authentik-sync/{main.__version__}"


DOUBTS: dict[str, Answer] = {
    "503": answer(503, {"exists": False, "error": "group cannot be read"}),
    "503 in a row": answer(503, GONE),
    "429": answer(429, {"exists": False}),
    "400": answer(400, {"exists": False, "error": "Username has a colon"}),
    "404": answer(404, {"exists": False}),
    "500": answer(500, {"exists": False}),
    "201": answer(201, {"exists": False}),
    "302": answer(302, {"exists": False}, ["Location: /user-info"]),
    "no JSON": answer(200, b"<html>gone</html>"),
    "nothing": answer(200, b""),
    "a list": answer(200, [{"exists": False}]),
    "deep": answer(200, b"[" * 60_000),
    "not UTF-8": answer(200, b'{"exists": false, "x": "\xff"}'),
    "exists as a string": answer(200, {"exists": "false"}),
    "exists as a number": answer(200, {"exists": 0}),
    "no exists": answer(200, {"error": "User not found"}),
    "exists as a string, inactive": answer(200, {**ACTIVE, "exists": "true", "active": False}),
    "exists as a number, inactive": answer(200, {**ACTIVE, "exists": 1, "active": False}),
    "no exists, inactive": answer(200, {**ACTIVE, "exists": None, "active": False}),
    "null": answer(200, {"exists": None}),
    "gone, and active": answer(200, {**ACTIVE, "exists": False}),
    "gone, and inactive": answer(200, {"exists": False, "active": False}),
    "gone, and with a uid": answer(200, {**ACCOUNT, "exists": False}),
    "no active": answer(200, ACCOUNT),
    "active as a string": answer(200, {**ACTIVE, "active": "false"}),
    "active as a number": answer(200, {**ACTIVE, "active": 0}),
    "active null": answer(200, {**ACTIVE, "active": None}),
    "another account": answer(200, {**ACTIVE, "username": "carol", "active": False}),
    "another spelling": answer(200, {**ACTIVE, "username": "Alice", "active": False}),
    "uid as a string": answer(200, {**ACTIVE, "uid": "1999"}),
    "uid as a float": answer(200, {**ACTIVE, "uid": 1999.0}),
    "uid as a boolean": answer(200, {**ACTIVE, "uid": True}),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_a_doubt_about_one_user_changes_nothing_and_is_said(
    run: Passes, proxy: Ask, api: Api, case: str
) -> None:
    done = run(UGOS_AUTH_PROXY_URL=proxy(DOUBTS[case]).url)
    assert done.status == 1
    assert done.counts == (2, 0, 0)
    assert not api.changes
    for name in ("alice", "bob"):
        assert f"level=WARNING event=skipped user={name} reason=" in done.log


@pytest.mark.parametrize("uid", [1005.0, True, "abc", "-1005", " 1005", [1005], {}])
def test_an_attribute_that_is_no_uid_is_a_doubt(
    run: Passes, proxy: Ask, api: Api, uid: object
) -> None:
    alice = User.objects.get(username="alice")
    alice.attributes["ugos_uid"] = uid
    alice.save()
    done = run(UGOS_AUTH_PROXY_URL=proxy(answer(200, {**ACTIVE, "active": False})).url)
    assert (done.status, done.counts) == (1, (2, 0, 0))
    assert "event=skipped user=alice reason=" in done.log
    assert "which is no uid" in done.log
    assert not api.changes


FAULTS: dict[str, Answer] = {
    "401": answer(401, {"exists": False, "error": "Unauthorized"}),
    "403": answer(403, {"exists": False}),
    "closed": b"",
    "no HTTP": b"exists: false\r\n\r\n",
    "a body without end": endless(b"HTTP/1.1 200 OK\r\n\r\n"),
    "a head without end": endless(b"HTTP/1.1 200 OK\r\nX-A:"),
}


@pytest.mark.parametrize("path", ["/ready", "/user-info"])
@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_of_the_proxy_ends_the_pass(
    run: Passes, proxy: Ask, api: Api, case: str, path: str
) -> None:
    stub = proxy(GONE)
    stub.answers[path] = FAULTS[case]
    done = run(UGOS_AUTH_PROXY_URL=stub.url)
    assert done.status == 1
    assert "level=ERROR event=stopped reason=" in done.log
    assert "ugos-auth-proxy: " in done.log
    assert "skipped" not in done.log
    assert not api.changes
    assert len(stub.asked) <= 3  # nobody else is asked about


def test_each_question_has_5_seconds(run: Passes, proxy: Ask) -> None:
    run.program = [sys.executable, str(SYNC)]
    done = run(UGOS_AUTH_PROXY_URL=proxy(GONE, silent).url)
    assert "ugos-auth-proxy: no whole answer within 5 seconds" in done.log


HANGING: dict[str, Answer] = {
    "silence": silent,
    "a drip": dripping(answer(200, {"exists": False}, ["X-Slow: " + "z" * 600])),
    "a dripping body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 900),
    "continue without end": dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}


@pytest.fixture
def hurried(program: ModuleType, monkeypatch: pytest.MonkeyPatch, run: Passes) -> Any:
    """Runs a pass in this process, where the question that hangs has a second, and every other as
    long as a busy machine may need; its PassError."""
    exchange = program.Service.exchange

    def run_pass(hanging: str, **env: str) -> str:
        def hurry(service: Any, method: str, path: str, *rest: Any) -> Any:
            seconds = 1 if path.startswith(hanging) else BOUND
            monkeypatch.setattr(program, "QUESTION_SECONDS", seconds)
            return exchange(service, method, path, *rest)

        monkeypatch.setattr(program.Service, "exchange", hurry)
        sync = program.Sync(program.Settings(run.environ(**env)))
        before = set(threading.enumerate())
        with pytest.raises(program.PassError) as caught:
            sync.run()
        for thread in set(threading.enumerate()) - before:
            if thread.name.endswith("(run)"):
                thread.join(BOUND)
                assert not thread.is_alive()
        return str(caught.value)

    return run_pass


@pytest.mark.parametrize("path", ["/ready", "/user-info"])
@pytest.mark.parametrize("case", HANGING)
def test_a_proxy_that_hangs_ends_the_pass_and_leaves_no_thread(
    hurried: Any, proxy: Ask, api: Api, case: str, path: str
) -> None:
    stub = proxy(GONE)
    stub.answers[path] = HANGING[case]
    assert "ugos-auth-proxy: no whole answer" in hurried(path, UGOS_AUTH_PROXY_URL=stub.url)
    assert not api.changes


@pytest.mark.parametrize("case", HANGING)
def test_an_authentik_that_hangs_ends_the_pass(hurried: Any, proxy: Ask, case: str) -> None:
    with Hostile() as hanging:
        hanging.answers["/api/v3/core/users/"] = HANGING[case]
        env = {"UGOS_AUTH_PROXY_URL": proxy(GONE).url, "AUTHENTIK_URL": hanging.url}
        said = hurried("/api/v3/core/users/", **env)
    assert "authentik: no whole answer" in said


def test_a_handshake_that_never_ends_ends_the_pass(hurried: Any) -> None:
    drip = dripping(b"\x16\x03\x03\x40\x00" + b"\x02" * 900)  # a record of TLS that goes on and on
    with Hostile(greeting=drip) as stub:
        url = stub.url.replace("http:", "https:")
        assert "ugos-auth-proxy: no whole answer" in hurried("/ready", UGOS_AUTH_PROXY_URL=url)


def test_a_name_that_is_not_resolved_in_time_ends_the_pass_and_nothing_is_sent_after(
    hurried: Any, program: ModuleType, proxy: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, resolve, over = proxy(GONE), socket.getaddrinfo, threading.Event()
    cut = program.Connection.cut

    def hang(*args: Any, **options: Any) -> Any:
        assert over.wait(BOUND)
        return resolve(*args, **options)

    def cut_and_resolve(connection: Any) -> None:
        cut(connection)
        over.set()

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(program.Connection, "cut", cut_and_resolve)
    assert "ugos-auth-proxy: no whole answer" in hurried("/ready", UGOS_AUTH_PROXY_URL=stub.url)
    assert not stub.asked


NOT_READY: dict[str, Answer] = {
    "503": answer(503, {"status": "not ready", "error": "the mount of /etc/shadow is stale"}),
    "ready with 503": answer(503, {"status": "ready"}),
    "not ready with 200": answer(200, {"status": "not ready"}),
    "nothing": answer(200, {}),
    "404": answer(404, {"status": "ready"}),
}


@pytest.mark.parametrize("case", NOT_READY)
def test_nobody_is_asked_about_while_it_is_not_ready(
    run: Passes, proxy: Ask, api: Api, case: str
) -> None:
    stub = proxy(GONE, NOT_READY[case])
    done = run(UGOS_AUTH_PROXY_URL=stub.url)
    assert done.status == 1
    assert "ugos-auth-proxy: not ready" in done.log
    assert [each.path for each in stub.asked] == ["/ready"]
    assert not api.asked


def test_a_proxy_that_is_not_there_ends_the_pass(run: Passes, api: Api) -> None:
    done = run(UGOS_AUTH_PROXY_URL=f"http://127.0.0.1:{free_port()}")
    assert done.status == 1
    assert "ugos-auth-proxy: ConnectionRefusedError" in done.log
    assert not api.asked


# --- The list of users ---------------------------------------------------------------------------


def page(rows: Any, following: Any = 0) -> bytes:
    return answer(200, {"pagination": {"next": following}, "results": rows})


ROW: dict[str, Any] = {
    "pk": 1,
    "username": "carol",
    "is_active": True,
    "attributes": {"ugos_user": True},
}
BAD_ROWS: dict[str, Any] = {
    "no object": "carol",
    "pk as a string": {**ROW, "pk": "1"},
    "pk as a boolean": {**ROW, "pk": True},
    "no pk": {key: value for key, value in ROW.items() if key != "pk"},
    "no username": {**ROW, "username": ""},
    "username null": {**ROW, "username": None},
    "half a surrogate pair": {**ROW, "username": "\ud800"},
    "is_active as a string": {**ROW, "is_active": "true"},
    "no is_active": {key: value for key, value in ROW.items() if key != "is_active"},
    "attributes as text": {**ROW, "attributes": '{"ugos_user": true}'},
    "no attributes": {key: value for key, value in ROW.items() if key != "attributes"},
}
BAD_LISTS: dict[str, bytes] = {
    "500": answer(500, {"detail": "boom"}),
    "502": answer(502, b"<html>Bad Gateway</html>"),
    "429": answer(429, {"detail": "slow down"}, ["Retry-After: 7"]),
    "401": answer(401, {"detail": "no"}),
    "403": answer(403, {"detail": "Token invalid/expired"}),
    "404": answer(404, {"detail": "Invalid page."}),
    "201": answer(201, {"pagination": {"next": 0}, "results": []}),
    "301": answer(301, b"", ["Location: /elsewhere/"]),
    "closed": b"",
    "no JSON": answer(200, b"<html></html>"),
    "a list": answer(200, [ROW]),
    "no results": answer(200, {"pagination": {"next": 0}}),
    "results null": page(None),
    "results as an object": page({"1": ROW}),
    "no pagination": answer(200, {"results": [ROW]}),
    "pagination as a list": answer(200, {"pagination": [0], "results": [ROW]}),
    "no next": answer(200, {"pagination": {}, "results": [ROW]}),
    "next null": page([ROW], None),
    "next as a string": page([ROW], "3"),
    "next as a list": page([ROW], [3]),
    "the same page again": page([ROW], 1),
    "a page left out": page([ROW], 9),
    "an empty page, and more": page([], 3),
    **{f"a row with {case}": page([ROW, row]) for case, row in BAD_ROWS.items()},
}


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("case", BAD_LISTS)
def test_a_fault_of_the_list_of_users_changes_nothing(
    run: Passes, proxy: Ask, api: Api, case: str, which: int
) -> None:
    """At its second page too."""

    def spoil(request: Request) -> bytes | None:
        if not request.path.endswith("/users/"):
            return None
        if request.query["page"] == str(which):
            return BAD_LISTS[case]
        rows = [{**ROW, "pk": number, "username": f"user-{number}"} for number in range(5, 15)]
        return page(rows, 2)

    api.spoil = spoil
    stub = proxy(GONE)
    done = run("--once", "--force", UGOS_AUTH_PROXY_URL=stub.url)
    assert done.status == 1
    assert "level=ERROR event=stopped reason=" in done.log
    assert "authentik: " in done.log
    assert [each.path for each in stub.asked] == ["/ready"]
    assert not api.changes


def test_a_list_that_does_not_end_is_bounded(run: Passes, proxy: Ask, api: Api) -> None:
    def spoil(request: Request) -> bytes:
        number = int(request.query["page"])
        rows = [{**ROW, "pk": number * 100 + row, "username": f"u{row}"} for row in range(100)]
        return page(rows, number + 1)

    api.spoil = spoil
    done = run(UGOS_AUTH_PROXY_URL=proxy(GONE).url)
    assert done.status == 1
    assert "the list of users: more than 10000" in done.log
    assert len(api.asked) == 101


def test_an_authentik_that_ignores_the_filter_has_nobody_else_touched(
    run: Passes, proxy: Ask, api: Api
) -> None:
    def spoil(request: Request) -> bytes | None:
        if not request.path.endswith("/users/"):
            return None
        strangers = [{**ROW, "pk": 77, "attributes": {}}, {**ROW, "pk": 78, "username": "AKADMIN"}]
        return page(strangers)

    api.spoil = spoil
    stub = proxy(GONE)
    assert run(UGOS_AUTH_PROXY_URL=stub.url).counts == (0, 0, 0)
    assert [each.path for each in stub.asked] == ["/ready"]


def test_users_come_in_pages_of_100(run: Passes, proxy: Ask, api: Api) -> None:
    for number in range(230):
        User.objects.create(username=f"user-{number}", attributes={"ugos_user": True})
    done = run(UGOS_AUTH_PROXY_URL=proxy(answer(503, {})).url)
    assert done.counts == (232, 0, 0)
    listed = [each.query for each in api.asked if each.path.endswith("/users/")]
    assert [(each["page"], each["page_size"]) for each in listed] == [
        ("1", "100"),
        ("2", "100"),
        ("3", "100"),
    ]
    assert all(json.loads(each["attributes"]) == {"ugos_user": True} for each in listed)


# --- A change that fails -------------------------------------------------------------------------

ALICE_GONE = answer(200, {**ACTIVE, "active": False})


@pytest.mark.parametrize("status", [400, 404, 405])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_change_that_authentik_refuses_is_said(
    run: Passes, proxy: Ask, api: Api, site: Site, method: str, status: int
) -> None:
    site.browser().start("default-authentication-flow", User.objects.get(username="alice"))

    def spoil(request: Request) -> bytes | None:
        if request.method == method and not request.path.endswith(("/users/", "s/")):
            return answer(status, {"detail": "no"})
        of_one = request.path.rstrip("/").rpartition("/")[0].endswith(("users", "sessions"))
        return answer(status, {"detail": "no"}) if request.method == method and of_one else None

    api.spoil = spoil
    done = run(UGOS_AUTH_PROXY_URL=proxy(ALICE_GONE).url)
    gone_already = method == "DELETE" and status == 404
    said = f'event=skipped user=alice reason="authentik answers {status}"'
    assert (said in done.log) is not gone_already
    assert done.status == 1
    assert state("alice") == ((True, None) if method != "DELETE" else (False, True))


@pytest.mark.parametrize("case", ["500", "429", "closed", "403"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_fault_of_authentik_in_a_change_ends_the_pass(
    run: Passes, proxy: Ask, api: Api, site: Site, method: str, case: str
) -> None:
    site.browser().start("default-authentication-flow", User.objects.get(username="alice"))

    def spoil(request: Request) -> bytes | None:
        listed = request.path.endswith("/users/")
        return BAD_LISTS[case] if request.method == method and not listed else None

    api.spoil = spoil
    done = run(UGOS_AUTH_PROXY_URL=proxy(ALICE_GONE).url)
    assert done.status == 1
    assert "level=ERROR event=stopped" in done.log
    assert state("alice") == ((True, None) if method != "DELETE" else (False, True))


def test_a_change_that_is_not_taken_is_said(run: Passes, proxy: Ask, api: Api) -> None:
    alice = User.objects.get(username="alice")
    row = {"pk": alice.pk, "username": "alice", "is_active": True, "attributes": {}}
    api.spoil = lambda request: answer(200, row) if request.method == "PATCH" else None
    done = run(UGOS_AUTH_PROXY_URL=proxy(ALICE_GONE).url)
    assert (done.status, done.counts) == (1, (2, 0, 0))
    assert "authentik has not taken the change" in done.log


@pytest.mark.parametrize("locked", [False, True])
def test_what_the_nas_takes_back_at_the_second_look_changes_nothing(
    run: Passes, proxy: Ask, api: Api, locked: bool
) -> None:
    alice = User.objects.get(username="alice")
    if locked:
        User.objects.filter(pk=alice.pk).update(
            is_active=False, attributes={**alice.attributes, "ugos_locked": True}
        )
    verdicts = [ALICE_GONE, answer(200, ACTIVE)][:: -1 if locked else 1]

    def tell(connection: socket.socket, _: threading.Event) -> None:
        asked = [each.path for each in stub.asked].count("/user-info?username=alice")
        connection.sendall(verdicts[asked > 1])

    stub = proxy(tell)
    done = run(UGOS_AUTH_PROXY_URL=stub.url)
    assert (done.status, done.counts) == (1, (2, 0, 0))
    assert "event=skipped user=alice reason=" in done.log
    assert state("alice") == ((False, True) if locked else (True, None))
    assert not api.changes


def test_what_is_written_to_a_user_while_the_nas_is_asked_about_him_stays(
    run: Passes, proxy: Ask
) -> None:
    """A change writes all attributes back: those that authentik has told last."""

    def write_and_answer(connection: socket.socket, _: threading.Event) -> None:
        alice = User.objects.get(username="alice")
        if alice.is_active:
            User.objects.filter(pk=alice.pk).update(
                attributes={**alice.attributes, "theme": alice.attributes.get("theme", 0) + 1}
            )
        connection.sendall(ALICE_GONE)

    run(UGOS_AUTH_PROXY_URL=proxy(write_and_answer).url)
    assert state("alice") == (False, True)
    assert User.objects.get(username="alice").attributes["theme"] == 3  # bob is asked about as well


@pytest.mark.parametrize("rows", [None, [{}], [{"uuid": "x", "user": 1}], [{"user": 0}], ["x"]])
def test_a_session_of_somebody_else_is_never_deleted(
    run: Passes, proxy: Ask, api: Api, rows: Any
) -> None:
    api.spoil = lambda request: page(rows) if "sessions" in request.path else None
    done = run(UGOS_AUTH_PROXY_URL=proxy(ALICE_GONE).url)
    assert done.status == 1
    assert [each.method for each in api.changes] == ["PATCH"]


def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew(
    run: Passes, proxy: Ask, api: Api
) -> None:
    """The stub closes each after one answer without saying so."""
    stub = proxy(answer(200, {**ACTIVE, "active": False}))
    assert run(UGOS_AUTH_PROXY_URL=stub.url).counts == (2, 1, 0)
    assert len(stub.asked) == 4


# --- Pace ----------------------------------------------------------------------------------------


class Paced:
    """Stands for Sync: a pass ends as `ends` says, in turn."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = list(ends)

    def run(self, force: bool) -> bool:
        end = self.ends.pop(0)
        if end:
            raise end
        return True


def waits(program: ModuleType, monkeypatch: pytest.MonkeyPatch, *ends: Exception | None) -> Any:
    """How long it waits after each pass, rounded; it is told to end after the last."""
    found: list[int] = []
    paced = Paced(*ends)

    def told_to_end(seconds: float) -> bool:
        found.append(round(seconds))
        return not paced.ends

    monkeypatch.setattr(program, "told_to_end", told_to_end)
    assert program.run_passes(paced, 60, False, False) == 0
    return found


def test_it_keeps_its_pace(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = program.PassError("unreachable")
    assert waits(program, monkeypatch, None, stop, stop, None) == [60] * 4


def test_it_backs_off_when_authentik_says_429(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(seconds: int) -> Exception:
        error: Exception = program.PassError("429", seconds)
        return error

    ends = [busy(0), busy(0), busy(700), busy(0), busy(0), busy(0), busy(9999), None, busy(7)]
    assert waits(program, monkeypatch, *ends) == [
        120, 240, 700, 1400, 2800, 3600, 3600, 60, 120,
    ]  # fmt: skip


def test_an_unexpected_exception_ends_one_pass_and_its_text_is_not_logged(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert waits(program, monkeypatch, RuntimeError("a-secret-text"), None) == [60, 60]
    log = capfd.readouterr().err
    assert "level=ERROR event=bug error=RuntimeError at=" in log
    assert "a-secret-text" not in log


def test_a_pass_has_an_end(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, run: Passes, proxy: Ask, api: Api
) -> None:
    monkeypatch.setattr(program, "PASS_SECONDS", -1)
    env = run.environ(UGOS_AUTH_PROXY_URL=proxy(GONE).url)
    sync = program.Sync(program.Settings(env))
    with pytest.raises(program.PassError, match="the pass has taken too long"):
        sync.run()
    assert not api.asked


# --- Settings ------------------------------------------------------------------------------------

GOOD = {
    "AUTHENTIK_URL": "http://127.0.0.1:9",
    "AUTHENTIK_TOKEN": "a-token-of-authentik-s",
    "UGOS_AUTH_PROXY_URL": "http://127.0.0.1:9",
}
URLS = [
    "nas:8080",
    "ftp://nas",
    "http://",
    "http://nas:port",
    "http://u:secret-word@nas",
    "http:nas",
]
URLS += ["http://nas:99999", "http://nas?x=1", "http://nas#x", "http://n as", "https://[::1"]
BAD_SETTINGS: dict[str, list[str]] = {
    "UGOS_AUTH_PROXY_URL": URLS,
    "AUTHENTIK_URL": ["", *URLS],
    "UGOS_AUTH_PROXY_TOKEN": ["short", "with a blank in it", "t\u00f6ken-of-some-length"],
    "AUTHENTIK_TOKEN": ["", "short", "with a blank in it"],
    "UGOS_AUTH_PROXY_TOKEN_FILE": ["/no/such/file", "/"],
    "AUTHENTIK_TOKEN_FILE": ["/no/such/file", "/dev/null"],
    "UGOS_AUTH_PROXY_CA": ["/no/such/file", "/dev/null"],
    "AUTHENTIK_CA": ["/no/such/file", "/dev/null"],
    "INTERVAL": ["0", "9", "86401", "-60", "1.5", "60s", "\u0661\u0662", "1_0"],
    "LOG_LEVEL": ["debug", "LOUD"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_SETTINGS.items() for value in values]
)
def test_a_bad_setting_stops_the_start_with_a_line_that_names_it(name: str, value: str) -> None:
    done = Passes(GOOD)(**{name: value})
    assert done.status == 2
    assert len(done.log.splitlines()) == 1
    assert done.log.startswith(f"ugos-authentik-sync: {name}")
    assert "secret-word" not in done.log


@pytest.mark.parametrize("name", ["UGOS_AUTH_PROXY_TOKEN", "AUTHENTIK_TOKEN"])
def test_a_token_is_set_once(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(keep_secret("a-token-in-a-file-of-the-tests"))
    done = Passes({**GOOD, name: keep_secret("a-token-in-the-environment")})(
        **{f"{name}_FILE": str(file)}
    )
    assert (done.status, f"{name} and {name}_FILE: set only one" in done.log) == (2, True)


def test_empty_settings_count_as_unset(program: ModuleType) -> None:
    settings = program.Settings({**GOOD, "INTERVAL": "", "UGOS_AUTH_PROXY_URL": ""})
    assert settings.interval == 60
    assert settings.ugos_auth_proxy_url.geturl() == "http://127.0.0.1:8080"


def test_it_says_its_version_and_its_settings(program: ModuleType, capsys: Any) -> None:
    assert program.__version__ == main.__version__
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ugos-authentik-sync {main.__version__}\n"
    assert program.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {setting.name} " in said for setting in program.SETTINGS)
    assert program.main(["--twice"]) == 2
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
