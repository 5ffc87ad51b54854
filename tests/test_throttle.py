"""Failed logins: how many refusals a username and a client may collect, and who is not locked out
by others."""

import collections
import time
from typing import Any

import pytest
from etc import PLAIN, Etc, right
from secrecy import TOKEN, WRONG
from service import Response, Service, Start, parallel

import main

INVALID = {"valid": False, "error": "Invalid credentials"}
TOO_MANY = {"valid": False, "error": "Too many failed logins"}


def guess(
    service: Service, name: str = "des", number: int = 1, client: str = "192.0.2.1"
) -> list[int]:
    """The statuses of so many wrong guesses in turn; `client` counts where a token is set."""
    return [service.validate(name, WRONG, X_Forwarded_For=client).status for _ in range(number)]


def good(service: Service, name: str = "des", client: str = "192.0.2.1") -> Response:
    return service.validate(name, right(name), X_Forwarded_For=client)


def assert_throttled(response: Response, window: int = 300) -> None:
    assert (response.status, response.json) == (429, TOO_MANY)
    assert 1 <= int(response.headers["Retry-After"]) <= window


@pytest.fixture
def proxied(start: Start) -> Service:
    """A service that believes who the client is said to be: it has a token, and MAX_FAILURES is
    3."""
    return start(MAX_FAILURES=3, AUTH_TOKEN=TOKEN)


@pytest.mark.parametrize("name", ["des", "no.such.user", "system", "sha512.locked", "root"])
def test_after_max_failures_refusals_comes_429(proxied: Service, name: str) -> None:
    assert guess(proxied, name, 5) == [200, 200, 200, 429, 429]
    assert_throttled(proxied.validate(name, WRONG, X_Forwarded_For="192.0.2.1"))
    proxied.wait_for_log(f"event=verdict user={name} client=192.0.2.1 result=throttled ")


def test_the_right_password_gets_429_too(proxied: Service) -> None:
    guess(proxied, number=3)
    assert_throttled(good(proxied))


def test_another_name_or_client_is_still_asked(proxied: Service) -> None:
    assert guess(proxied, number=4)[-1] == 429
    assert guess(proxied, client="192.0.2.2") == [200]
    assert guess(proxied, "sha512") == [200]
    assert good(proxied, client="192.0.2.3").json["valid"] is True


def test_names_that_mean_one_account_are_counted_as_one(proxied: Service) -> None:
    assert guess(proxied, "des ") + guess(proxied, " des") + guess(proxied, "des") == [
        200,
        200,
        200,
    ]
    assert_throttled(good(proxied))


def test_a_right_password_whose_account_is_expired_counts_as_a_refusal(proxied: Service) -> None:
    assert [good(proxied, "des.expired").status for _ in range(4)] == [200, 200, 200, 429]


def test_success_clears_the_count_of_its_own_client_only(proxied: Service) -> None:
    guess(proxied, number=2, client="192.0.2.1")
    guess(proxied, number=2, client="192.0.2.2")
    assert good(proxied, client="192.0.2.1").json["valid"] is True
    assert guess(proxied, number=4, client="192.0.2.1") == [200, 200, 200, 429]
    assert guess(proxied, number=2, client="192.0.2.2") == [200, 429]


def test_nothing_but_success_clears_a_count(proxied: Service) -> None:
    guess(proxied, number=3)
    for _ in range(3):
        assert_throttled(good(proxied))
    proxied.request("GET", "/ready")
    proxied.request("POST", "/validate", b"no json", {"Authorization": f"Bearer {TOKEN}"})
    assert_throttled(good(proxied))


def test_a_fault_of_pam_counts_for_nobody(proxied: Service, etc: Etc) -> None:
    etc.pam("ugos-auth-proxy", "auth required pam_not_there.so\n" + PLAIN)
    assert guess(proxied, number=6) == [503] * 6
    etc.pam("ugos-auth-proxy", PLAIN)
    assert guess(proxied, number=4) == [200, 200, 200, 429]


@pytest.mark.parametrize("name", ["des", "no.such.user", "yescrypt"])
def test_50_wrong_guesses_at_once_get_exactly_max_failures_verdicts(
    start: Start, name: str
) -> None:
    service = start(MAX_FAILURES=7)
    answers = parallel(lambda _: service.validate(name, WRONG), range(50))
    assert collections.Counter(answer.status for answer in answers) == {200: 7, 429: 43}
    assert all(answer.json == (INVALID if answer.status == 200 else TOO_MANY) for answer in answers)


