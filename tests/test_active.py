"""`active` in GET /user-info: whether an account is locked or has expired, by shadow and by PAM."""

import os
import time
from collections.abc import Iterator

import pytest
from etc import ACCOUNTS, PLAIN, SALTS, Etc, crypt, right
from service import Response, Service, Start
from test_queue import Blocker

from main import HASHED

# The formats of libxcrypt 4.4, hashed here, or from its manual page where this build has none.
HASHES = {scheme: crypt("x", scheme) for scheme in SALTS} | {
    "gost-yescrypt": "$gy$j9T$" + "a" * 22 + "$" + "b" * 43,
    "scrypt": "$7$" + "C" * 11 + "/" * 3 + "$" + "b" * 43,
    "bcrypt": "$2y$10$" + "a" * 53,
    "sha512crypt": "$6$salt$" + "a" * 86,
    "sha256crypt": "$5$rounds=5000$salt$" + "a" * 43,
    "sha1crypt": "$sha1$40000$" + "a" * 8 + "$" + "b" * 40,
    "SunMD5": "$md5,rounds=5000$abcdefgh$$" + "a" * 22,
    "md5crypt": "$1$salt$" + "a" * 22,
    "bsdicrypt": "_" + "a" * 19,
    "bigcrypt": "a" * 24,
    "NT": "$3$$" + "0123456789abcdef" * 2,
}
LOCKS = ["", "!", "!!", "*", "!*", "*LK*", "NP", "x", "!" + HASHES["sha512"], "*" + HASHES["des"]]
LOCKS += ["$6$", "$6$salt$short", "$9$salt$" + "a" * 43, HASHES["sha512"] + "!", "a" * 12]


def info(service: Service, name: str) -> Response:
    return service.request("GET", f"/user-info?username={name}")


def is_active(service: Service, name: str) -> object:
    answer = info(service, name)
    assert (answer.status, answer.json["exists"]) == (200, True)
    return answer.json["active"]


@pytest.mark.parametrize("scheme", HASHES)
def test_a_field_that_crypt_5_names_is_no_lock(service: Service, scheme: str) -> None:
    service.etc.add_user(f"hashed.{scheme.lower()}", hashed=HASHES[scheme])
    assert is_active(service, f"hashed.{scheme.lower()}") is True


@pytest.mark.parametrize("field", LOCKS, ids=lambda field: repr(field[:12]))
def test_a_field_of_any_other_form_is_a_lock(service: Service, field: str) -> None:
    name = f"locked{LOCKS.index(field)}"
    service.etc.add_user(name, hashed=field)
    assert is_active(service, name) is False
    assert not HASHED.fullmatch(field.encode())


@pytest.mark.parametrize(
    ("case", "active"),
    [
        ("", True),
        (".locked", False),
        (".expired", False),
        (".mustchange", True),
        (".agedout", True),
    ],
)
@pytest.mark.parametrize("scheme", SALTS)
def test_a_password_that_has_expired_is_no_lock(
    service: Service, scheme: str, case: str, active: bool
) -> None:
    assert is_active(service, scheme + case) is active


def test_shadow_tells_an_expiry_that_pam_does_not(start: Start, etc: Etc) -> None:
    etc.pam("ugos-auth-proxy", "auth required pam_unix.so\naccount required pam_permit.so\n")
    service = start()
    assert is_active(service, "sha512.expired") is False
    assert is_active(service, "sha512") is True


def test_an_account_expires_on_its_day_and_not_before(service: Service) -> None:
    today = int(time.time()) // 86_400
    for days, active in ((-1, False), (0, False), (1, True)):
        aging = f"19000:0:99999:7::{today + days}:"
        service.etc.add_user(f"expires.{days}", "my-password", aging=aging)
        assert is_active(service, f"expires.{days}") is active


def test_a_lock_and_its_end_are_seen_by_the_next_request(service: Service) -> None:
    service.etc.add_user("lockable", "my-password")
    assert is_active(service, "lockable") is True
    service.etc.lock("lockable")
    assert is_active(service, "lockable") is False
    service.etc.set_hash("lockable", lambda hashed: hashed.lstrip("!"))
    assert is_active(service, "lockable") is True


def passwd_field(etc: Etc, name: str, field: str) -> None:
    etc.replace("passwd", etc.read("passwd").replace(f"\n{name}:x:", f"\n{name}:{field}:"))


def test_the_field_of_passwd_counts_where_it_is_not_x(service: Service) -> None:
    for name, field, active in (
        ("in.passwd", HASHES["des"], True),
        ("star.in.passwd", "*", False),
        ("none.in.passwd", "", False),
    ):
        service.etc.add_user(name, "my-password")
        passwd_field(service.etc, name, field)
        assert is_active(service, name) is active


