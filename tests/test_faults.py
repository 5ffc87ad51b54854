"""Faults of the system under the service, while logins go on: no answer is false, none is lost, and
all comes back.

Nor is the log: it has a line for each answer that has come, and for no other.
"""

import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from etc import PLAIN, Etc, right
from load import CLOSED, TRUE, UNAVAILABLE, Load, Question, await_quiet, await_that, mixed, opened
from secrecy import LOGGED, WRONG
from service import BOUND, CPUS, Service, Start
from test_connections import no_threads
from test_logging import LINE
from test_queue import Blocker
from wire import HEALTH, Wire

KINDS = ("right", "wrong", "unknown", "info")
ALL_TRUE, ALL_CLOSED = {(kind, TRUE) for kind in KINDS}, {(kind, CLOSED) for kind in KINDS}
# no name is told from another by a fault; of an account that exists, shadow says if it is active
NO_LOGINS = {(kind, UNAVAILABLE) for kind in ("right", "wrong", "unknown")} | {("info", TRUE)}
NO_SHADOW = NO_LOGINS | {("info", UNAVAILABLE)}


def logged(service: Service) -> int:
    """How many questions of a load its log says it has answered; a test's own come from
    127.0.0.2."""
    answered = re.compile("event=request client=127.0.0.1 .* path=/(validate|user)")
    return len([line for line in service.log_lines() if answered.search(line)])


@contextlib.contextmanager
def under_load(service: Service, questions: Iterable[Question] = ()) -> Iterator[Load]:
    """A load on the service, which is in order before, and must be again after."""
    asked = list(questions) or mixed(service)
    with Load(service, asked) as load:
        ordinary = load.next()
        assert {said for _, said in ordinary} == {TRUE}
    await_quiet(service, Wire(service))
    before, lines = opened(service), logged(service)
    with Load(service, asked) as load:
        assert load.next() == ordinary
        yield load
        assert load.next() == ordinary
    assert logged(service) == lines + load.answers(), (
        "an answer is missing in the log, or has not arrived"
    )
    await_quiet(service, Wire(service))
    await_that(lambda: opened(service) == before, "descriptors are left behind")


# --- The account files -------------------------------------------------------------------------


def test_a_shadow_file_that_cannot_be_read_for_a_while_is_503_until_it_can(
    start: Start, etc: Etc
) -> None:
    with under_load(start(user=65534, groups=[42])) as load:
        (etc.path / "shadow").chmod(0o600)
        assert load.next() == NO_SHADOW
        (etc.path / "shadow").chmod(0o640)


def test_a_shadow_file_that_is_away_for_a_while_is_503_until_it_is_back(
    start: Start, etc: Etc
) -> None:
    with under_load(start()) as load:
        (etc.path / "shadow").rename(etc.path / "away")
        assert load.next() == NO_SHADOW
        (etc.path / "away").rename(etc.path / "shadow")


def test_files_that_are_replaced_in_the_middle_of_reads_change_no_answer(
    start: Start, etc: Etc
) -> None:
    texts, over, turns = (
        {name: etc.read(name) for name in ("passwd", "shadow", "group")},
        threading.Event(),
        [0],
    )

    def replace() -> None:
        while not over.is_set():
            for name, text in texts.items():
                etc.replace(name, "#\n" * (turns[0] % 7) + text)
            turns[0] += 1

    with under_load(start()) as load:
        writer = threading.Thread(target=replace)
        writer.start()
        try:
            assert load.next(50) == ALL_TRUE
        finally:
            over.set()
            writer.join(BOUND)
    assert turns[0] > 50


# --- What the system has no more of ------------------------------------------------------------


def test_when_no_descriptor_is_left_nothing_false_is_said(start: Start) -> None:
    service = start()
    pid = service.process.pid
    with under_load(service) as load:
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (16, before[1]))
        service.wait_for_log("event=accept ")
        time.sleep(1)  # what is said meanwhile is judged at the end
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        await_that(lambda: load.next(1) == ALL_TRUE, "connections are still refused")


def test_without_threads_open_connections_go_on_and_new_ones_are_closed(start: Start) -> None:
    service = start()
    with under_load(service) as load, no_threads(service):
        assert load.next() == ALL_TRUE | ALL_CLOSED


