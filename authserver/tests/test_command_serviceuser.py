"""authserver serviceuser."""

import hashlib

import pytest

from authserver.accounts.models import ServiceUser, User
from tests.command_line import done, run
from tests.processes import keep_secret

pytestmark = pytest.mark.django_db
KEYS = ["id", "username", "description", "user_identifier", "user_uuid", "last_used"]


@pytest.fixture(autouse=True)
def anna() -> User:
    done("user", "create", "anna", "Anna")
    return User.objects.get()


def test_its_password_is_alone_on_stdout_and_its_name_on_stderr() -> None:
    result = done("serviceuser", "create", "--user", "anna", "--description", "scanner")
    password = keep_secret(result.out.strip())
    service = ServiceUser.objects.get()
    assert result.out == f"{password}\n"
    assert result.err == f"{service.username}\n"
    assert hashlib.sha256(password.encode()).hexdigest() == service.digest


def test_each_has_another_password_of_at_least_160_random_bits() -> None:
    made = [done("serviceuser", "create", "-u", "anna").out.strip() for _ in range(2)]
    assert made[0] != made[1]
    assert len(made[0].replace("-", "")) == 32  # of 5 bits each


def test_a_name_is_chosen_or_made_up() -> None:
    done("serviceuser", "create", "-u", "anna", "--username", "scanner")
    done("serviceuser", "create", "-u", "anna")
    rows = done("serviceuser", "list", "--format", "json", "-u", "anna").json
    assert [row["username"] for row in rows] == ["anna-1", "scanner"]


@pytest.mark.parametrize("name", ["anna", "ANNA", "scanner", "a b", "a@b"])
def test_a_name_that_exists_or_cannot_be_is_refused(name: str) -> None:
    done("serviceuser", "create", "-u", "anna", "--username", "scanner")
    result = run("serviceuser", "create", "-u", "anna", "--username", name)
    assert (result.status, result.out) == (1, "")


def test_a_password_of_ones_own_is_refused() -> None:
    result = run("serviceuser", "create", "-u", "anna", "--password", "mine")
    assert (result.status, result.out) == (1, "")
    assert "random" in result.err
    assert not ServiceUser.objects.exists()


def test_it_lists_shows_edits_and_removes(anna: User) -> None:
    done("serviceuser", "create", "-u", "anna", "--username", "scanner")
    (row,) = done("serviceuser", "show", "-f", "json", "Scanner").json
    assert list(row) == KEYS
    assert row["user_identifier"] == "anna"
    assert row["user_uuid"] == str(anna.pk)
    assert row["last_used"] is None
    done("serviceuser", "edit", "scanner", "--set-description", "x", "--set-username", "fax")
    assert done("serviceuser", "list", "-c", "FA", "-f", "json").json[0]["description"] == "x"
    assert run("serviceuser", "remove", "fax").status == 1
    done("serviceuser", "remove", "-y", "fax")
    assert run("serviceuser", "remove", "-y", "fax").status == 1


def test_what_is_not_there_is_1_and_misuse_is_2() -> None:
    assert run("serviceuser", "create", "-u", "nobody").status == 1
    assert run("serviceuser", "list", "nobody").status == 1
    assert done("serviceuser", "list", "-u", "anna", "-f", "json").json == []
    for arguments in (("create",), ("show",), ("remove",), ("edit", "x"), ()):
        assert run("serviceuser", *arguments).status == 2
