"""GET /ready: it says ready when a login could succeed, and else what stands in the way and what to do about it."""

import itertools
import os
import re
from pathlib import Path

import pytest
from conftest import GROUPS, PLAIN, Etc, Response, Service, Start, right


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
