"""GET /ready: it says ready when a login could succeed, and else what stands in the way and what to
do about it."""

import contextlib
import http.client
import itertools
import os
import re
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from etc import GROUPS, PLAIN, Etc, right
from service import BOUND, Response, Service, Start
from wire import HEALTH, Wire

READY = HEALTH.replace(b"health", b"ready")


def ready(service: Service) -> Response:
    return service.request("GET", "/ready")


def assert_not_ready(service: Service, *named: str) -> None:
    """It says not ready, in a text that names all of `named`; /health is not concerned."""
    response = ready(service)
    assert response.status == 503
    assert response.json == {"status": "not ready", "error": response.json["error"]}
    assert int(response.headers["Retry-After"]) > 0
    for name in named:
        assert name in response.json["error"]
    assert service.request("GET", "/health").status == 200


def test_a_service_that_can_log_somebody_in_is_ready(service: Service) -> None:
    response = ready(service)
    assert (response.status, response.json) == (200, {"status": "ready"})


def test_readiness_needs_no_token(start: Start) -> None:
    service = start(AUTH_TOKEN="a-token-of-the-tests")
    assert ready(service).status == 200
    assert service.request("GET", "/health").status == 200


def test_health_is_told_whole(service: Service) -> None:
    response = service.request("GET", "/health")
    assert response.json == {"status": "healthy", "service": "ugos-auth-proxy", "version": "0.2.0"}


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_head_has_the_headers_of_get_and_no_body(service: Service, path: str) -> None:
    got, head = service.request("GET", path), service.request("HEAD", path)
    assert (head.status, head.raw) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.raw))


def test_a_stack_with_nullok_and_delay_is_ready_at_once(start: Start) -> None:
    assert ready(start(PAM_SERVICE="debian")).status == 200


def test_readiness_is_no_failed_login_of_anybody(start: Start) -> None:
    service = start(MAX_FAILURES=1)
    for _ in range(5):
        assert ready(service).status == 200
    for name in ("sha512", "des", "jane.doe"):
        assert service.validate(name, right(name)).json["valid"] is True


@pytest.mark.parametrize("filename", ["passwd", "shadow", "group"])
def test_a_missing_file_is_named(start: Start, etc: Etc, filename: str) -> None:
    service = start()
    text = etc.read(filename)
    (etc.path / filename).unlink()
    assert_not_ready(service, f"/etc/{filename}")
    etc.replace(filename, text)
    assert ready(service).status == 200


@pytest.mark.parametrize("filename", ["passwd", "shadow", "group"])
def test_an_empty_file_is_named(start: Start, etc: Etc, filename: str) -> None:
    service = start()
    etc.replace(filename, "")
    assert_not_ready(service, f"/etc/{filename}")


def test_a_shadow_file_for_its_group_only_names_the_group_that_helps(start: Start) -> None:
    service = start(user=65534, groups=[100])
    assert_not_ready(
        service, "/etc/shadow", "gid 42", "uid 65534", "100", "RUN_AS=65534:42 in .env"
    )


def test_a_shadow_file_for_root_only_names_the_user_that_helps(start: Start, etc: Etc) -> None:
    service = start(user=65534, groups=[42])
    assert ready(service).status == 200
    (etc.path / "shadow").chmod(0o600)
    assert_not_ready(service, "/etc/shadow", "uid 0", "uid 65534", "RUN_AS=0:42 in .env")


@pytest.mark.parametrize("filename", ["passwd", "group"])
def test_a_file_that_this_user_may_not_read_is_named(start: Start, etc: Etc, filename: str) -> None:
    service = start(user=65534, groups=[42])
    (etc.path / filename).chmod(0o600)
    assert_not_ready(service, f"/etc/{filename}")


@pytest.mark.parametrize(
    "setting",
    [{"MIN_UID": 40000}, {"MIN_UID": 1, "MAX_UID": 100}, {"ALLOWED_GROUPS": "nogroup,not there"}],
)
def test_without_a_served_account_it_is_not_ready(start: Start, setting: dict[str, object]) -> None:
    assert_not_ready(start(**setting), "account", *setting)


def test_an_account_by_primary_group_or_by_membership_is_enough(start: Start) -> None:
    assert ready(start(ALLOWED_GROUPS="admin")).status == 200
    assert ready(start(ALLOWED_GROUPS="media team")).status == 200


@pytest.mark.parametrize(
    ("phase", "control"),
    [*itertools.product(("auth", "account"), ("required", "requisite")), ("auth", "sufficient")],
)
def test_a_missing_module_in_either_phase_is_not_ready(
    start: Start, etc: Etc, phase: str, control: str
) -> None:
    service = start()
    other = "account" if phase == "auth" else "auth"
    etc.pam(
        "ugos-auth-proxy", f"{phase} {control} pam_not_there.so\n{other} required pam_unix.so\n"
    )
    assert_not_ready(service, "PAM")
    etc.pam("ugos-auth-proxy", PLAIN)
    assert ready(service).status == 200


