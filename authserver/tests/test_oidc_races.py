"""Codes and tokens used at once, over several processes that share one database."""

import datetime
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.browser import Browser
from tests.processes import free_port
from tests.relying_party import RelyingParty, signed_in
from tests.server import Server

AT_ONCE = 8  # requests, half of them to each of two servers


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two servers on one database. They have one issuer: the second answers in its name."""
    first = Server(tmp_path_factory.mktemp("first"))
    second = Server(
        tmp_path_factory.mktemp("second"),
        DATABASE_URL=first.environment["DATABASE_URL"],
        BASE_URL=first.base,
        PORT=free_port(),
    )
    yield [first, second]
    second.stop()
    first.stop()


@pytest.fixture(scope="module")
def browser(servers: list[Server]) -> Browser:
    return signed_in(servers[0])


@pytest.fixture(scope="module")
def application(servers: list[Server]) -> RelyingParty:
    return RelyingParty(servers[0], skip_authorization=True)


def at_once(servers: list[Server], act: Callable[[Any], Any]) -> list[Any]:
    """What `act(http)` gives in threads that begin together, each with a client of a server."""
    barrier, found = threading.Barrier(AT_ONCE), [None] * AT_ONCE

    def run(number: int) -> None:
        server = servers[number % len(servers)]
        host = {"Host": server.base.removeprefix("http://")}
        with httpx.Client(
            base_url=server.address, headers=host, trust_env=False, timeout=60
        ) as http:
            http.get("/health/")  # connected
            barrier.wait()
            found[number] = act(http)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def form_of(application: RelyingParty, **more: str) -> dict[str, str]:
    return {"client_id": application.client_id, "client_secret": application.secret, **more}


def ask(form: dict[str, str]) -> Callable[[Any], Any]:
    return lambda http: http.post("/o2/token/", data=form)


def winners(found: list[Any]) -> list[Any]:
    """The answers that were right; all others are `invalid_grant`."""
    for answer in found:
        if answer.status_code != 200:
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"] == "invalid_grant"
    return [answer.json() for answer in found if answer.status_code == 200]


def test_of_many_uses_of_a_code_one_wins_and_what_it_brought_is_revoked(
    servers: list[Server], browser: Browser, application: RelyingParty
) -> None:
    for _ in range(3):
        form = form_of(
            application,
            grant_type="authorization_code",
            code=application.code(browser, scope="openid offline_access"),
            redirect_uri=application.redirect_uri,
            code_verifier=application.verifier,
        )
        found = winners(at_once(servers, ask(form)))
        assert len(found) == 1
        assert not application.is_alive(found[0]["access_token"])
        assert not application.is_alive(found[0]["refresh_token"])


def test_of_many_uses_of_a_refresh_token_one_wins_and_the_family_lives(
    servers: list[Server], browser: Browser, application: RelyingParty
) -> None:
    token = application.tokens(browser)["refresh_token"]
    for _ in range(3):
        form = form_of(application, grant_type="refresh_token", refresh_token=token)
        found = winners(at_once(servers, ask(form)))
        assert len(found) == 1
        assert application.is_alive(found[0]["access_token"])
        token = found[0]["refresh_token"]


def test_reuse_and_use_at_once_leave_nothing_alive(
    servers: list[Server], browser: Browser, application: RelyingParty
) -> None:
    """An old token comes again while the newest is refreshed: whoever is first, the family ends."""
    from authserver.accounts.sessions import digest_of
    from authserver.oidc.models import Token

    for _ in range(3):
        old = application.tokens(browser)["refresh_token"]
        new = application.refresh(old).json()["refresh_token"]
        with servers[0].database():
            row = Token.objects.get(digest=digest_of(old))
            assert row.used_at
            row.used_at -= datetime.timedelta(minutes=1)
            row.save()
        turn = iter([old, new] * AT_ONCE)
        lock = threading.Lock()

        def act(http: Any, turn: Iterator[str] = turn, lock: threading.Lock = lock) -> Any:
            with lock:
                token = next(turn)
            form = form_of(application, grant_type="refresh_token", refresh_token=token)
            return http.post("/o2/token/", data=form)

        for tokens in winners(at_once(servers, act)):
            assert not application.is_alive(tokens["access_token"])
            assert not application.is_alive(tokens["refresh_token"])


def test_of_many_polls_of_a_device_one_wins(servers: list[Server], browser: Browser) -> None:
    television = RelyingParty(
        servers[0], client_type="public", grant_types=["device-code"], redirect_uris=[]
    )
    begun = television.post("/o2/device_authorization/", scope="openid").json()
    path = begun["verification_uri_complete"].removeprefix(servers[0].base)
    assert "connected" in browser.submit(path, allow="yes").text
    form = {
        "client_id": television.client_id,
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": begun["device_code"],
    }
    assert len(winners(at_once(servers, ask(form)))) == 1


def test_nothing_outlives_a_sign_out_everywhere_that_comes_at_once(
    servers: list[Server], application: RelyingParty
) -> None:
    """While codes are made and exchanged, and tokens refreshed, the user is signed out."""
    from authserver.accounts import users
    from authserver.accounts.models import User
    from authserver.oidc.models import Grant

    for number in range(3):
        name = f"hunted-{number}"
        browser = signed_in(servers[0], name)
        cookies = dict(browser.cookies)
        token = application.tokens(browser, scope="openid offline_access")["refresh_token"]
        begun = threading.Event()

        def act(http: Any, cookies: Any = cookies, token: Any = token, begun: Any = begun) -> Any:
            http.cookies.update(cookies)
            for _ in range(6):
                http.get(application.url(scope="openid offline_access"))
                begun.set()
                form = form_of(application, grant_type="refresh_token", refresh_token=token)
                answer = http.post("/o2/token/", data=form)
                if answer.status_code == 200:
                    token = answer.json()["refresh_token"]
            return answer

        others = threading.Thread(target=at_once, args=(servers, act))
        others.start()
        begun.wait(60)
        with servers[0].database():
            users.sign_out(User.objects.get(identifier=name), "tests")
        others.join()
        with servers[0].database():
            assert not Grant.objects.filter(user__identifier=name).exists()


def test_each_concurrent_answer_was_no_error_of_ours(servers: list[Server]) -> None:
    for server in servers:
        assert not [line for line in server.lines if '"level": "ERROR"' in line]


def test_a_sign_in_begun_on_one_goes_on_at_the_other(
    servers: list[Server], browser: Browser, application: RelyingParty
) -> None:
    code = application.code(browser)
    host = {"Host": servers[0].base.removeprefix("http://")}
    form = form_of(
        application,
        grant_type="authorization_code",
        code=code,
        redirect_uri=application.redirect_uri,
        code_verifier=application.verifier,
    )
    with httpx.Client(base_url=servers[1].address, headers=host, trust_env=False) as http:
        answer = http.post("/o2/token/", data=form)
        assert answer.status_code == 200
        header = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert http.get("/o2/userinfo/", headers=header).status_code == 200
