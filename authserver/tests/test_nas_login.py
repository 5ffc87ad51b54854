"""Logins with the accounts of a NAS: the real ugos-auth-proxy and real PAM."""

from collections.abc import Iterator

import pytest
from django.core.exceptions import ValidationError

from authserver.accounts import users
from authserver.accounts.models import Domain, EmailAlias, Group, User
from authserver.accounts.service_users import create_service_user
from tests.nas import EXPIRED, MUST_CHANGE, Nas
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.processes import keep_secret
from tests.server import PASSWORD, Server

WRONG = "Wrong name or password."
UNREACHABLE = "The NAS cannot be reached. Try again later."


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nas]:
    running = Nas(tmp_path_factory.mktemp("nas"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, nas: Nas) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), MAX_FAILURES=0, **nas.settings)
    yield running
    running.stop()


def refused(server: Server, name: str, password: str) -> bool:
    answer = server.browser().sign_in(name, password)
    return answer.status_code == 200 and WRONG in answer.text


def user_of(server: Server, name: str) -> User:
    with server.database():
        return User.objects.get(identifier=name)


def test_the_first_login_makes_the_user(server: Server, nas: Nas) -> None:
    gecos = "Maria Muster,,,,maria@nas.example"
    account = nas.add_user("MariaM", gecos=gecos, groups=("admin", "family", "docker"))
    server.browser().signed_in("MariaM", NAS_PASSWORD)
    with server.database():
        user = User.objects.get(identifier="MariaM")
        assert (user.source, user.nas_uid) == ("nas", account.uid)
        assert (user.fullname, user.contact_email) == ("Maria Muster", "maria@nas.example")
        assert {group.name for group in user.groups.all()} == {"admins", "family"}
        assert not user.is_staff
        assert not user.has_usable_password()
        assert user.delivery_mailbox is None
        assert not user.aliases.exists()
    assert refused(server, "maria@nas.example", NAS_PASSWORD)


def test_a_wrong_password_makes_no_user(server: Server, nas: Nas) -> None:
    nas.add_user("wronged")
    assert refused(server, "wronged", "wrong guess")
    assert refused(server, "nobody-there", "wrong guess")
    with server.database():
        assert not User.objects.filter(identifier__in=["wronged", "nobody-there"]).exists()


def test_other_spellings_find_the_account_once_it_is_known(server: Server, nas: Nas) -> None:
    nas.add_user("Spelled")
    server.browser().signed_in("Spelled", NAS_PASSWORD)
    server.browser().signed_in("SPELLED", NAS_PASSWORD)
    with server.database():
        assert User.objects.filter(identifier_key="spelled").count() == 1


def test_an_address_given_here_works_for_a_nas_account(server: Server, nas: Nas) -> None:
    nas.add_user("aliased")
    server.browser().signed_in("aliased", NAS_PASSWORD)
    with server.database():
        domain, _ = Domain.objects.get_or_create(name="example.org")
        user = User.objects.get(identifier="aliased")
        EmailAlias.objects.create(mailprefix="alias", domain=domain, user=user)
    server.browser().signed_in("alias@example.org", NAS_PASSWORD)


def test_each_login_brings_groups_and_name_in_step_both_ways(server: Server, nas: Nas) -> None:
    nas.add_user("stepper", groups=("family",))
    server.browser().signed_in("stepper", NAS_PASSWORD)
    with server.database():
        user = User.objects.get(identifier="stepper")
        user.groups.add(Group.objects.create(name="cooks"))
        user.groups.add(Group.objects.get_or_create(name="admins")[0])
    nas.change("stepper", groups=("docker",), gecos="Step Per")
    server.browser().signed_in("stepper", NAS_PASSWORD)
    with server.database():
        user.refresh_from_db()
        assert user.fullname == "Step Per"
        assert {group.name for group in user.groups.all()} == {"cooks"}


def test_a_changed_password_counts_at_once(server: Server, nas: Nas) -> None:
    nas.add_user("renewed")
    server.browser().signed_in("renewed", NAS_PASSWORD)
    new = keep_secret("a new one on the NAS")
    nas.change("renewed", password=new)
    assert refused(server, "renewed", NAS_PASSWORD)
    server.browser().signed_in("renewed", new)


