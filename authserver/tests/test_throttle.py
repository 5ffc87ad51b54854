"""The throttle: how many guesses a name takes, over all clients, doors and processes."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from authserver.accounts import throttle
from authserver.accounts.models import Domain, EmailAlias, KnownClient, Refusal
from authserver.domains.keys import make_key
from authserver.names import name_key
from tests.server import PASSWORD, Serve, Server

LOGIN = "/account/login/"
TOO_MANY = re.compile(r"Too many failed logins\. Try again in (\d+) minutes?\.")
Guess = Callable[..., httpx.Response]


def guesser(server: Server, address: str) -> Guess:
    """A function that sends the sign-in form from there, always the same one."""
    browser = server.browser(address)
    action, fields = browser.form(LOGIN)

    def guess(login: str, password: str = "wrong guess") -> httpx.Response:
        data = {**fields, "login": login, "password": password}
        # without the cookie of a session: signing in must not make the next form out of date
        cookie = f"authserver_csrf={browser.cookies['authserver_csrf']}"
        with httpx.Client(
            transport=httpx.HTTPTransport(local_address=address), trust_env=False, timeout=60
        ) as client:
            return client.post(server.base + action, data=data, headers={"Cookie": cookie})

    return guess


def at_once(guess: Guess, count: int, *given: str) -> Counter[int]:
    with ThreadPoolExecutor(count) as threads:
        answers = threads.map(lambda _: guess(*given).status_code, range(count))
        return Counter(answers)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with MAX_FAILURES=3."""
    server = Server(tmp_path_factory.mktemp("strict"), MAX_FAILURES=3, FAILURE_WINDOW=600)
    try:
        yield server
    finally:
        server.stop()


def test_after_ten_refusals_the_right_password_is_429_too(server: Server) -> None:
    server.make_user("ten")
    guess = guesser(server, "127.0.1.1")
    assert [guess("ten").status_code for _ in range(10)] == [200] * 10
    for password in ("wrong guess", PASSWORD):
        answer = guess("ten", password)
        assert answer.status_code == 429
        found = TOO_MANY.search(answer.text)
        assert found
        assert 1 <= int(found[1]) <= 5
        assert 1 <= int(answer.headers["retry-after"]) <= 300