def test_right_logins_at_once_are_all_asked_where_one_refusal_would_be_too_many(
    start: Start,
) -> None:
    service = start(MAX_FAILURES=1)
    answers = parallel(lambda _: service.validate("des", right("des")).json, range(32))
    assert answers == [{"valid": True, "username": "des"}] * 32


def test_guesses_at_once_from_many_clients_end_at_the_ceiling(start: Start) -> None:
    service = start(MAX_FAILURES=2, AUTH_TOKEN=TOKEN)
    clients = [f"198.51.100.{number}" for number in range(1, 61)]
    answers = parallel(lambda client: guess(service, client=client)[0], clients)
    assert collections.Counter(answers) == {200: 20, 429: 40}


def test_over_all_clients_a_served_name_has_a_ceiling_except_at_its_usual_places(
    proxied: Service,
) -> None:
    assert good(proxied, client="192.0.2.1").json["valid"] is True
    for number in range(10):
        assert guess(proxied, number=3, client=f"198.51.100.{number}") == [200, 200, 200]
    assert guess(proxied, client="198.51.100.99") == [429]
    assert_throttled(good(proxied, client="198.51.100.99"))
    assert good(proxied, client="192.0.2.1").json["valid"] is True
    assert guess(proxied, number=4, client="192.0.2.1") == [200, 200, 200, 429]
    assert good(proxied, "sha512", client="198.51.100.99").json["valid"] is True


@pytest.mark.parametrize("name", ["des", "no.such.user", "system", "root"])
def test_the_ceiling_over_all_clients_does_not_tell_which_names_are_served(
    proxied: Service, name: str
) -> None:
    answers = [status for n in range(12) for status in guess(proxied, name, 3, f"198.51.100.{n}")]
    assert answers == [200] * 30 + [429] * 6


NAMES = [f"made.up.{number}" for number in range(10)]


def test_a_client_has_a_ceiling_over_all_names_but_for_its_usual_ones(proxied: Service) -> None:
    """One password tried on many names."""
    assert good(proxied, "sha512").json["valid"] is True
    answers = [status for name in NAMES for status in guess(proxied, name, 3)]
    assert answers == [200] * 30
    for name in ("des", "no.such.user"):
        assert guess(proxied, name) == [429]
    assert_throttled(good(proxied))
    assert good(proxied, "sha512").json["valid"] is True
    assert guess(proxied, "sha512", 4) == [200, 200, 200, 429]
    assert good(proxied, client="192.0.2.2").json["valid"] is True


def test_guesses_at_once_at_many_names_end_at_the_ceiling_of_their_client(start: Start) -> None:
    service = start(MAX_FAILURES=2, AUTH_TOKEN=TOKEN)
    answers = parallel(lambda n: guess(service, f"made.up.{n}")[0], range(60))
    assert collections.Counter(answers) == {200: 20, 429: 40}


def test_success_clears_no_ceiling(proxied: Service) -> None:
    for name in ["sha512", "des", *NAMES[:8]]:
        guess(proxied, name, 2)
        assert good(proxied, "sha512").json["valid"] is True
    for name in NAMES[:5]:
        guess(proxied, name)
    guess(proxied, NAMES[9], 2)
    assert guess(proxied, "des", 4) == [200, 429, 429, 429]


def test_without_a_token_a_client_has_no_ceiling_over_all_names(start: Start) -> None:
    service = start(MAX_FAILURES=1)
    assert [guess(service, f"made.up.{number}") for number in range(12)] == [[200]] * 12


def test_success_leaves_the_refusals_of_its_username_counted_for_the_ceiling(
    proxied: Service,
) -> None:
    for number in range(10):
        guess(proxied, number=2, client=f"192.0.2.{number}")
        assert good(proxied, client=f"192.0.2.{number}").json["valid"] is True
    answers = [guess(proxied, client=f"198.51.100.{number}") for number in range(12)]
    assert answers == [[200]] * 10 + [[429]] * 2


def test_a_refusal_makes_no_place_a_usual_one(proxied: Service) -> None:
    assert guess(proxied, client="192.0.2.1") == [200]
    for number in range(10):
        guess(proxied, number=3, client=f"198.51.100.{number}")
    assert guess(proxied, client="192.0.2.1") == [429]
    assert guess(proxied, "sha512", client="192.0.2.2") == [200]
    for name in NAMES:
        guess(proxied, name, 3, client="192.0.2.2")
    assert guess(proxied, "sha512", client="192.0.2.2") == [429]