def test_no_service_file_and_no_other_is_not_ready(start: Start, etc: Etc) -> None:
    service = start()
    (etc.path / "pam.d/other").unlink()
    (etc.path / "pam.d/ugos-auth-proxy").unlink()
    assert_not_ready(service, "PAM")
    assert service.validate("des", right("des")).status == 503


# --- one question for all ----------------------------------------------------------------------


class Probes:
    """A stack that counts the questions of /ready, and holds each until it is let go."""

    def __init__(self, etc: Etc) -> None:
        for fifo in ("asked", "go"):
            os.mkfifo(etc.path / fifo)
        held = "{ echo x >/etc/asked; read line </etc/go; }"
        etc.script("hold", f'[ "$PAM_RHOST" != localhost ] || {held}\n')
        etc.pam("ugos-auth-proxy", PLAIN + "account required pam_exec.so quiet /etc/hold\n")
        self.asked = os.open(etc.path / "asked", os.O_RDWR)
        self.go = os.open(etc.path / "go", os.O_RDWR)
        self.threads = ThreadPoolExecutor(64)

    def begun(self, timeout: float = BOUND) -> bool:
        """Whether one more begins; waits for it."""
        if not select.select([self.asked], [], [], timeout)[0]:
            return False
        assert os.read(self.asked, 2) == b"x\n"
        return True

    def release(self, number: int = 1) -> None:
        os.write(self.go, b"\n" * number)


@pytest.fixture
def probes(etc: Etc) -> Iterator[Probes]:
    probes = Probes(etc)
    yield probes
    probes.release(100)
    probes.threads.shutdown()
    os.close(probes.asked)
    os.close(probes.go)


def test_however_many_ask_there_is_one_probe_and_all_get_its_answer(
    start: Start, probes: Probes
) -> None:
    service = start()
    first = probes.threads.submit(ready, service)
    assert probes.begun()
    wires = [Wire(service).send(READY) for _ in range(20)]
    for _ in range(20):  # so that they have come
        assert service.request("GET", "/health").status == 200
    assert service.validate("des", right("des")).json["valid"] is True
    probes.release()
    assert [wire.answer().status for wire in wires] == [200] * 20
    assert first.result().status == 200
    assert not probes.begun(0.1)
    for wire in wires:
        wire.close()
    again = probes.threads.submit(ready, service)
    assert probes.begun(), "the next one is asked anew"
    probes.release()
    assert again.result().status == 200


def test_what_keeps_a_probe_from_an_answer_is_told_to_all_who_follow(
    start: Start, etc: Etc, probes: Probes
) -> None:
    service = start()
    first = probes.threads.submit(ready, service)
    assert probes.begun()
    with Wire(service) as wire:
        wire.send(READY)
        for _ in range(20):
            assert service.request("GET", "/health").status == 200
        answers = first.result(), wire.answer()  # it hangs for 10 seconds
    for answer in answers:
        assert (answer.status, answer.json["status"]) == (503, "not ready")
        assert "hang" in answer.json["error"]


def test_one_that_only_waits_for_another_s_answer_makes_room(start: Start, probes: Probes) -> None:
    service = start(MAX_CONNECTIONS=3)
    with Wire(service) as leads, Wire(service) as follows, Wire(service) as second:
        leads.send(READY)
        assert probes.begun()
        follows.send(READY)
        second.send(READY)
        for _ in range(5):
            assert service.validate("des", right("des")).json["valid"] is True
        closed, _, _ = select.select((follows.socket, second.socket), (), (), BOUND)
        assert [each.recv(1) for each in closed] in ([b""], [b"", b""])
        probes.release()
        assert leads.answer().status == 200


@pytest.mark.alone
def test_right_logins_come_through_beside_a_flood_of_ready(start: Start) -> None:
    service = start(MAX_CONNECTIONS=64, LOG_LEVEL="ERROR")
    over = threading.Event()

    def flood(_: int) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, AssertionError), Wire(service) as wire:
                while not over.is_set():
                    wire.send(READY).file.readline()
                    http.client.parse_headers(wire.file)
                    wire.file.readline()

    with ThreadPoolExecutor(100) as threads:
        running = [threads.submit(flood, n) for n in range(100)]
        try:
            for _ in range(30):
                assert service.validate("des", right("des")).json["valid"] is True
        finally:
            over.set()
        assert all(each.exception() is None for each in running)


def test_a_probe_leaves_no_line_in_the_system_s_log(start: Start, etc: Etc) -> None:
    """pam_unix writes of an unknown user; the log is at /dev/log, here a socket of the test."""
    if os.geteuid():
        pytest.skip("needs root to have a /dev of its own")
    nodes = "null zero urandom random full tty".split()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(etc.path / "log"))
        bound = "; ".join(
            f"touch /mnt/{node}; mount --bind /dev/{node} /mnt/{node}" for node in nodes
        )
        service = start(
            before=f"mount -t tmpfs tmpfs /mnt; {bound}; touch /mnt/log; "
            "mount --bind /etc/log /mnt/log; ln -s /proc/self/fd /mnt/fd; mount --move /mnt /dev;"
        )
        for _ in range(3):
            assert ready(service).status == 200
        assert service.request("GET", "/user-info?username=des").json["active"] is True
        assert not select.select([log], [], [], 0)[0], log.recv(4096)
        service.validate("no.such.user", "x")
        assert b"authentication failure" in log.recv(4096) + log.recv(4096)