def test_a_name_that_does_not_exist_is_no_different(strict: Server) -> None:
    guess = guesser(strict, "127.0.1.2")
    assert [guess("nobody").status_code for _ in range(4)] == [200, 200, 200, 429]
    owner = strict.make_user("with-service")
    with strict.database():
        from authserver.accounts.service_users import create_service_user

        create_service_user(owner, "a-service", "", "tests")
    assert [guess("a-service").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_spelling_and_addresses_are_the_same_name(strict: Server) -> None:
    user = strict.make_user("Spelled")
    with strict.database():
        domain = Domain.objects.create(name="spelled.example")
        for prefix in ("one", "two"):
            EmailAlias.objects.create(mailprefix=prefix, domain=domain, user=user)
    guess = guesser(strict, "127.0.1.3")
    for name in ("SPELLED", "One@Spelled.EXAMPLE", " two@spelled.example "):
        assert guess(name).status_code == 200
    for name in ("spelled", "one@spelled.example", "\uff33pelled"):
        assert guess(name, PASSWORD).status_code == 429


def test_another_client_and_another_name_are_not_meant(strict: Server) -> None:
    strict.make_user("here")
    strict.make_user("there")
    guess = guesser(strict, "127.0.1.4")
    for _ in range(4):
        guess("here")
    assert guess("here", PASSWORD).status_code == 429
    assert guess("there", PASSWORD).status_code == 302
    assert guesser(strict, "127.0.1.5")("here", PASSWORD).status_code == 302


def test_ipv6_clients_are_counted_by_their_network(serve: Serve) -> None:
    server = serve(MAX_FAILURES=2, TRUSTED_PROXIES="127.0.0.0/8")
    server.make_user("six")
    browser = server.browser()

    def guess(address: str) -> int:
        browser.headers["X-Forwarded-For"] = address
        return browser.sign_in("six", "wrong guess").status_code

    assert [guess(f"2001:db8:0:1::{n}") for n in range(1, 4)] == [200, 200, 429]
    assert guess("2001:db8:0:2::1") == 200
    assert [guess(a) for a in ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1")] == [200, 200, 429]


def test_a_right_login_does_not_clear_the_count(strict: Server) -> None:
    strict.make_user("mixed")
    guess = guesser(strict, "127.0.1.6")
    found = [guess("mixed", p).status_code for p in ("wrong guess", PASSWORD) * 3]
    assert found == [200, 302, 200, 302, 200, 429]


def test_the_window_passes(strict: Server) -> None:
    strict.make_user("later")
    guess = guesser(strict, "127.0.1.7")
    for _ in range(3):
        guess("later")
    assert guess("later", PASSWORD).status_code == 429
    with strict.database():
        rows = Refusal.objects.filter(name=throttle.name_digest("later"))
        rows.update(at="2020-01-01T00:00:00Z")
    assert guess("later", PASSWORD).status_code == 302


def test_over_all_clients_ten_times_as_many(strict: Server) -> None:
    strict.make_user("target")
    known = guesser(strict, "127.0.2.250")
    assert known("target", PASSWORD).status_code == 302  # from now on this client is known
    for number in range(10):
        guess = guesser(strict, f"127.0.2.{number + 1}")
        assert [guess("target").status_code for _ in range(3)] == [200] * 3
    stranger = guesser(strict, "127.0.2.100")
    assert stranger("target", PASSWORD).status_code == 429
    assert known("target", PASSWORD).status_code == 302
    assert known("target").status_code == 200  # it has its own ten only


def test_a_client_is_known_for_thirty_days_or_by_its_session(strict: Server) -> None:
    user = strict.make_user("knower")
    network = "127.0.3.1"
    guess = guesser(strict, network)
    guess("knower", PASSWORD)
    with strict.database():
        assert throttle.is_known(user, network)
        KnownClient.objects.filter(user=user).update(last_login="2020-01-01T00:00:00Z")
        assert throttle.is_known(user, network)
        user.sessions.all().delete()
        assert not throttle.is_known(user, network)


def test_of_guesses_sent_at_once_no_more_are_judged(strict: Server) -> None:
    strict.make_user("flood")
    guess = guesser(strict, "127.0.1.8")
    assert at_once(guess, 12, "flood") == {200: 3, 429: 9}
    with strict.database():
        rows = Refusal.objects.filter(name=throttle.name_digest("flood"))
        assert rows.count() == 3


def test_right_logins_at_once_do_not_refuse_each_other(strict: Server) -> None:
    strict.make_user("busy")
    assert at_once(guesser(strict, "127.0.1.9"), 12, "busy", PASSWORD) == {302: 12}


def test_all_processes_count_together(serve: Serve) -> None:
    one = serve(MAX_FAILURES=4)
    two = serve(MAX_FAILURES=4, DATABASE_URL=one.environment["DATABASE_URL"])
    one.make_user("shared")
    guesses = [guesser(each, "127.0.1.10") for each in (one, two)]
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda n: guesses[n % 2]("shared").status_code, range(8))
        assert Counter(found) == {200: 4, 429: 4}
    assert guesses[0]("shared", PASSWORD).status_code == 429


def test_all_doors_count_together(strict: Server) -> None:
    strict.make_user("doors")
    with strict.database():
        make_key(Domain.objects.create(name="localhost"), "jwt", "tests")
    guess = guesser(strict, "127.0.1.11")
    assert guess("doors").status_code == 200
    with httpx.Client(
        transport=httpx.HTTPTransport(local_address="127.0.1.11"), timeout=60, trust_env=False
    ) as client:
        for _ in range(2):
            fields = {"username": "doors", "password": "wrong guess"}
            assert client.post(strict.base + "/checkpassword/", json=fields).status_code == 401
        fields["password"] = PASSWORD
        assert client.post(strict.base + "/checkpassword/", json=fields).status_code == 429
    assert guess("doors", PASSWORD).status_code == 429


def test_zero_turns_it_off(serve: Serve) -> None:
    server = serve(MAX_FAILURES=0)
    server.make_user("free")
    guess = guesser(server, "127.0.1.12")
    assert [guess("free").status_code for _ in range(15)] == [200] * 15
    assert guess("free", PASSWORD).status_code == 302


def test_unlocking_forgets_the_refusals(strict: Server) -> None:
    strict.make_user("locked")
    guess = guesser(strict, "127.0.1.13")
    for _ in range(4):
        guess("locked")
    with strict.database():
        assert throttle.clear(throttle.name_digest(name_key("Locked"))) == 3
    assert guess("locked", PASSWORD).status_code == 302


def test_a_typed_name_is_kept_nowhere(strict: Server) -> None:
    guesser(strict, "127.0.1.14")("my-secret-password-in-the-name-field")
    with strict.database():
        from authserver.audit.models import Event

        text = str(list(Event.objects.values())) + str(list(Refusal.objects.values()))
    assert "my-secret-password" not in text
    assert "my-secret-password" not in "\n".join(strict.lines)