def test_a_refusal_from_a_usual_place_counts_for_the_ceiling(proxied: Service) -> None:
    assert good(proxied, client="192.0.2.1").status == 200
    guess(proxied, number=3, client="192.0.2.1")
    for number in range(9):
        guess(proxied, number=3, client=f"198.51.100.{number}")
    assert guess(proxied, client="198.51.100.99") == [429]


def test_the_window_slides_and_retry_after_says_when(start: Start) -> None:
    service = start(MAX_FAILURES=2, FAILURE_WINDOW=2)
    assert guess(service, number=2) == [200, 200]
    answer = good(service)
    assert_throttled(answer, window=2)
    time.sleep(int(answer.headers["Retry-After"]))
    assert good(service).json["valid"] is True


def test_a_429_does_not_lengthen_the_window(start: Start) -> None:
    service = start(MAX_FAILURES=1, FAILURE_WINDOW=2)
    assert guess(service) == [200]
    deadline = time.monotonic() + 30
    while good(service).status == 429:
        assert time.monotonic() < deadline


def test_a_429_takes_the_delay_too(start: Start) -> None:
    service = start(MAX_FAILURES=1, FAIL_DELAY="0.5")
    guess(service)
    began = time.monotonic()
    assert_throttled(good(service))
    assert time.monotonic() - began >= 0.5


def test_a_refusal_is_counted_before_its_delay(start: Start) -> None:
    """With the count raised after the delay, guesses sent within it would all be asked."""
    service = start(MAX_FAILURES=2, FAIL_DELAY="3")
    answers = parallel(lambda _: guess(service)[0], range(10))
    assert collections.Counter(answers) == {200: 2, 429: 8}


def test_zero_turns_it_off(start: Start) -> None:
    service = start(MAX_FAILURES=0)
    assert guess(service, number=30) == [200] * 30
    assert good(service).json["valid"] is True


# --- who the client is -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["des", "no.such.user"])
def test_without_a_token_a_forged_forwarded_address_counts_for_nothing(
    start: Start, name: str
) -> None:
    service = start(MAX_FAILURES=3)
    answers = [status for n in range(5) for status in guess(service, name, 1, f"198.51.100.{n}")]
    assert answers == [200, 200, 200, 429, 429]
    service.wait_for_log(f"event=verdict user={name} client=127.0.0.1 ")
    assert not any("198.51.100" in line for line in service.log_lines())


def test_without_a_token_clients_are_told_apart_by_their_own_address(start: Start) -> None:
    service = start(MAX_FAILURES=2)

    def tries(source: str) -> list[int]:
        return [service.validate("des", WRONG, source=source).status for _ in range(3)]

    assert tries("127.0.0.2") == tries("127.0.0.3") == [200, 200, 429]