def test_without_memory_nothing_false_is_said(start: Start) -> None:
    service = start(REQUEST_TIMEOUT=3)
    pid, limits = (
        service.process.pid,
        (2**20, resource.RLIM_INFINITY),
    )  # less than it has: not a page more
    with Load(service, mixed(service)) as load:
        load.next()
        before = resource.prlimit(pid, resource.RLIMIT_AS, limits)
        assert ("right", UNAVAILABLE) in load.next(1)
    # no login is under way: memory is looked for after PAM has refused one (SECURITY.md)
    resource.prlimit(pid, resource.RLIMIT_AS, before)
    with under_load(service) as load:
        assert load.next() == ALL_TRUE


# --- PAM ---------------------------------------------------------------------------------------


@pytest.fixture
def blocker(etc: Etc) -> Iterator[Blocker]:
    blocker = Blocker(etc, 1)
    yield blocker
    blocker.close()


def test_one_login_in_ten_that_hangs_costs_only_itself(start: Start, blocker: Blocker) -> None:
    service = start()
    with under_load(service) as load:
        hung = blocker.threads.submit(service.validate, "hang0", right("hang0"), "127.0.0.2")
        assert blocker.next_call() == "hang0"
        while not hung.done():
            assert load.next(1) == ALL_TRUE
        assert (hung.result().status, hung.result().json["valid"]) == (503, False)
        blocker.release()


def test_when_every_login_hangs_each_is_503_until_none_does(
    start: Start, etc: Etc, blocker: Blocker
) -> None:
    etc.script("hang", "echo $PAM_USER >/etc/calls; read line </etc/gate\n")
    etc.pam("ugos-auth-proxy", PLAIN)
    service = start()
    with under_load(service) as load:
        etc.pam("ugos-auth-proxy", "auth required pam_exec.so quiet /etc/hang\n" + PLAIN)
        assert all(blocker.next_call() for _ in CPUS), "a turn is free"
        assert load.next(1) <= NO_LOGINS | {("info", UNAVAILABLE)}
        etc.pam("ugos-auth-proxy", PLAIN)
        blocker.release(100)
        await_that(lambda: service.request("GET", "/ready").status == 200, "PAM hangs for ever")


def test_a_module_whose_helper_crashes_is_503_until_it_does_not(start: Start, etc: Etc) -> None:
    etc.script("crash", "kill -SEGV $$\n")
    with under_load(start()) as load:
        etc.pam("ugos-auth-proxy", "auth required pam_exec.so quiet /etc/crash\n" + PLAIN)
        assert load.next() == NO_LOGINS
        etc.pam("ugos-auth-proxy", PLAIN)


# --- The clock ---------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_clock_that_is_set_back_and_forth_changes_no_limit(start: Start, tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler: apt install gcc libc6-dev")
    library, clock, window = tmp_path / "clock.so", tmp_path / "clock", 4
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    clock.write_bytes(bytes(8))
    limits = {"MAX_FAILURES": 3, "FAILURE_WINDOW": window, "FAIL_DELAY": 0.3, "REQUEST_TIMEOUT": 60}
    service = start(LD_PRELOAD=library, CLOCK=clock, **limits)
    questions = [each for each in mixed(service) if each.kind in {"right", "info"}]
    days = {service.wait_for_log("event=start ")[:15]}
    with under_load(service, questions) as load, Wire(service) as idle:
        idle.send(HEALTH).answer()
        for offset in (86_400, -86_400):
            began = time.monotonic()
            for _ in range(3):
                assert service.validate("sha512", WRONG, "127.0.0.2").json["valid"] is False
            with clock.open("r+b") as file:
                file.write(offset.to_bytes(8, sys.byteorder, signed=True))
            asked = time.monotonic()
            refused = service.validate("sha512", right("sha512"), "127.0.0.2")
            assert refused.status == 429 or time.monotonic() > began + window
            assert time.monotonic() > asked + 0.3
            assert {said for _, said in load.next()} == {TRUE}
            days.add(service.log_lines()[-1][:15])
            time.sleep(max(0, asked + window - time.monotonic()))
            assert service.validate("sha512", right("sha512"), "127.0.0.2").json["valid"] is True
        assert idle.send(HEALTH).answer().status == 200
    assert len(days) == 3, "the clock was not set"


