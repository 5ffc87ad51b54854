"""The container of `docker compose up -d`: accounts, rights, limits, and what can be wrong."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from docker_engine import Engine
from etc import GROUPS, crypt, right
from proxy import Proxy, until
from secrecy import WRONG
from service import parallel

import main

pytest_plugins = ["proxy"]
pytestmark = pytest.mark.docker

YESCRYPT = "$y$j9T$saltsaltsaltsaltsalt.."  # Debian's own cost


def test_up_health_ready_and_logins(proxy: Proxy) -> None:
    proxy.up()
    assert proxy.ask("GET", "/health") == (
        200, {"status": "healthy", "service": "ugos-auth-proxy", "version": main.__version__}
    )  # fmt: skip
    assert proxy.ask("GET", "/ready") == (200, {"status": "ready"})
    for scheme in ("sha512", "yescrypt"):
        assert proxy.login(scheme, right(scheme)) == {"valid": True, "username": scheme}
        assert proxy.login(scheme, WRONG) == {"valid": False, "error": "Invalid credentials"}
    assert proxy.login("sha512.expired", right("sha512.expired")) == {
        "valid": False,
        "error": "Account expired",
    }
    assert not proxy.valid("nopassword", "x")


def test_changes_on_the_host_are_true_at_the_next_request(proxy: Proxy) -> None:
    proxy.up()
    assert proxy.valid("sha512", right("sha512"))
    proxy.etc.set_password("sha512", "the-new-one", "yescrypt")
    assert proxy.valid("sha512", "the-new-one")
    assert not proxy.valid("sha512", right("sha512"))

    assert not proxy.valid("newcomer", "welcome-2026")
    proxy.etc.add_user("newcomer", "welcome-2026", scheme="yescrypt")
    assert proxy.valid("newcomer", "welcome-2026")

    proxy.etc.lock("newcomer")
    assert not proxy.valid("newcomer", "welcome-2026")

    assert proxy.ask("GET", "/user-info?username=newcomer")[1]["groups"] == ["users"]
    proxy.etc.replace("group", GROUPS + "photos:x:400:newcomer\n")
    assert proxy.ask("GET", "/user-info?username=newcomer")[1]["groups"] == ["users", "photos"]


def test_a_directory_with_only_the_three_files_is_enough(proxy: Proxy, tmp_path: Path) -> None:
    """As the unit in deploy/host/ makes it."""
    (tmp_path / "copies").mkdir()

    def copy() -> None:
        for file in ("passwd", "shadow", "group"):
            subprocess.run(["cp", "-p", proxy.etc.path / file, tmp_path / "copies/new"], check=True)
            (tmp_path / "copies/new").rename(tmp_path / "copies" / file)

    copy()
    proxy.set(HOST_ETC=tmp_path / "copies")
    proxy.up()
    assert proxy.ask("GET", "/ready") == (200, {"status": "ready"})
    proxy.etc.set_password("sha512", "the-new-one")
    copy()
    assert proxy.valid("sha512", "the-new-one")
    assert not proxy.valid("sha512", right("sha512"))


WRITABLE = """
import os
for folder, folders, files in os.walk("/"):
    if folder == "/proc" or folder == "/sys":
        folders.clear()
        continue
    try:
        open(folder + "/written", "x").close()
        print(folder)
    except OSError:
        pass
    for file in files:
        path = f"{folder}/{file}"
        if not path.startswith("/dev") and file != "written" and os.access(path, os.W_OK):
            print(path)
