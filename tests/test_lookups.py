"""Look-ups of accounts that hang, as when a source of NSS is gone: each costs its own request."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from etc import Etc, right
from service import Response, Service, Start


@pytest.fixture
def hanging(start: Start, etc: Etc) -> Iterator[Service]:
    """A service whose NSS has a source that can be made to hang; see nss_hang.c."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler: apt install gcc libc6-dev")
    library, source = etc.path / "libnss_hang.so.2", Path(__file__).with_name("nss_hang.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    etc.replace("nsswitch.conf", "passwd: files hang\ngroup: files hang\nshadow: files\n")
    yield start(LD_LIBRARY_PATH="/etc")
    for file in etc.path.glob("hang-*"):
        file.unlink()


def hang(service: Service, what: str) -> None:
    (service.etc.path / f"hang-{what}").touch()


def go_on(service: Service, what: str) -> None:
    (service.etc.path / f"hang-{what}").unlink()


def ask(threads: ThreadPoolExecutor, service: Service, number: int) -> list[Future[Response]]:
    """So many logins of names whose look-up hangs."""
    names = [f"hang{n}" for n in range(number)]
    return [threads.submit(service.validate, name, right("des")) for name in names]


def test_a_look_up_that_hangs_is_503_after_10_seconds_and_costs_only_itself(
    hanging: Service,
) -> None:
    hang(hanging, "passwd")
    with ThreadPoolExecutor(8) as threads:
        began = time.monotonic()
        asked = ask(threads, hanging, 6)
        while not asked[0].done():
            assert hanging.validate("des", right("des")).json["valid"] is True
            assert hanging.request("GET", "/health").status == 200
        for answer in (each.result() for each in asked):
            assert (answer.status, answer.json["valid"]) == (503, False)
            assert int(answer.headers["Retry-After"]) > 0
        assert 10 <= time.monotonic() - began < 20
        hanging.wait_for_log("level=ERROR event=verdict user=hang0 .* result=error reason=HANG")
        began = time.monotonic()
        assert hanging.stop() == 0, "stopping does not wait for them"
        assert time.monotonic() - began < 8


def test_while_eight_look_ups_hang_others_are_503_and_when_they_end_all_is_well(
    hanging: Service,
) -> None:
    hang(hanging, "passwd")
    with ThreadPoolExecutor(16) as threads:
        asked = ask(threads, hanging, 8)
        waits = threads.submit(hanging.validate, "hang9", right("des"))
        assert waits.result().status == 503, "it waits 4 seconds for its turn"
        assert [each.result().status for each in asked] == [503] * 8
        began = time.monotonic()
        for answer in (
            hanging.validate("des", right("des")),
            hanging.request("GET", "/user-info?username=des"),
            hanging.request("GET", "/ready"),
        ):
            assert answer.status == 503
            assert "hang" in answer.json["error"]
        assert time.monotonic() - began < 4, "nobody waits for a turn that cannot come"
        assert hanging.request("GET", "/health").status == 200
        go_on(hanging, "passwd")
        deadline = time.monotonic() + 60
        while hanging.validate("des", right("des")).status == 503:
            assert time.monotonic() < deadline
        assert hanging.request("GET", "/ready").status == 200


@pytest.mark.parametrize(
    ("what", "path"), [("group", "/user-info?username=jane.doe"), ("list", "/ready")]
)
def test_python_s_own_lock_is_not_held_by_a_look_up_that_hangs(
    hanging: Service, what: str, path: str
) -> None:
    """os.getgrouplist and pwd.getpwall would stop all threads."""
    hang(hanging, what)
    if what == "list":  # which is read to its end where nobody is served
        passwd = hanging.etc.read("passwd")
        rows = [row for row in passwd.splitlines() if row.startswith(("root:", "system:"))]
        hanging.etc.replace("passwd", "\n".join(rows) + "\n")
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(hanging.request, "GET", path)
        answered = 0
        while not asked.done():
            assert hanging.request("GET", "/health").status == 200
            answered += 1
        assert asked.result().status == 503
        assert answered > 10
    if what == "list":
        hanging.etc.replace("passwd", passwd)
    go_on(hanging, what)
    deadline = time.monotonic() + 60
    while hanging.request("GET", path).status == 503:  # whoever asks now may share what hung
        assert time.monotonic() < deadline
    assert hanging.request("GET", path).status == 200
