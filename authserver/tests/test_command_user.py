"""authserver user."""

import pytest
from django.conf import settings

from authserver.accounts import invitations, throttle
from authserver.accounts.models import EmailAlias, Refusal, User
from authserver.accounts.passwords import is_right
from authserver.audit.models import Event
from tests.command_line import done, run
from tests.processes import keep_secret

pytestmark = pytest.mark.django_db
PASSWORD = keep_secret("pass-word-of-anna")
KEYS = ["uuid", "identifier", "fullname", "delivery_mailbox", "is_active", "is_staff", "source"]


@pytest.fixture
def anna() -> User:
    done("user", "create", "anna", "Anna B", "--password-stdin", stdin=f"{PASSWORD}\n")
    return User.objects.get(identifier="anna")


def test_it_makes_an_administrator_with_a_password_from_stdin() -> None:
    result = done(
        "user", "create", "anna", "Anna B", "--staff", "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    user = User.objects.get(identifier="anna")
    assert user.is_staff
    assert is_right(PASSWORD, user.password)
    assert result.out == ""
    assert PASSWORD not in result.err


def test_it_takes_a_password_as_an_option_as_scripts_of_old_do() -> None:
    done("user", "create", "anna", "Anna B", "--password", PASSWORD)
    assert is_right(PASSWORD, User.objects.get().password)


def test_one_without_a_password_is_told_how_to_get_one() -> None:
    assert "user invite bob" in done("user", "create", "bob", "Bob").err
    assert not User.objects.get().has_usable_password()


def test_creating_the_same_again_is_done(anna: User) -> None:
    result = done("user", "create", "anna", "Anna B", "--password-stdin", stdin=PASSWORD)
    assert "exists already" in result.err
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("anna", "Another"), ""),
        (("anna", "Anna B", "--staff"), ""),
        (("anna", "Anna B", "--nas"), ""),
        (("ANNA", "Anna B"), ""),
        (("anna", "Anna B", "--password-stdin"), "another password"),
    ],
)
def test_creating_it_with_other_values_is_refused(
    anna: User, arguments: tuple[str, ...], stdin: str
) -> None:
    result = run("user", "create", *arguments, stdin=stdin)
    assert result.status == 1
    assert "exists already, with another" in result.err
    assert User.objects.get().fullname == "Anna B"


@pytest.mark.parametrize("name", ["a b", "a@b", "a/b", "a:b", "a,b", "", "x" * 151])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    assert run("user", "create", name, "Somebody").status == 1
    assert not User.objects.exists()


def test_a_password_that_is_too_short_is_refused() -> None:
    assert run("user", "create", "anna", "Anna", "--password-stdin", stdin="short").status == 1
    assert not User.objects.exists()


def test_no_password_on_stdin_is_refused() -> None:
    assert run("user", "create", "anna", "Anna", "--password-stdin").status == 1


def test_a_nas_account_has_no_password_here() -> None:
    done("user", "create", "nasman", "Nas Man", "--nas")
    assert User.objects.get().source == "nas"
    assert run("user", "create", "n2", "N", "--nas", "--password", PASSWORD).status == 2
    assert run("user", "edit", "nasman", "--set-password", PASSWORD).status == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("create",),
        ("create", "anna"),
        ("nosuch",),
        ("show",),
        ("list", "--format", "xml"),
        ("edit", "anna"),
        ("edit", "anna", "--set-staff", "--unset-staff"),
        ("edit", "anna", "--set-source", "ldap"),
        ("remove",),
        ("create", "a", "A", "--password", "x", "--password-stdin"),
    ],
)
def test_misuse_is_2(anna: User, arguments: tuple[str, ...]) -> None:
    result = run("user", *arguments)
    assert result.status == 2
    assert result.out == ""


def test_it_lists_users_as_json_and_as_a_table(anna: User) -> None:
    (row,) = done("user", "list", "--format", "json").json
    assert list(row) == KEYS
    assert row == {
        "uuid": str(anna.pk),
        "identifier": "anna",
        "fullname": "Anna B",
        "delivery_mailbox": None,
        "is_active": True,
        "is_staff": False,
        "source": "local",
    }
    head, line = done("user", "list", "-f", "table").out.splitlines()
    assert head.split() == KEYS
    assert line.split()[:2] == [str(anna.pk), "anna"]


def test_no_users_is_an_empty_list() -> None:
    assert done("user", "list", "-f", "json").json == []


def test_it_finds_a_user_by_uuid_identifier_and_address(anna: User) -> None:
    done("domain", "create", "example.org")
    done("emailalias", "create", "post@example.org", "-u", "anna")
    for selector in (str(anna.pk), "anna", "ANNA", "post@example.org", "Post@Example.ORG"):
        (row,) = done("user", "show", "-f", "json", selector).json
        assert row["identifier"] == "anna"


def test_it_finds_users_by_a_text(anna: User) -> None:
    done("user", "create", "hanna", "Hanna")
    done("user", "create", "bob", "Bob")
    rows = done("user", "list", "-f", "json", "-c", "ANN").json
    assert [row["identifier"] for row in rows] == ["anna", "hanna"]


