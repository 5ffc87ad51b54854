"""authserver domain and authserver emailalias."""

import pytest

from authserver.accounts.models import Domain, EmailAlias
from tests.command_line import done, run

pytestmark = pytest.mark.django_db
KEYS = ["id", "alias", "mailprefix", "domain", "target_type", "target", "blacklisted"]


@pytest.fixture(autouse=True)
def home() -> None:
    for name in ("anna", "bob"):
        done("user", "create", name, name.title())
    done("domain", "create", "example.org")


def aliases(*arguments: str) -> list[str]:
    rows = done("emailalias", "list", "-f", "json", *arguments).json
    return [row["alias"] for row in rows]


def test_a_domain_is_made_once_in_lower_case() -> None:
    done("domain", "create", "Example.ORG.")
    (row,) = done("domain", "list", "-f", "json").json
    assert row["name"] == "example.org"
    assert row["id"] == Domain.objects.get().pk
    assert done("domain", "list", "-f", "json", "EXAMPLE.org").json == [row]
    assert run("domain", "list", "other.org").status == 1


def test_creating_a_domain_again_is_0_with_the_same_values_and_1_with_others() -> None:
    options = ("--jwt-allow-subdomain-signing", "--dkim-selector", "s", "--create-key", "jwt")
    for _ in range(2):
        done("domain", "create", *options, "signs.example")
    assert run("domain", "create", "signs.example").status == 0  # what is left out says nothing
    assert run("domain", "create", *options, "--create-key", "dkim", "signs.example").status == 1
    redirect = ("--redirect-all-email-to", "example.net")
    assert run("domain", "create", *options, *redirect, "signs.example").status == 1
    done("domain", "create", *redirect, "from.example")
    result = run("domain", "create", redirect[0], "other.example", "from.example")
    assert (result.status, result.out) == (1, "")


@pytest.mark.parametrize("name", ["", "a b", "-a.org", "a..org", "x" * 64 + ".org", "ä.org"])
def test_a_domain_that_cannot_be_is_refused(name: str) -> None:
    assert run("domain", "create", "--", name).status == 1


def test_domains_are_found_by_a_text() -> None:
    done("domain", "create", "example.net")
    rows = done("domain", "search", "--format", "json", "EXAMPLE").json
    assert [row["name"] for row in rows] == ["example.net", "example.org"]
    assert run("domain", "search", "nowhere").status == 1


def test_a_domain_is_removed_after_a_yes() -> None:
    assert run("domain", "remove", "example.org").status == 1
    done("domain", "remove", "-y", "example.org")
    assert run("domain", "remove", "-y", "example.org").status == 1


def test_several_domains_are_removed_only_when_that_is_said() -> None:
    done("domain", "create", "example.net")
    assert run("domain", "remove", "-y", "example").status == 1
    assert Domain.objects.count() == 2
    done("domain", "remove", "-y", "--remove-multiple", "example")
    assert not Domain.objects.exists()


def test_an_exact_name_goes_before_what_it_occurs_in() -> None:
    done("domain", "create", "mail.example.org")
    done("domain", "remove", "-y", "example.org")
    assert Domain.objects.get().name == "mail.example.org"


def test_a_domain_with_addresses_stays() -> None:
    done("emailalias", "create", "anna@example.org", "-u", "anna")
    assert run("domain", "remove", "-y", "example.org").status == 1
    assert Domain.objects.exists()