def test_no_local_password_works_for_a_nas_account(server: Server, nas: Nas) -> None:
    nas.add_user("nohash")
    server.browser().signed_in("nohash", NAS_PASSWORD)
    with server.database():
        user = User.objects.get(identifier="nohash")
        user.set_password(PASSWORD)
        user.save()
        with pytest.raises(ValidationError):
            users.set_password(user, "another password", "tests")
    assert refused(server, "nohash", PASSWORD)
    assert b"only there it can be changed" in (
        server.browser().signed_in("nohash", NAS_PASSWORD).get("/account/password/").content
    )


def test_the_nas_is_not_asked_for_a_local_name(server: Server, nas: Nas) -> None:
    nas.add_user("local")
    server.make_user("local")
    server.make_user("local-boss", staff=True)
    nas.add_user("local-boss")
    before = len(nas.asked("/validate"))
    assert refused(server, "local", NAS_PASSWORD)
    assert refused(server, "LOCAL-Boss", NAS_PASSWORD)
    server.browser().signed_in("local", PASSWORD)
    assert len(nas.asked("/validate")) == before
    assert user_of(server, "local").source == "local"


def test_no_account_is_made_in_the_name_of_a_service_user(server: Server, nas: Nas) -> None:
    owner = server.make_user("owner")
    with server.database():
        create_service_user(owner, "scanner", "", "tests")
    nas.add_user("scanner")
    assert refused(server, "scanner", NAS_PASSWORD)
    with server.database():
        assert not User.objects.filter(identifier="scanner").exists()


def test_the_end_users_address_is_the_only_one_told(server: Server, nas: Nas) -> None:
    nas.add_user("from-afar")
    browser = server.browser("127.0.0.77", **{"X-Forwarded-For": "192.0.2.99"})
    before = len(nas.program.lines)
    browser.signed_in("from-afar", NAS_PASSWORD)
    line = nas.program.wait_for_line("user=from-afar", before)
    assert "client=127.0.0.77" in line


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("a/b", NAS_PASSWORD),
        ("a:b", NAS_PASSWORD),
        ("a@b", NAS_PASSWORD),
        ("a\x01b", NAS_PASSWORD),
        ("a\x85b", NAS_PASSWORD),
        ("ä" * 129, NAS_PASSWORD),
        ("x" * 257, NAS_PASSWORD),
        ("nobody", "p" * 1001),
        ("nobody", "ä" * 501),
        ("nobody", '"' * 1000 + "x" * 0 + "\x01" * 0),
        ("nobody", "\x01" * 900),
    ],
)
def test_what_the_proxy_would_not_judge_is_wrong_without_asking(
    server: Server, nas: Nas, name: str, password: str
) -> None:
    before = len(nas.asked("/validate"))
    assert refused(server, name, password)
    asked = len(nas.asked("/validate")) - before
    assert asked == (1 if password == '"' * 1000 else 0)


def test_the_longest_that_it_judges_is_asked(server: Server, nas: Nas) -> None:
    before = len(nas.asked("/validate"))
    assert refused(server, "n" * 256, "p" * 1000)
    assert len(nas.asked("/validate")) == before + 1


def test_another_uid_is_another_account(server: Server, nas: Nas) -> None:
    account = nas.add_user("replaced")
    browser = server.browser().signed_in("replaced", NAS_PASSWORD)
    nas.change("replaced", uid=account.uid + 5000)
    assert refused(server, "replaced", NAS_PASSWORD)
    line = server.wait_for_line("nas.other_uid")
    assert '"replaced"' in line
    assert not browser.is_signed_in()
    nas.change("replaced", uid=account.uid)
    server.browser().signed_in("replaced", NAS_PASSWORD)


