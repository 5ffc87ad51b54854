"""authserver dockerauth, and the parts of authserver domain that have keys."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from authserver.registry.keys import certificates
from authserver.registry.models import DockerRegistry
from tests.command_line import done, run

pytestmark = pytest.mark.django_db
CREATE = (
    "dockerauth", "registry", "create", "--client-id", "registry.example.org", "--name", "Family",
    "--domain", "example.org",
)  # fmt: skip


@pytest.fixture(autouse=True)
def example_org() -> None:
    done("domain", "create", "--create-key", "jwt", "example.org")


def test_a_registry_is_made_once() -> None:
    done(*CREATE)
    done(*CREATE)
    assert run(*CREATE, "--user-namespaces").status == 1
    (row,) = done("dockerauth", "registry", "list", "-f", "json").json
    assert row["client_id"] == "registry.example.org"
    add = ("dockerauth", "registry", "add", *CREATE[3:])
    done(*add)


def test_its_domain_may_be_a_parent_of_the_one_that_is_named() -> None:
    names = (*CREATE[:-1], "registry.example.org")
    assert run(*names, "--domain-exact-match").status == 1
    done(*names)
    (row,) = done("dockerauth", "registry", "list", "-f", "json", "Family").json
    assert row["domain"] == "example.org"


def test_it_says_what_the_registry_needs() -> None:
    done(*CREATE)
    config = done("dockerauth", "registry", "show", "-f", "config", "Family").out
    assert "service: registry.example.org" in config
    assert "issuer: example.org" in config
    assert "/docker/token/" in config
    assert "services:" in done("dockerauth", "registry", "show", "-f", "compose", "Family").out
    certificate = done("dockerauth", "registry", "show", "-f", "cert", "Family").out
    assert certificate == certificates(DockerRegistry.objects.get())


def test_a_rotated_key_adds_a_certificate() -> None:
    done(*CREATE)
    done("dockerauth", "registry", "rotate-key", "Family")
    certificate = done("dockerauth", "registry", "show", "-f", "cert", "Family").out
    assert certificate.count("BEGIN CERTIFICATE") == 2


def repo(verb: str, *more: str) -> tuple[str, ...]:
    return ("dockerauth", "repo", verb, "--registry", "registry.example.org", *more)


def rights() -> dict[str, list[str]]:
    rows = done(*repo("show", "family/*", "-f", "json")).json
    return {row["holder"]: row["actions"] for row in rows}


def test_rights_are_granted_and_revoked() -> None:
    done(*CREATE)
    done("user", "create", "maria", "Maria")
    done("group", "create", "family")
    done(*repo("create", "family/*"))
    done(*repo("create", "family/*"))
    done(*repo("grant", "family/*", "--user", "MARIA", "pull", "push"))
    done(*repo("grant", "family/*", "--group", "family", "pull"))
    done(*repo("grant", "family/*", "--anonymous", "pull"))
    done(*repo("grant", "family/*", "--anonymous", "pull"))
    assert rights() == {
        "user maria": ["pull", "push"], "group family": ["pull"], "everybody": ["pull"],
    }  # fmt: skip
    done(*repo("revoke", "family/*", "--user", "maria", "push"))
    done(*repo("revoke", "family/*", "--anonymous", "pull"))
    assert run(*repo("revoke", "family/*", "--anonymous", "pull")).status == 1
    assert rights() == {"user maria": ["pull"], "group family": ["pull"]}


@pytest.mark.parametrize("name", ["Family/app", "family/", "/family", "a//b", "*", "family*"])
def test_a_name_that_no_repository_has_is_refused(name: str) -> None:
    done(*CREATE)
    assert run(*repo("create", name)).status == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("grant", "none/x", "--anonymous", "pull"), 1),
        (("grant", "family/*", "--user", "nobody", "pull"), 1),
        (("grant", "family/*", "--group", "nobody", "pull"), 1),
        (("grant", "family/*", "pull"), 2),
        (("grant", "family/*", "--anonymous", "burn"), 2),
        (("remove", "none/x", "-y"), 1),
        (("remove", "family/*"), 1),
        (("show", "none/x"), 1),
    ],
)
def test_what_is_not_there_is_1_and_what_makes_no_sense_is_2(
    arguments: tuple[str, ...], status: int
) -> None:
    done(*CREATE)
    done(*repo("create", "family/*"))
    assert run(*repo(arguments[0], *arguments[1:])).status == status


def test_a_registry_and_a_repository_are_removed() -> None:
    done(*CREATE)
    done(*repo("create", "family/app"))
    done(*repo("remove", "-y", "family/app"))
    assert done("dockerauth", "repo", "list", "-f", "json").json == []
    done("dockerauth", "registry", "remove", "-y", "Family")
    assert run("dockerauth", "registry", "remove", "-y", "Family").status == 1


# --- Domains with keys ---------------------------------------------------------------------------


def domain(name: str = "example.org") -> dict[str, object]:
    (row,) = done("domain", "list", "-f", "json", name).json
    found: dict[str, object] = row
    return found


def test_a_domain_says_which_keys_it_has() -> None:
    assert list(domain()) == [
        "name", "id", "jwt_sign_subdomains", "has_jwtkey", "has_dkimkey", "dkimselector",
    ]  # fmt: skip
    assert (domain()["has_jwtkey"], domain()["has_dkimkey"]) == (True, False)
    done("domain", "edit", "--create-key", "dkim", "--dkim-selector", "mail", "example.org")
    assert (domain()["has_dkimkey"], domain()["dkimselector"]) == (True, "mail")
    done("domain", "edit", "--jwt-allow-subdomain-signing", "true", "example.org")
    assert domain()["jwt_sign_subdomains"] is True
    done("domain", "edit", "--remove-key", "jwt", "example.org")
    assert domain()["has_jwtkey"] is False
    assert run("domain", "edit", "--remove-key", "jwt", "example.org").status == 1


def test_the_same_domain_again_is_fine_and_another_of_that_name_is_not() -> None:
    done("domain", "create", "--create-key", "jwt", "example.org")
    done("domain", "create", "example.org")
    assert run("domain", "create", "--create-key", "dkim", "example.org").status == 1
    assert run("domain", "create", "--jwt-allow-subdomain-signing", "example.org").status == 1
    assert run("domain", "create", "--redirect-all-email-to", "x.org", "example.org").status == 1


def test_a_key_is_not_replaced_unless_that_is_said(tmp_path: Path) -> None:
    before = done("domain", "pubkey", "example.org").out
    load_pem_public_key(before.encode())
    assert run("domain", "edit", "--create-key", "jwt", "example.org").status == 1
    done("domain", "edit", "--create-key", "jwt", "--overwrite", "example.org")
    done("domain", "pubkey", "-o", str(tmp_path / "key"), "example.org")
    assert (tmp_path / "key").read_text() != before


def test_a_key_is_shown_and_made_where_that_is_said() -> None:
    assert run("domain", "pubkey", "--key", "dkim", "example.org").status == 1
    assert run("domain", "pubkey", "--format", "dkimdns", "example.org").status == 2
    shown = done(
        "domain", "pubkey", "--key", "dkim", "--create-key", "--format", "dkimdns", "example.org"
    ).out
    assert shown.startswith('default._domainkey.example.org. IN TXT ( "v=DKIM1; k=rsa; p=')
    assert all(len(part) <= 255 for part in shown.split('"')[1::2])


def test_parents_are_listed_too() -> None:
    done("domain", "create", "mail.example.org")
    listed = done("domain", "list", "--include-parent-domain", "-f", "json", "a.mail.example.org")
    assert [row["name"] for row in listed.json] == ["example.org", "mail.example.org"]
    assert run("domain", "list", "a.mail.example.org").status == 1
    found = run("domain", "search", "--require-subdomain-signing", "example")
    assert found.status == 1