def test_the_account_that_is_asked_about_is_one_that_could_log_in(start: Start, etc: Etc) -> None:
    """Of one that has expired, pam_unix would write a line at every probe."""
    etc.script("who", "echo $PAM_USER >>/etc/asked\n")
    etc.pam("ugos-auth-proxy", PLAIN + "account required pam_exec.so quiet /etc/who\n")
    names = {f"sha512{case}": Etc.passwd_row for case in (".locked", ".expired", "")}
    rows = [row for row in etc.read("passwd").splitlines() if row.split(":")[0] in names]
    etc.replace("passwd", "\n".join(sorted(rows, reverse=True)) + "\n")
    assert ready(start()).status == 200
    assert etc.read("asked") == "sha512\n"


# --- single-file mounts ------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Etc:
    """The host's /etc, of which single files are mounted."""
    return Etc(tmp_path / "host")


def mount(source: Path, target: str) -> str:
    return f"mount --bind '{source}' {target};"


def assert_stale(service: Service, path: str) -> None:
    assert_not_ready(service, path, "restart", "directory")
    login = service.validate("des", right("des"))
    assert (login.status, login.json["valid"]) == (503, False)
    info = service.request("GET", "/user-info?username=des")
    assert (info.status, info.json["exists"]) == (503, False)
    assert int(info.headers["Retry-After"]) > 0


@pytest.mark.parametrize("filename", ["passwd", "shadow", "group"])
def test_a_mounted_file_is_warned_of_and_stale_when_the_host_replaces_it(
    start: Start, host: Etc, filename: str
) -> None:
    service = start(before=mount(host.path / filename, f"/etc/{filename}"))
    warnings = [line for line in service.log_lines() if "level=WARNING" in line]
    assert [
        line for line in warnings if f"/etc/{filename}" in line and "directory" in line
    ] == warnings
    assert len(warnings) == 1
    assert ready(service).status == 200
    assert service.validate("des", right("des")).json["valid"] is True
    host.replace(filename, host.read(filename))
    assert_stale(service, f"/etc/{filename}")


def test_a_mounted_file_is_stale_although_a_hard_link_keeps_it(start: Start, host: Etc) -> None:
    service = start(before=mount(host.path / "shadow", "/etc/shadow"))
    os.link(host.path / "shadow", host.path / "shadow-")
    host.set_password("des", "a-new-password")
    assert (host.path / "shadow-").stat().st_nlink == 1
    assert_stale(service, "/etc/shadow")


def test_a_mounted_file_that_the_host_removes_is_stale(start: Start, host: Etc) -> None:
    service = start(before=mount(host.path / "group", "/etc/group"))
    (host.path / "group").unlink()
    assert_stale(service, "/etc/group")


def test_a_mounted_file_that_is_written_in_place_stays_live(start: Start, host: Etc) -> None:
    service = start(before=mount(host.path / "group", "/etc/group"))
    (host.path / "group").write_text(GROUPS.replace("docker:x:121:", "docker:x:121:des,"))
    assert ready(service).status == 200
    assert service.request("GET", "/user-info?username=des").json["groups"] == ["users", "docker"]


def test_links_into_a_mounted_directory_are_live(start: Start, etc: Etc, host: Etc) -> None:
    for name in ("passwd", "shadow", "group"):
        (etc.path / name).unlink()
        (etc.path / name).symlink_to(f"/mnt/{name}")
    service = start(before=mount(host.path, "/mnt"))
    assert not [line for line in service.log_lines() if "level=WARNING" in line]
    assert ready(service).status == 200
    host.set_password("des", "a-new-password")
    assert service.validate("des", "a-new-password").json["valid"] is True
    assert service.validate("des", right("des")).json["valid"] is False


def test_a_mounted_file_behind_a_link_is_stale_when_it_is_replaced(
    start: Start, etc: Etc, host: Etc
) -> None:
    (etc.path / "shadow").unlink()
    (etc.path / "shadow").symlink_to("/mnt/shadow")
    (host.path / "shadow2").write_text(host.read("shadow"))
    service = start(before=mount(host.path, "/mnt") + mount(host.path / "shadow2", "/mnt/shadow"))
    assert service.validate("des", right("des")).json["valid"] is True
    host.replace("shadow2", host.read("shadow"))
    assert_stale(service, "/etc/shadow")


def test_no_error_text_names_what_a_module_is_called_in_the_log_only(
    start: Start, etc: Etc
) -> None:
    """The text of /ready goes to everybody: it names files, ids and PAM's code, but no account."""
    service = start()
    etc.pam("ugos-auth-proxy", PLAIN + "account required pam_not_there.so\n")
    text = ready(service).json["error"]
    assert re.search(r"PAM_[A-Z_]+", text)
    assert not [name for name in ("sha512", "jane.doe", "des.") if name in text]