def test_an_account_without_a_row_in_shadow_goes_by_pam_alone(start: Start, etc: Etc) -> None:
    shadow = etc.read("shadow")
    etc.add_user("elsewhere", "my-password")
    etc.replace("shadow", shadow)
    etc.pam("ugos-auth-proxy", PLAIN.replace("account required pam_unix.so", debug("success")))
    service = start()
    assert is_active(service, "elsewhere") is True
    etc.pam("ugos-auth-proxy", PLAIN.replace("account required pam_unix.so", debug("perm_denied")))
    assert is_active(service, "elsewhere") is False


def debug(code: str) -> str:
    return f"account [default=bad success=ok] pam_debug.so acct={code}"


@pytest.fixture
def stack_restored(service: Service) -> Iterator[None]:
    yield
    service.etc.pam("ugos-auth-proxy", PLAIN)


@pytest.mark.usefixtures("stack_restored")
@pytest.mark.parametrize(
    ("code", "active"),
    [
        ("success", True),
        ("new_authtok_reqd", True),
        ("authtok_expired", True),
        ("perm_denied", False),
        ("cred_insufficient", False),
        ("user_unknown", False),
        ("maxtries", False),
        ("acct_expired", False),
        ("auth_err", None),
        ("authinfo_unavail", None),
        ("service_err", None),
        ("abort", None),
    ],
)
def test_the_account_phase_of_pam_tells_where_shadow_does_not(
    service: Service, code: str, active: bool | None
) -> None:
    service.etc.pam("ugos-auth-proxy", "auth required pam_deny.so\n" + debug(code) + "\n")
    if active is not None:
        assert is_active(service, "des") is active
    else:
        answer = info(service, "des")
        assert (answer.status, answer.json["exists"]) == (503, False)
        assert int(answer.headers["Retry-After"]) > 0
        service.wait_for_log(f"level=ERROR event=request .* reason=PAM_{code.upper()}")
    assert is_active(service, "des.locked") is False, "PAM is asked only where shadow says nothing"


def test_shadow_that_cannot_be_read_is_503_and_not_a_lock(start: Start) -> None:
    answer = info(start(user=65534), "des")
    assert (answer.status, answer.json["exists"]) == (503, False)
    assert "/etc/shadow" in answer.json["error"]


def test_no_log_holds_a_field_of_shadow(service: Service) -> None:
    for name in ("des", "sha512", "des.locked"):
        info(service, name)
    fields = [row.hashed for row in ACCOUNTS.values() if len(row.hashed) > 4]
    assert not [line for line in service.log_lines() if any(each in line for each in fields)]


@pytest.fixture
def blocker(etc: Etc) -> Iterator[Blocker]:
    blocker = Blocker(etc, 4)
    block = "account required pam_exec.so quiet /etc/block\n"
    etc.pam("ugos-auth-proxy", "auth required pam_unix.so nodelay\n" + block)
    yield blocker
    blocker.close()


def test_one_question_at_a_time_is_asked_and_no_login_waits_for_it(
    start: Start, blocker: Blocker
) -> None:
    service = start()
    asked = [blocker.threads.submit(info, service, name) for name in blocker.names]
    assert blocker.next_call() in blocker.names
    for _ in range(5):
        assert service.validate("des", right("des")).json["valid"] is True
    assert blocker.next_call(0.1) == "", "a second question is asked at the same time"
    for _ in blocker.names[1:]:
        blocker.release()
        assert blocker.next_call() in blocker.names
    blocker.release()
    assert [each.result().json["active"] for each in asked] == [True] * len(asked)


def test_a_question_that_hangs_costs_itself_and_no_login(start: Start, blocker: Blocker) -> None:
    service = start()
    asked = blocker.threads.submit(info, service, blocker.names[0])
    assert blocker.next_call() == blocker.names[0]
    waits = blocker.threads.submit(info, service, "des")
    assert waits.result().status == 503, "it has 4 seconds to wait for its turn"
    assert asked.result().status == 503, "it has 10 seconds"
    assert is_active(service, "des") is True
    assert service.request("GET", "/ready").status == 200
    assert service.validate("des", right("des")).json["valid"] is True


def test_a_fifo_for_a_shadow_file_takes_its_request_with_it(start: Start, etc: Etc) -> None:
    """A file that never answers, as on a file system that is gone: only its own place is lost."""
    service = start()
    text = etc.read("shadow")
    (etc.path / "shadow").unlink()
    os.mkfifo(etc.path / "shadow")
    assert info(service, "des").status == 503
    assert service.request("GET", "/health").status == 200
    writer = os.open(etc.path / "shadow", os.O_WRONLY)
    os.close(writer)
    (etc.path / "shadow").unlink()
    etc.replace("shadow", text)
    assert is_active(service, "des") is True
