"""Names: what may be one, and that no two could be taken for each other at a login."""

import threading
from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, OperationalError

from authserver.accounts import users
from authserver.accounts.models import (
    Domain,
    EmailAlias,
    ServiceUser,
    User,
    check_identifier,
    check_mailprefix,
)
from authserver.accounts.passwords import check_password_form
from authserver.accounts.service_users import create_service_user, edit_service_user
from authserver.names import name_key
from tests.server import Server


@pytest.mark.parametrize(
    "name", ["a", "jane.doe", "x" * 150, "Jürgen", "李雷", "o'neil", "a+b", "-"]
)
def test_a_name_may_be(name: str) -> None:
    check_identifier(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 151,
        "a b",
        "a\tb",
        "a\u00a0b",
        "a\u2028b",
        "a\0b",
        "a\x7fb",
        "a\x85b",
        "a@b",
        "a/b",
        "a:b",
        "a,b",
        "a\uff20b",  # the wide @
        "a\uff0fb",
        "a\u2100b",  # one character that stands for a/c
        "\ud800",
        "\u3000",
        "\ufdfa" * 40,  # each stands for 18 characters
    ],
)
def test_a_name_may_not_be(name: str) -> None:
    with pytest.raises(ValidationError):
        check_identifier(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jane", "jANE"),
        ("STRASSE", "straße"),
        ("ALİCE", "ali̇ce"),
        ("é", "e\u0301"),
        ("ﬁne", "fine"),
        ("Ⅷ", "viii"),
        ("ΣΑΣ", "σας"),
    ],
)
def test_names_that_look_alike_are_one(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


def test_a_key_of_a_key_is_itself() -> None:
    for code in range(0x11_0000):
        key = name_key(chr(code))
        assert name_key(key) == key, hex(code)


@pytest.mark.django_db
@pytest.mark.parametrize("taken", ["JANE", "jane-mail", "\uff2ajane", "\uff2aane-mail"])
def test_users_and_service_users_share_their_names(taken: str) -> None:
    jane = users.create_user("Jane", "", "tests")
    users.create_user("jjane", "", "tests")
    create_service_user(jane, "Jane-Mail", "", "tests")
    with pytest.raises(ValidationError):
        users.create_user(taken, "", "tests")
    with pytest.raises(ValidationError):
        create_service_user(jane, taken, "", "tests")
    other = users.create_user("other", "", "tests")
    with pytest.raises(ValidationError):
        users.edit_user(other, "tests", identifier=taken)


@pytest.mark.django_db
def test_one_s_own_name_can_be_spelled_otherwise() -> None:
    jane = users.create_user("jane", "", "tests")
    assert users.edit_user(jane, "tests", identifier="Jane") == ["identifier"]
    service, _ = create_service_user(jane, "mail", "", "tests")
    assert edit_service_user(service, "tests", username="MAIL")
    assert ServiceUser.objects.get(username_key="mail").username == "MAIL"


@pytest.mark.django_db
def test_an_address_is_one_user_s_however_it_is_spelled() -> None:
    user = users.create_user("jane", "", "tests")
    domain = Domain.objects.create(name="example.org")
    EmailAlias.objects.create(mailprefix="jane", domain=domain, user=user)
    with pytest.raises(IntegrityError):
        EmailAlias.objects.create(mailprefix="JANE", domain=domain, user=user)


@pytest.mark.parametrize("local", ["a", "jane.doe", "a+b", "jürgen", "x" * 64])
def test_a_local_part_may_be(local: str) -> None:
    check_mailprefix(local)


@pytest.mark.parametrize(
    "local", ["", ".", "a.", ".a", "a..b", "a b", "a@b", '"a"', "x" * 65, "a\n"]
)
def test_a_local_part_may_not_be(local: str) -> None:
    with pytest.raises(ValidationError):
        check_mailprefix(local)


@pytest.mark.parametrize(
    "password", ["x" * 8, "ä" * 4, "x" * 72, "ä" * 36, " " * 8, "p w\tö\u2028ß"]
)
def test_a_local_password_may_be(password: str) -> None:
    check_password_form(password)


@pytest.mark.parametrize(
    "password", ["", "x" * 7, "ä" * 3, "x" * 73, "ä" * 37, "nul\0in the middle", "\ud800" * 8]
)
def test_a_local_password_may_not_be(password: str) -> None:
    with pytest.raises(ValidationError):
        check_password_form(password)


def at_once(server: Server, makers: list[Callable[[], object]]) -> int:
    """How many of them were done; all begin together, each with its own connection."""
    start, done = threading.Barrier(len(makers)), []

    def run(make: Callable[[], object]) -> None:
        with server.database():
            start.wait()
            try:
                make()
            except (ValidationError, IntegrityError):
                return
            done.append(make)

    threads = [threading.Thread(target=run, args=(make,)) for make in makers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done)


def test_of_those_who_take_a_name_at_once_one_has_it(server: Server) -> None:
    owner = server.make_user("owner")
    makers: list[Callable[[], object]] = []
    for spelled in ("Race", "race", "RACE", "rAce"):
        makers.append(lambda name=spelled: users.create_user(name, "", "tests"))  # type: ignore[misc]
        makers.append(lambda name=spelled: create_service_user(owner, name, "", "tests"))  # type: ignore[misc]
    assert at_once(server, makers) == 1
    with server.database():
        count = User.objects.filter(identifier_key="race").count()
        assert count + ServiceUser.objects.filter(username_key="race").count() == 1


def test_of_two_who_take_each_other_s_name_neither_waits_for_ever(server: Server) -> None:
    one, two = server.make_user("one"), server.make_user("two")
    makers: list[Callable[[], object]] = [
        lambda: users.edit_user(one, "tests", identifier="two"),
        lambda: users.edit_user(two, "tests", identifier="one"),
    ]
    try:
        assert at_once(server, makers) == 0
    except OperationalError as error:  # a deadlock
        raise AssertionError from error