def test_an_address_is_made_in_two_forms_and_once() -> None:
    for _ in range(2):
        done("emailalias", "create", "anna@example.org", "-u", "anna")
        done("emailalias", "create", "--mailprefix", "ann", "-d", "example.org", "-u", "anna")
    rows = done("emailalias", "list", "--format", "json").json
    assert list(rows[0]) == KEYS
    assert rows[1] == {
        "id": EmailAlias.objects.get(mailprefix="anna").pk,
        "alias": "anna@example.org",
        "mailprefix": "anna",
        "domain": "example.org",
        "target_type": "user",
        "target": "anna",
        "blacklisted": False,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("anna@example.org", "-u", "bob"),
        ("ANNA@Example.org", "-u", "bob"),
        ("anna@example.org", "-u", "anna", "--blacklisted"),
        ("x@nowhere.org", "-u", "anna"),
        ("x@example.org", "-u", "nobody"),
        ("x", "-u", "anna"),
        ("a b@example.org", "-u", "anna"),
        ("a..b@example.org", "-u", "anna"),
    ],
)
def test_an_address_that_cannot_be_or_is_another_users_is_refused(
    arguments: tuple[str, ...],
) -> None:
    done("emailalias", "create", "anna@example.org", "-u", "anna")
    assert run("emailalias", "create", *arguments).status == 1
    assert aliases() == ["anna@example.org"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-u", "anna"),
        ("a@example.org",),
        ("--mailprefix", "a", "-u", "anna"),
        ("a@example.org", "-d", "example.org", "-u", "anna"),
    ],
)
def test_an_address_said_by_halves_or_twice_is_2(arguments: tuple[str, ...]) -> None:
    assert run("emailalias", "create", *arguments).status == 2


def test_addresses_are_found_by_what_they_have() -> None:
    done("domain", "create", "example.net")
    done("emailalias", "create", "anna@example.org", "-u", "anna")
    done("emailalias", "create", "info@example.net", "-u", "anna", "--blacklisted")
    done("emailalias", "create", "bob@example.org", "-u", "bob")
    assert aliases("-u", "anna") == ["anna@example.org", "info@example.net"]
    assert aliases("-d", "example.org") == ["anna@example.org", "bob@example.org"]
    assert aliases("-c", "INFO") == ["info@example.net"]
    assert aliases("--mailprefix", "bob") == ["bob@example.org"]
    assert aliases("--blacklisted") == ["info@example.net"]
    assert aliases("--not-blacklisted", "-u", "anna") == ["anna@example.org"]
    assert aliases("Bob@example.org") == ["bob@example.org"]
    assert run("emailalias", "list", "no@example.org").status == 1
    assert run("emailalias", "show").status == 2


def test_an_address_is_edited() -> None:
    done("emailalias", "create", "anna@example.org", "-u", "anna")
    done("domain", "create", "example.net")
    done(
        "emailalias", "edit", "anna@example.org", "--set-user", "bob", "--set-mailprefix", "post",
        "--set-domain", "example.net", "--set-blacklisted",
    )  # fmt: skip
    (row,) = done("emailalias", "show", "-f", "json", "post@example.net").json
    assert (row["target"], row["blacklisted"]) == ("bob", True)
    assert run("emailalias", "edit", "post@example.net").status == 2


def test_an_edit_into_an_address_that_exists_is_refused() -> None:
    done("emailalias", "create", "anna@example.org", "-u", "anna")
    done("emailalias", "create", "bob@example.org", "-u", "bob")
    result = run("emailalias", "edit", "bob@example.org", "--set-mailprefix", "anna")
    assert result.status == 1
    assert aliases() == ["anna@example.org", "bob@example.org"]


def test_addresses_are_blacklisted_and_taken_again() -> None:
    done("emailalias", "create", "anna@example.org", "-u", "anna")
    assert run("emailalias", "blacklist", "anna@example.org", "x@example.org").status == 1
    assert aliases("--not-blacklisted", "-u", "anna") == ["anna@example.org"]
    done(
        "emailalias", "blacklist", "--create-if-missing", "-u", "bob", "anna@example.org",
        "x@example.org",
    )  # fmt: skip
    assert aliases("--blacklisted") == ["anna@example.org", "x@example.org"]
    done("emailalias", "unblacklist", "x@example.org")
    assert run("emailalias", "unblacklist", "-u", "anna").status == 1  # asked, not answered
    done("emailalias", "unblacklist", "-y", "-u", "anna")
    assert run("emailalias", "list", "--blacklisted").status == 1


def test_an_address_is_removed_after_a_yes() -> None:
    done("emailalias", "create", "anna@example.org", "-u", "anna")
    assert run("emailalias", "remove", "anna@example.org").status == 1
    done("emailalias", "remove", "-y", "anna@example.org")
    assert run("emailalias", "remove", "-y", "anna@example.org").status == 1