"""


@pytest.mark.parametrize("user", ["65534:42", "0:0"])
def test_it_can_write_nowhere_but_to_its_tmpfs(proxy: Proxy, user: str) -> None:
    proxy.set(RUN_AS=user)
    proxy.up()
    # /dev and /dev/mqueue are the engine's, in memory and gone with the container; only root owns
    # the former
    assert set(proxy.python(WRITABLE).split()) - {"/dev", "/dev/mqueue"} == {"/tmp"}
    assert not (proxy.etc.path / "written").exists()
    tmp = proxy.python("print(next(line for line in open('/proc/mounts') if ' /tmp ' in line))")
    assert re.match("tmpfs .*noexec.*size=1024k", tmp)


@pytest.mark.parametrize("user", ["65534:42", "0:0"])
def test_it_has_no_capability_and_gets_none(proxy: Proxy, user: str) -> None:
    proxy.set(RUN_AS=user)
    proxy.up()
    for pid in (proxy.pid(), int(proxy.inspect(".State.Pid"))):
        status = Path(f"/proc/{pid}/status").read_text()
        assert set(re.findall(r"(?m)^Cap\w+:\t(\w+)", status)) == {"0" * 16}
        assert "NoNewPrivs:\t1" in status
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)


def test_it_cannot_read_what_only_root_may(proxy: Proxy) -> None:
    proxy.etc.replace("key", "secret of the host", 0o600)
    proxy.up()
    assert "Permission denied" in proxy.python("print(open('/host/etc/key').read())", ok=False)


def test_the_log_is_rotated(proxy: Proxy) -> None:
    proxy.up()
    assert json.loads(proxy.inspect("json .HostConfig.LogConfig")) == {
        "Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}
    }  # fmt: skip


def test_as_many_connections_as_are_asked_for_have_threads(proxy: Proxy) -> None:
    proxy.set(MAX_CONNECTIONS=600, REQUEST_TIMEOUT=60)
    proxy.up()
    with contextlib.ExitStack() as opened:
        for _ in range(599):
            connection = socket.create_connection(("127.0.0.1", proxy.port), 10)
            opened.enter_context(connection)
            connection.sendall(b"GET /health HTTP/1.1\r\n")
        until(lambda: len(os.listdir(f"/proc/{proxy.pid()}/task")) > 599)
        assert proxy.valid("sha512", right("sha512"))


def test_stops_within_two_seconds(proxy: Proxy) -> None:
    proxy.up()
    container, began = proxy.container, time.monotonic()
    proxy.engine.docker("stop", container)
    took = time.monotonic() - began
    print(f"docker stop: {took:.2f} s")
    assert took < 2
    assert proxy.inspect(".State.ExitCode") == "0"


def test_killed_it_comes_back(proxy: Proxy) -> None:
    proxy.up()
    killed = proxy.pid()
    os.kill(killed, signal.SIGKILL)
    until(
        lambda: proxy.inspect(".RestartCount") == "1" and proxy.inspect(".State.Running") == "true"
    )
    proxy.reachable()
    assert proxy.pid() != killed
    assert proxy.valid("sha512", right("sha512"))


PEAKS = (
    "/sys/fs/cgroup/memory.peak",
    "/sys/fs/cgroup/memory/memory.max_usage_in_bytes",
)  # of cgroup v2 and v1


def test_16_yescrypt_logins_at_once_stay_below_the_memory_limit(proxy: Proxy) -> None:
    """On a NAS with 16 processors, all 16 are in PAM at the same time; so here, by what the service
    is told."""
    (proxy.folder / "sitecustomize.py").write_text(
        "import os\nos.sched_getaffinity = lambda _: set(range(16))\n"
    )
    (proxy.folder / "docker-compose.16.yml").write_text(
        "services: {ugos-auth-proxy: {volumes: ['./sitecustomize.py:/16/sitecustomize.py:ro'],"
        " environment: {PYTHONPATH: /16}}}"
    )
    proxy.set(COMPOSE_FILE="docker-compose.yml:docker-compose.16.yml")
    names = [f"user{number}" for number in range(16)]
    for name in names:
        proxy.etc.add_user(name, hashed=crypt(right(name), YESCRYPT))
    proxy.up()
    read = (
        "from pathlib import Path\n"
        f"print(*(Path(p).read_text() for p in {PEAKS} if Path(p).exists()))"
    )
    limit, idle = int(proxy.inspect(".HostConfig.Memory")), int(proxy.python(read))
    four_times = parallel(lambda name: all(proxy.valid(name, right(name)) for _ in range(4)), names)
    assert four_times == [True] * 16
    peak, mib = int(proxy.python(read)), 2**20
    print(
        f"memory: {idle / mib:.0f} MiB, with 16 logins {peak / mib:.0f} MiB, "
        f"of {limit / mib:.0f} MiB"
    )
    assert peak > 8 * 16 * mib, (
        "half of them were not in PAM at once; a busy machine sees fewer than all"
    )
    assert max(peak, idle + 16 * 16 * mib) < 0.8 * limit
    assert proxy.inspect(".State.OOMKilled") == "false"
    assert proxy.inspect(".RestartCount") == "0"


@pytest.mark.parametrize(
    ("mode", "owner", "line"),
    [
        (0o600, (0, 0), "RUN_AS=0:0"),
        (0o400, (0, 0), "RUN_AS=0:0"),
        (0o640, (0, 0), "RUN_AS=0:0"),
        (0o600, (0, 42), "RUN_AS=0:42"),
        (0o640, (0, 1234), "RUN_AS=65534:1234"),
    ],
)
def test_ready_names_the_line_that_lets_it_read_shadow(
    proxy: Proxy, mode: int, owner: tuple[int, int], line: str
) -> None:
    os.chown(proxy.etc.path / "shadow", *owner)
    (proxy.etc.path / "shadow").chmod(mode)
    proxy.up()
    status, answer = proxy.ask("GET", "/ready")
    assert status == 503
    assert f"{line} in .env" in answer["error"]
    assert (
        proxy.ask("POST", "/validate", {"username": "sha512", "password": right("sha512")})[0]
        == 503
    )
    proxy.set(RUN_AS=line.removeprefix("RUN_AS="))
    proxy.up()
    assert proxy.ask("GET", "/ready") == (200, {"status": "ready"})
    assert proxy.valid("sha512", right("sha512"))
    assert not proxy.valid("sha512", WRONG)


def test_a_missing_directory_refuses_to_start(proxy: Proxy, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    proxy.set(HOST_ETC=missing)
    assert f"bind source path does not exist: {missing}" in proxy.compose("up", "-d", ok=False)
    assert proxy.compose("ps", "--quiet") == ""
    assert not missing.exists()


def test_ready_tells_single_files_that_have_gone_stale(
    engine: Engine, run: Callable[..., str], proxy: Proxy
) -> None:
    mounts = [
        f"--volume={proxy.etc.path}/{file}:/host/etc/{file}:ro"
        for file in ("passwd", "shadow", "group")
    ]
    container = run(f"--publish=127.0.0.1:{proxy.port}:8080", *mounts)
    proxy.reachable()
    assert "event=single-file-mount" in engine.docker("logs", container)
    assert proxy.valid("sha512", right("sha512"))
    proxy.etc.set_password("sha512", "the-new-one")
    for password in (right("sha512"), "the-new-one"):
        assert (
            proxy.ask("POST", "/validate", {"username": "sha512", "password": password})[0] == 503
        )
    status, answer = proxy.ask("GET", "/ready")
    assert status == 503
    assert "the mount of /etc/shadow is stale" in answer["error"]