def test_a_wrong_token_believes_no_forwarded_address_and_asks_nobody(proxied: Service) -> None:
    answer = proxied.validate(
        "des", right("des"), Authorization=f"Bearer {TOKEN}x", X_Forwarded_For="198.51.100.7"
    )
    assert answer.status == 401
    proxied.wait_for_log("event=request client=127.0.0.1 ")
    assert not any(
        "event=verdict" in line or "198.51.100.7" in line for line in proxied.log_lines()
    )


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("2001:DB8::0:7", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 192.0.2.8", "127.0.0.1"),
        ("192.0.2.7,", "127.0.0.1"),
        ("192.0.2.7:80", "127.0.0.1"),
        ("[2001:db8::7]", "127.0.0.1"),
        ("fe80::1%eth0", "127.0.0.1"),
        ("192.0.2.07", "127.0.0.1"),
        ("192.0.2.0/24", "127.0.0.1"),
        ("3221225991", "127.0.0.1"),
        ("192.0.2.7 user=root", "127.0.0.1"),
        ("unknown", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
    ids=ascii,
)
def test_with_the_token_exactly_one_valid_address_is_believed(
    proxied: Service, header: str, client: str
) -> None:
    proxied.validate("no.such.user", WRONG, X_Forwarded_For=header)
    assert f" client={client} " in proxied.wait_for_log("event=verdict ")
    assert f" client={client} " in proxied.wait_for_log("event=request ")


def test_two_forwarded_headers_are_not_one_address(proxied: Service) -> None:
    with proxied.connect() as connection:
        connection.sendall(
            b"POST /validate HTTP/1.1\r\nHost: nas\r\nContent-Type: application/json\r\n"
            b"Content-Length: 46\r\nConnection: close\r\nAuthorization: Bearer "
            + TOKEN.encode()
            + b"\r\n"
            b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 192.0.2.8\r\n\r\n"
            b'{"username": "no.such.user", "password": "wr"}'
        )
        assert b" 200 " in connection.recv(4096)
    assert " client=127.0.0.1 " in proxied.wait_for_log("event=verdict ")


def test_pam_is_told_the_clients_address(proxied: Service, etc: Etc) -> None:
    etc.script("rhost", '[ "$PAM_RHOST" = 192.0.2.7 ] && [ -n "$PAM_TTY" ]\n')
    etc.pam("ugos-auth-proxy", "auth requisite pam_exec.so quiet /etc/rhost\n" + PLAIN)
    assert good(proxied, client="192.0.2.7").json["valid"] is True
    assert good(proxied, client="::ffff:192.0.2.7").json["valid"] is True
    assert good(proxied, client="192.0.2.8").json.get("valid") is False


def test_ipv6_clients_are_counted_by_their_64_and_mapped_ones_as_ipv4(proxied: Service) -> None:
    answers = [guess(proxied, client=f"2001:db8:1:2:{n}::{n}")[0] for n in range(1, 6)]
    assert answers == [200, 200, 200, 429, 429]
    assert guess(proxied, client="2001:db8:1:3::1") == [200]
    mixed = ["192.0.2.9", "::ffff:192.0.2.9", "::ffff:c000:209", "192.0.2.9"]
    assert [guess(proxied, client=client)[0] for client in mixed] == [200, 200, 200, 429]
    assert guess(proxied, client="192.0.2.10") == [200]


# --- the tables --------------------------------------------------------------------------------

REFUSED = main.Verdict("Invalid credentials", "PAM_AUTH_ERR")


def asks(
    throttle: main.Throttle,
    name: str,
    client: str = "192.0.2.1",
    served: bool = True,
    says: Any = REFUSED,
) -> int:
    """Ask once; the status that the login is answered with."""
    try:
        assert throttle.admit(name, client, served)
    except main.Error as error:
        return error.status
    throttle.settle(name, client, served, says)
    return 200


def test_made_up_names_never_push_out_the_count_of_an_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(main.Table, "SIZE", 5)
    throttle = main.Throttle(2, 300, by_client=False)
    assert [asks(throttle, "des") for _ in range(2)] == [200, 200]
    for number in range(100):
        assert asks(throttle, f"made.up.{number}", served=False) == 200
    assert asks(throttle, "des") == 429
    assert asks(throttle, "made.up.99", served=False) == 200
    assert asks(throttle, "made.up.99", served=False) == 429


def test_many_clients_never_push_out_the_count_of_a_name_that_is_not_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be told from a served one by that."""
    monkeypatch.setattr(main.Table, "SIZE", 5)
    throttle = main.Throttle(2, 300, by_client=False)
    for name in ("a", "b", "c", "d"):
        for number in range(6):
            assert asks(throttle, name, f"198.51.100.{number}", served=False) == 200
    assert [asks(throttle, "a", served=False) for _ in range(3)] == [200, 200, 429]


def test_the_tables_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main.Table.SIZE == 20_000
    monkeypatch.setattr(main.Table, "SIZE", 5)
    throttle = main.Throttle(1, 300, by_client=True)
    for number in range(20):
        client = f"198.51.100.{number}"
        assert asks(throttle, f"account{number}", client) == 200
        asks(throttle, f"made.up.{number}", client, served=False)
        asks(throttle, f"usual{number}", client, says=main.Verdict("", "PAM_SUCCESS"))
    tables = [throttle.networks, throttle.usual, *throttle.usernames.values()]
    assert [len(table) for table in tables] == [5] * 4
    answers = [asks(throttle, f"account{n}", f"198.51.100.{n}") for n in range(15, 20)]
    assert answers == [429] * 5
    assert asks(throttle, "account0", "198.51.100.0") == 200
    assert not throttle.pending


def test_what_has_left_the_window_leaves_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle, now = main.Throttle(10, 300, by_client=True), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number in range(100):
        asks(throttle, f"made.up.{number}", f"198.51.100.{number}", served=False)
    now += 301
    asks(throttle, "made.up.0", "198.51.100.0", served=False)
    assert [len(throttle.usernames[False]), len(throttle.networks)] == [1, 1]