# --- The log -----------------------------------------------------------------------------------


def log_to(path: str, before: str = "") -> str:
    """For `before`: the log goes to `path`; the fixture, which reads the pipe, gets the line that
    it waits for."""
    return f"{before}echo 'event=start ' >&2; exec 3>&2 2>>{path};"


def test_a_full_disk_under_the_log_costs_lines_that_are_counted_and_nothing_else(
    start: Start,
) -> None:
    service = start(
        before=log_to("/mnt/log", "mount -t tmpfs -o size=256k tmpfs /mnt;"), LOG_LEVEL="INFO"
    )
    service.await_port()
    mounted = Path(f"/proc/{service.process.pid}/root/mnt")
    with Load(service, mixed(service)) as load:
        assert load.next() == ALL_TRUE
        with contextlib.suppress(OSError), open(mounted / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        assert load.next(50) == ALL_TRUE
        (mounted / "filler").unlink()
        assert load.next() == ALL_TRUE
    lines = (mounted / "log").read_text().splitlines()
    LOGGED.extend(lines)
    whole = [line for line in lines if LINE.fullmatch(line)]
    assert len(whole) >= len(lines) - 1, (
        "only the one that the disk had no more room for is not whole"
    )
    lost = sum(
        int(number) for number in re.findall(r" lost=(\d+)$", "\n".join(lines), re.MULTILINE)
    )
    assert lost > 0
    said = load.answers() + load.answers("right", "wrong", "unknown") + 2  # a start, a first answer
    assert 0 <= len(whole) + lost - said <= 1, "the line that was torn may look whole"


def test_a_log_pipe_that_is_closed_costs_lines_and_nothing_else(start: Start, etc: Etc) -> None:
    os.mkfifo(etc.path / "log")
    pipe = os.open(etc.path / "log", os.O_RDONLY | os.O_NONBLOCK)
    service = start(before=log_to("/etc/log"), LOG_LEVEL="INFO")
    service.await_port()
    with Load(service, mixed(service)) as load:
        assert load.next() == ALL_TRUE
        os.close(pipe)
        assert load.next() == ALL_TRUE
        pipe = os.open(etc.path / "log", os.O_RDONLY | os.O_NONBLOCK)
        log = os.read(pipe, 2**20)  # from before
        assert load.next() == ALL_TRUE
        log += os.read(pipe, 2**20)
    os.close(pipe)
    lines = log.decode().splitlines()
    LOGGED.extend(lines)
    assert re.search(r" lost=\d+\n", log.decode())
    assert all(LINE.fullmatch(line) for line in lines)


# --- The end -----------------------------------------------------------------------------------


def test_sigterm_under_load_answers_all_that_was_asked(start: Start) -> None:
    service = start(FAIL_DELAY=0.5)
    with Load(service, mixed(service)) as load:
        assert load.next(2) == ALL_TRUE
        service.process.terminate()
        assert service.process.wait(BOUND) == 0
    assert {each for client in load.clients for each in client.said} == {TRUE, CLOSED}
    await_that(lambda: service.ended, "something still holds its log")
    assert logged(service) == load.answers(), "an answer has not arrived"
    verdicts = [line for line in service.log_lines() if "event=verdict" in line]
    assert len(verdicts) == load.answers("right", "wrong", "unknown"), (
        "a refusal that was held has not arrived"
    )


def test_kill_9_costs_what_is_under_way_and_the_next_start_goes_on(start: Start) -> None:
    service = start()
    with Load(service, mixed(service)) as load:
        assert load.next() == ALL_TRUE
        service.process.kill()
        service.process.wait(BOUND)
        assert load.next(1) == ALL_CLOSED
        await_that(lambda: service.ended, "something still holds its log")
        again = start(PORT=service.port)
        assert load.next() == ALL_TRUE
        assert load.answers() <= logged(service) + logged(again)
    assert all(LINE.fullmatch(line) for line in service.log_lines())
