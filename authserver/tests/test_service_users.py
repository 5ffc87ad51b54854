"""Service users: a random password, shown once, good at the doors of programs only."""

import datetime
import hashlib
import subprocess

import bcrypt
import pytest
from django.utils import timezone

from authserver.accounts import service_users, users
from authserver.accounts.login import Credentials, LoginRefused, check_login
from authserver.accounts.models import ServiceUser
from authserver.waits import Results, Wait

pytestmark = pytest.mark.django_db


def made() -> tuple[ServiceUser, str]:
    owner = users.create_user("owner", "The Owner", "tests")
    return service_users.create_service_user(owner, "owner-mail", "mail", "tests")


def log_in(name: str, password: str) -> str:
    given = Credentials(name, password, "192.0.2.1", "tests")
    return check_login(given, Results(), service_users=True).identifier


def test_its_password_has_160_random_bits_and_two_are_never_the_same() -> None:
    passwords = {service_users.new_password() for _ in range(100)}
    assert len(passwords) == 100
    for password in passwords:
        letters = password.replace("-", "")
        assert len(letters) * 5 >= 160
        assert set(letters) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_it_is_kept_as_digest_and_crypt_hash_only() -> None:
    _service, password = made()
    row = ServiceUser.objects.values().get()
    assert password not in str(row)
    assert row["digest"] == hashlib.sha256(password.encode()).hexdigest()
    assert row["crypt"].startswith("$2b$")
    assert bcrypt.checkpw(password.encode(), row["crypt"].encode())


def test_its_crypt_hash_is_one_for_libcrypt() -> None:
    service, password = made()
    told = subprocess.run(
        ["perl", "-e", "print crypt($ARGV[0], $ARGV[1])", password, service.crypt],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == service.crypt


def test_it_comes_in_as_its_owner() -> None:
    _, password = made()
    assert log_in("Owner-MAIL", password) == "owner"


@pytest.mark.parametrize("wrong", ["", "wrong", "\ud800"])
def test_a_wrong_password_is_401(wrong: str) -> None:
    made()
    with pytest.raises(LoginRefused) as refused:
        log_in("owner-mail", wrong)
    assert refused.value.status == 401


def test_its_last_use_is_kept_to_the_hour() -> None:
    service, password = made()
    log_in("owner-mail", password)
    service.refresh_from_db()
    assert service.last_used
    assert service.last_used == service.last_used.replace(minute=0, second=0, microsecond=0)
    assert timezone.now() - service.last_used < datetime.timedelta(hours=1, minutes=1)


def test_it_ends_with_itself_and_with_its_owner() -> None:
    service, password = made()
    users.set_active(service.user, False, "tests")
    with pytest.raises(LoginRefused):
        log_in("owner-mail", password)
    users.set_active(service.user, True, "tests")
    assert log_in("owner-mail", password) == "owner"
    service_users.remove_service_user(service, "tests")
    with pytest.raises(Wait):  # a name that nobody has is looked at like any
        log_in("owner-mail", password)


def test_guesses_at_it_are_not_counted() -> None:
    _, password = made()
    for _ in range(30):
        with pytest.raises(LoginRefused) as refused:
            log_in("owner-mail", "wrong guess")
        assert refused.value.status == 401
    assert log_in("owner-mail", password) == "owner"


def test_a_free_name_is_nobody_s() -> None:
    service, _ = made()
    assert service_users.free_name(service.user) == "owner-1"
    users.create_user("OWNER-1", "", "tests")
    assert service_users.free_name(service.user) == "owner-2"