@pytest.mark.parametrize(
    ("name", "aging", "sentence"),
    [
        ("gone-by", EXPIRED, "Your account on the NAS has expired"),
        ("aged", MUST_CHANGE, "Your password has expired: set a new one on the NAS"),
    ],
)
def test_what_has_expired_gets_a_sentence(
    server: Server, nas: Nas, name: str, aging: str, sentence: str
) -> None:
    nas.add_user(name, aging=aging)
    answer = server.browser().sign_in(name, NAS_PASSWORD)
    assert answer.status_code == 403
    assert sentence in answer.text
    assert refused(server, name, "wrong guess")
    with server.database():
        assert not User.objects.filter(identifier=name).exists()


def test_a_locked_account_is_refused(server: Server, nas: Nas) -> None:
    nas.add_user("locked")
    server.browser().signed_in("locked", NAS_PASSWORD)
    nas.change("locked", locked=True)
    assert refused(server, "locked", NAS_PASSWORD)


def test_an_inactive_user_is_refused_with_the_right_password(server: Server, nas: Nas) -> None:
    nas.add_user("off-here")
    server.browser().signed_in("off-here", NAS_PASSWORD)
    with server.database():
        users.set_active(User.objects.get(identifier="off-here"), False, "tests")
    assert refused(server, "off-here", NAS_PASSWORD)
    nas.change("off-here", aging=MUST_CHANGE)
    assert refused(server, "off-here", NAS_PASSWORD)


def test_a_local_account_can_become_the_nas_s_and_back(server: Server, nas: Nas) -> None:
    account = nas.add_user("turned")
    user = server.make_user("Turned")
    browser = server.browser().signed_in("turned", PASSWORD)
    with server.database():
        users.edit_user(user, "tests", source="nas")
    assert not browser.is_signed_in()
    assert refused(server, "turned", PASSWORD)
    server.browser().signed_in("turned", NAS_PASSWORD)
    user = user_of(server, "turned")
    assert user.nas_uid == account.uid
    with server.database():
        users.edit_user(user, "tests", source="local")
    assert refused(server, "turned", NAS_PASSWORD)
    assert refused(server, "turned", PASSWORD)


def test_first_logins_at_once_make_one_user(server: Server, nas: Nas) -> None:
    from concurrent.futures import ThreadPoolExecutor

    nas.add_user("at-once")
    with ThreadPoolExecutor(6) as threads:
        found = list(
            threads.map(
                lambda _: server.browser().sign_in("at-once", NAS_PASSWORD).status_code, range(6)
            )
        )
    assert found == [302] * 6
    assert user_of(server, "at-once").source == "nas"


def test_the_nas_s_own_429_gets_a_sentence(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    nas = Nas(tmp_path_factory.mktemp("nas429"), MAX_FAILURES=2, FAILURE_WINDOW=600)
    server = Server(tmp_path_factory.mktemp("server429"), **nas.settings)
    try:
        nas.add_user("guessed")
        for _ in range(2):
            assert refused(server, "guessed", "wrong guess")
        answer = server.browser().sign_in("guessed", NAS_PASSWORD)
        assert answer.status_code == 429
        assert "Too many failed logins on the NAS. Try again in 10 minutes." in answer.text
        assert 1 <= int(answer.headers["retry-after"]) <= 600
        # another address of an end user is another client there
        server.browser("127.0.0.78").signed_in("guessed", NAS_PASSWORD)
    finally:
        server.stop()
        nas.stop()


def test_a_nas_that_is_down_is_503_and_counts_for_nothing(
    tmp_path_factory: pytest.TempPathFactory, nas: Nas
) -> None:
    settings = {**nas.settings, "UGOS_AUTH_PROXY_URL": "http://127.0.0.1:9"}
    server = Server(tmp_path_factory.mktemp("server503"), MAX_FAILURES=2, **settings)
    try:
        server.make_user("here")
        for _ in range(4):
            answer = server.browser().sign_in("whoever", "some password")
            assert answer.status_code == 503
            assert UNREACHABLE in answer.text
            assert answer.headers["retry-after"]
        server.browser().signed_in("here", PASSWORD)
        with server.database():
            assert not User.objects.filter(identifier="whoever").exists()
    finally:
        server.stop()
