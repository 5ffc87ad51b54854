"""authserver group and authserver permissions."""

import pytest

from authserver.accounts.models import Group, Permission, User
from authserver.accounts.permissions import permissions_of
from authserver.audit.models import Event
from tests.command_line import done, run

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna() -> User:
    done("user", "create", "anna", "Anna")
    done("group", "create", "family")
    done("permissions", "create", "--name", "Read the wiki", "wiki:read")
    done("permissions", "create", "--name", "Write the wiki", "wiki:write")
    return User.objects.get()


def test_a_group_is_made_once_and_removed_once() -> None:
    for _ in range(2):
        done("group", "create", "family")
    (row,) = done("group", "list", "--format", "json").json
    assert row == {"name": "family", "id": Group.objects.get().pk}
    done("group", "remove", "family")
    assert run("group", "remove", "family").status == 1
    assert done("group", "list", "-f", "json").json == []


def test_a_group_is_removed_by_its_id() -> None:
    done("group", "create", "family")
    done("group", "remove", str(Group.objects.get().pk))
    assert not Group.objects.exists()


def test_a_list_of_an_unknown_group_is_1() -> None:
    assert run("group", "list", "nobody").status == 1
    assert run("permissions", "list", "no:thing").status == 1


@pytest.mark.parametrize("name", ["", " family", "fam\nily", "x" * 151])
def test_a_group_name_that_cannot_be_is_refused(name: str) -> None:
    assert run("group", "create", name).status == 1


def test_a_permission_is_made_once() -> None:
    for _ in range(2):
        done("permissions", "create", "--name", "Read", "wiki:read")
    assert run("permissions", "create", "--name", "Other", "wiki:read").status == 1
    (row,) = done("permissions", "list", "--format", "json").json
    permission = Permission.objects.get()
    assert row == {"permission_name": "wiki:read", "name": "Read", "id": permission.pk}
    done("permissions", "remove", "wiki:read")
    assert run("permissions", "remove", "wiki:read").status == 1


@pytest.mark.parametrize("name", ["openid", "groups", "a,b", "a b", 'a"b', "a\\b", "ä", ""])
def test_a_permission_that_cannot_be_a_scope_is_refused(name: str) -> None:
    assert run("permissions", "create", "--name", "X", name).status == 1


def test_permissions_are_found_by_texts(anna: User) -> None:
    rows = done("permissions", "list", "-f", "json", "--filter-permission", "write").json
    assert [row["permission_name"] for row in rows] == ["wiki:write"]
    rows = done("permissions", "list", "-f", "json", "--filter-name", "read the").json
    assert [row["permission_name"] for row in rows] == ["wiki:read"]


def test_a_user_holds_what_he_was_granted_himself_or_by_a_group(anna: User) -> None:
    for _ in range(2):
        done("permissions", "grant", "user", "anna", "wiki:read")
        done("permissions", "grant", "group", "family", "wiki:write", "wiki:read")
        done("permissions", "grant", "membership", "anna", "family")
    assert permissions_of(anna) == {"wiki:read", "wiki:write"}
    (row,) = done("permissions", "show", "user", "--format", "json", "anna").json
    assert list(row) == ["permission_name", "name", "id"]
    rows = done("permissions", "show", "group", "-f", "json", "family").json
    assert [row["permission_name"] for row in rows] == ["wiki:read", "wiki:write"]
    (row,) = done("permissions", "show", "membership", "-f", "json", "anna").json
    assert row == {"name": "family", "id": Group.objects.get().pk}
    for _ in range(2):  # the second time nothing has to change
        done("permissions", "revoke", "user", "anna", "wiki:read")
        done("permissions", "revoke", "group", "family", "wiki:read")
    assert permissions_of(anna) == {"wiki:write"}
    done("permissions", "revoke", "membership", "anna", "family")
    assert permissions_of(anna) == set()


def test_all_are_revoked_at_once(anna: User) -> None:
    done("permissions", "grant", "user", "anna", "wiki:read", "wiki:write")
    done("permissions", "grant", "membership", "anna", "family")
    done("permissions", "revoke", "user", "--all", "anna")
    done("permissions", "revoke", "membership", "anna", "--all")
    assert not anna.permissions.exists()
    assert not anna.groups.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("grant", "user", "nobody", "wiki:read"),
        ("grant", "user", "anna", "wiki:read", "no:thing"),
        ("grant", "group", "nobody", "wiki:read"),
        ("grant", "membership", "anna", "family", "nobody"),
        ("revoke", "user", "anna", "no:thing"),
        ("revoke", "membership", "anna", "nobody"),
        ("show", "user", "nobody"),
        ("show", "group", "nobody"),
    ],
)
def test_what_is_not_there_is_1_and_changes_nothing(anna: User, arguments: tuple[str, ...]) -> None:
    assert run("permissions", *arguments).status == 1
    assert not anna.permissions.exists()
    assert not anna.groups.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("create", "x:y"),
        ("grant",),
        ("grant", "user"),
        ("grant", "user", "anna"),
        ("revoke", "user", "anna"),
        ("revoke", "user", "anna", "wiki:read", "--all"),
        ("show", "nosuch", "anna"),
    ],
)
def test_misuse_is_2(anna: User, arguments: tuple[str, ...]) -> None:
    assert run("permissions", *arguments).status == 2


def test_each_change_is_in_the_audit_log_once(anna: User) -> None:
    for _ in range(2):
        done("permissions", "grant", "user", "anna", "wiki:read")
    event = Event.objects.get(kind="permission.granted")
    assert event.subject == "anna"
    assert event.details == {"permissions": ["wiki:read"]}