@pytest.mark.parametrize("verb", ["list", "show", "edit", "remove", "activate", "sign-out"])
def test_an_unknown_name_is_1(anna: User, verb: str) -> None:
    more = ("--set-fullname", "X") if verb == "edit" else ()
    result = run("user", verb, "nobody", *more)
    assert (result.status, result.out) == (1, "")


def test_it_edits(anna: User) -> None:
    done("user", "edit", "anna", "--set-fullname", "Anna C", "--set-identifier", "ann")
    done("user", "edit", "ann", "--set-staff")
    done("user", "edit", "ann", "--password-stdin", stdin="another password\n")
    anna.refresh_from_db()
    assert (anna.identifier, anna.fullname, anna.is_staff) == ("ann", "Anna C", True)
    assert is_right("another password", anna.password)
    done("user", "edit", "ann", "--unset-staff", "--set-source", "nas")
    anna.refresh_from_db()
    assert (anna.is_staff, anna.source) == (False, "nas")


def test_an_edit_that_changes_nothing_is_done(anna: User) -> None:
    assert "as it was" in done("user", "edit", "anna", "--set-fullname", "Anna B").err


def test_an_edit_that_is_refused_for_one_changes_none(anna: User) -> None:
    done("user", "create", "bob", "Bob")
    result = run("user", "edit", "anna", "bob", "--set-fullname", "x" * 300, "-y")
    assert result.status == 1
    assert set(User.objects.values_list("fullname", flat=True)) == {"Anna B", "Bob"}


def test_it_deactivates_and_activates(anna: User) -> None:
    for _ in range(2):  # the second time nothing has to change
        done("user", "deactivate", "anna")
        anna.refresh_from_db()
        assert not anna.is_active
    assert done("user", "list", "--active", "-f", "json").json == []
    done("user", "activate", "anna")
    assert done("user", "list", "--active", "-f", "json").json[0]["is_active"]


def test_it_asks_before_it_removes(anna: User) -> None:
    assert run("user", "remove", "anna").status == 1
    assert run("user", "remove", "anna", terminal="n\n").status == 1
    assert run("user", "remove", "anna", terminal="\n").status == 1
    assert User.objects.exists()
    assert run("user", "remove", "anna", terminal="y\n").status == 0
    assert not User.objects.exists()
    assert run("user", "remove", "--yes", "anna").status == 1


def test_it_asks_before_it_changes_what_was_not_named(anna: User) -> None:
    assert run("user", "deactivate", "-c", "ann").status == 1
    assert User.objects.get().is_active
    done("user", "deactivate", "-c", "ann", "-y")
    assert not User.objects.get().is_active


def test_unlock_forgets_the_failed_logins_of_any_name(anna: User) -> None:
    for name in ("anna", "nobody"):
        Refusal.objects.create(name=throttle.name_digest(name), network="192.0.2.1")
    done("user", "unlock", "ANNA", "Nobody", "never-seen")
    assert not Refusal.objects.exists()


def test_an_invitation_is_a_link_alone_on_stdout(anna: User) -> None:
    link = done("user", "invite", "anna").out
    assert link.startswith(f"{settings.BASE_URL}/account/password/set/")
    assert link.endswith("/\n")
    token = link.strip().split("/")[-2]
    assert invitations.invited(anna.pk, token) == anna
    done("user", "deactivate", "anna")
    assert invitations.invited(anna.pk, token) is None
    assert run("user", "invite", "anna").status == 1


def test_it_sets_the_delivery_mailbox_to_an_address_of_the_users_own(anna: User) -> None:
    done("user", "create", "bob", "Bob")
    done("domain", "create", "example.org")
    done("emailalias", "create", "anna@example.org", "-u", "anna")
    done("emailalias", "create", "bob@example.org", "-u", "bob")
    for _ in range(2):
        done("user", "set-delivery-mailbox", "anna", "anna@example.org")
    (row,) = done("user", "show", "-f", "json", "anna").json
    assert row["delivery_mailbox"] == "anna@example.org"
    assert run("user", "set-delivery-mailbox", "anna", "bob@example.org").status == 1
    assert run("user", "set-delivery-mailbox", "anna", "no@example.org").status == 1
    done("emailalias", "edit", "anna@example.org", "--set-user", "bob")
    assert User.objects.get(identifier="anna").delivery_mailbox is None
    assert EmailAlias.objects.filter(user__identifier="bob").count() == 2


def test_what_is_done_is_in_the_audit_log_with_who_did_it(
    anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "chief")
    done("user", "deactivate", "anna")
    event = Event.objects.filter(kind="user.deactivated").get()
    assert (event.subject, event.actor) == ("anna", "command:chief")


def test_a_table_has_nothing_that_a_terminal_obeys(anna: User) -> None:
    User.objects.update(fullname="\x1b[2Jmischief\u202e")
    out = done("user", "list").out
    assert "\x1b" not in out
    assert "\\x1b[2Jmischief\\u202e" in out
