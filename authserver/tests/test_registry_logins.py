"""Who gets a token for a Docker registry: throttle, the NAS, and tokens of other kinds.

Time is not waited for: the row with the NAS's last answer is made older instead.
"""

import datetime
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from django.utils import timezone

from authserver.accounts import addresses, users
from authserver.accounts.models import NasStanding, User
from authserver.accounts.service_users import create_service_user
from authserver.registry import registries
from authserver.registry.models import RegistryRefreshToken
from tests.nas import EXPIRED, MUST_CHANGE, Nas
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.processes import BOUND, keep_secret
from tests.relying_party import RelyingParty, signed_in
from tests.server import PASSWORD, Server

SERVICE = "registry.example.org"
HTTP = httpx.Client(timeout=BOUND, trust_env=False)


def with_registry(server: Server) -> Server:
    with server.database():
        registries.create_registry(
            "tests",
            name="Family",
            client_id=SERVICE,
            domain=addresses.create_domain("example.org", "tests"),
            user_namespaces=True,
        )
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = with_registry(Server(tmp_path_factory.mktemp("server"), MAX_FAILURES=3))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nas]:
    running = Nas(tmp_path_factory.mktemp("nas"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, nas: Nas) -> Iterator[Server]:
    """A server with that NAS."""
    settings = {**nas.settings, "MAX_FAILURES": 0}
    running = with_registry(Server(tmp_path_factory.mktemp("home"), **settings))
    yield running
    running.stop()


def ask(server: Server, user: str = "", password: str = PASSWORD, **more: Any) -> httpx.Response:
    auth = (user, password) if user else None
    query = {"service": SERVICE, **more}
    return HTTP.get(f"{server.base}/docker/token/", params=query, auth=auth)


def post(server: Server, **form: Any) -> httpx.Response:
    return HTTP.post(f"{server.base}/docker/token/", data={"service": SERVICE, **form})


def refresh(server: Server, token: str) -> httpx.Response:
    return post(server, grant_type="refresh_token", refresh_token=token)


def login(server: Server, user: str, password: str = PASSWORD) -> str:
    """A refresh token, as `docker login` gets it."""
    answer = ask(server, user, password, offline_token="true", client_id="docker", account=user)
    assert answer.status_code == 200, answer.text
    return keep_secret(str(answer.json()["refresh_token"]))


def claims(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return found


def error(answer: httpx.Response) -> tuple[int, str, str]:
    """Its status, and the code and the message of the protocol's error body."""
    (found,) = answer.json()["errors"]
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, found["code"], found["message"]


# --- Names and passwords ---


def test_after_too_many_refusals_it_is_429_in_the_protocol_s_form(server: Server) -> None:
    dora = server.make_user("dora")
    with server.database():
        _, password = create_service_user(dora, "dora-builds", "", "tests")
    for _ in range(3):
        assert ask(server, "dora", "wrong guess").status_code == 401
    form = {"grant_type": "password", "username": "dora", "password": PASSWORD}
    for answer in (ask(server, "dora"), post(server, **form)):
        status, code, message = error(answer)
        assert (status, code) == (429, "TOOMANYREQUESTS")
        assert message.startswith("Too many failed logins. Try again in ")
        assert int(answer.headers["Retry-After"]) > 0
    assert claims(ask(server, "dora-builds", keep_secret(password)))["sub"] == "dora"


def test_a_service_user_s_password_is_not_throttled(server: Server) -> None:
    eli = server.make_user("eli")
    with server.database():
        _, password = create_service_user(eli, "eli-builds", "", "tests")
    for _ in range(5):
        assert ask(server, "eli-builds", "wrong guess").status_code == 401
    assert ask(server, "eli-builds", keep_secret(password)).status_code == 200


def test_a_login_may_be_an_address_in_any_spelling(server: Server) -> None:
    fay = server.make_user("Fay")
    with server.database():
        domain = addresses.find_domain("example.org")
        assert domain
        addresses.create_alias("fay.example", domain, fay, "tests")
    for name in ("fay", "FAY", "Fay.Example@EXAMPLE.org"):
        assert claims(ask(server, name))["sub"] == "Fay"


def test_the_account_that_a_program_names_is_not_who_it_is(server: Server) -> None:
    server.make_user("gil")
    scope = "repository:hal/x:pull repository:gil/x:pull"
    found = claims(ask(server, "gil", account="hal", scope=scope))
    assert found["sub"] == "gil"
    assert [entry["name"] for entry in found["access"]] == ["gil/x"]
    assert claims(ask(server, account="gil", scope=scope))["access"] == []


def test_what_no_database_takes_is_no_fault(server: Server) -> None:
    server.make_user("ina")
    assert ask(server, service="a\0b").status_code == 400
    assert ask(server, service="\ud7ff" * 300).status_code == 400
    assert ask(server, "i\0na").status_code == 401
    assert ask(server, "ina", scope="repository:\0:pull", account="\0").status_code == 200
    odd = ask(server, "ina", offline_token="true", client_id="d\0cker" * 50)
    assert refresh(server, keep_secret(odd.json()["refresh_token"])).status_code == 200
    assert refresh(server, "\0").status_code == 401


@pytest.mark.once
def test_other_methods_are_405_and_a_head_is_a_get_without_a_body(server: Server) -> None:
    url = f"{server.base}/docker/token/?service={SERVICE}"
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = HTTP.request(method, url)
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "GET, HEAD, POST"
    head = HTTP.head(url)
    assert (head.status_code, head.content) == (200, b"")
    for wanted in ("text/html", "application/xml"):
        answer = HTTP.get(url, headers={"Accept": wanted})
        assert answer.headers["content-type"] == "application/json"


# --- Tokens of other kinds ---


@pytest.fixture(scope="module")
def party(server: Server) -> RelyingParty:
    return RelyingParty(server, "Photos")


def test_a_token_of_oauth2_is_no_refresh_token_here(server: Server, party: RelyingParty) -> None:
    tokens = party.tokens(signed_in(server, "jon"), scope="openid offline_access")
    for kind in ("access_token", "refresh_token", "id_token"):
        assert error(refresh(server, tokens[kind]))[:2] == (401, "UNAUTHORIZED")
        assert ask(server, "jon", tokens[kind]).status_code == 401


def test_a_registry_s_token_is_nothing_in_oauth2(server: Server, party: RelyingParty) -> None:
    server.make_user("kim")
    kept = login(server, "kim")
    bearer = keep_secret(ask(server, "kim").json()["token"])
    for token in (kept, bearer):
        assert party.userinfo(token).status_code == 401
        assert party.introspect(token) == {"active": False}
        answer = party.refresh(token)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        party.post("/o2/revoke_token/", token=token)
    assert refresh(server, kept).status_code == 200


def test_a_changed_password_ends_what_docker_login_keeps(server: Server) -> None:
    lea = server.make_user("lea")
    token = login(server, "lea")
    with server.database():
        users.set_password(User.objects.get(pk=lea.pk), keep_secret("quite another one"), "tests")
    assert refresh(server, token).status_code == 401


def test_one_that_was_not_used_for_ninety_days_has_ended(server: Server) -> None:
    server.make_user("mia")
    token = login(server, "mia")
    with server.database():
        rows = RegistryRefreshToken.objects.filter(user__identifier="mia")
        rows.update(last_used=timezone.now() - datetime.timedelta(days=89))
        assert refresh(server, token).status_code == 200
        rows.update(last_used=timezone.now() - datetime.timedelta(days=91))
    assert refresh(server, token).status_code == 401


# --- The NAS ---


def make_older(server: Server, name: str, seconds: float) -> None:
    """Move the NAS's last answer back, and forget that a question has failed."""
    at = timezone.now() - datetime.timedelta(seconds=seconds)
    with server.database():
        rows = NasStanding.objects.filter(user__identifier=name)
        assert rows.update(answered_at=at, failed_at=None, asking_until=None) == 1


def test_an_account_of_the_nas_logs_in_with_its_password(home: Server, nas: Nas) -> None:
    nas.add_user("nora")
    assert ask(home, "nora", "wrong guess").status_code == 401
    found = claims(ask(home, "nora", NAS_PASSWORD, scope="repository:nora/x:push"))
    assert found["sub"] == "nora"
    assert found["access"] == [{"type": "repository", "name": "nora/x", "actions": ["push"]}]


def test_who_is_locked_on_the_nas_gets_no_token_more(home: Server, nas: Nas) -> None:
    nas.add_user("olga")
    token = login(home, "olga", NAS_PASSWORD)
    with home.database():
        owner = User.objects.get(identifier="olga")
        _, password = create_service_user(owner, "olga-builds", "", "tests")
    assert ask(home, "olga-builds", keep_secret(password)).status_code == 200
    nas.change("olga", locked=True)
    assert ask(home, "olga", NAS_PASSWORD).status_code == 401
    make_older(home, "olga", 61)
    assert error(refresh(home, token))[:2] == (401, "UNAUTHORIZED")
    assert ask(home, "olga-builds", password).status_code == 401
    nas.change("olga", locked=False)
    make_older(home, "olga", 61)
    assert refresh(home, token).status_code == 401  # it has ended for good
    assert ask(home, "olga-builds", password).status_code == 200


@pytest.mark.parametrize("aging", [EXPIRED, MUST_CHANGE])
def test_a_right_password_that_may_not_come_in_is_told_why(
    home: Server, nas: Nas, aging: str
) -> None:
    name = f"pat-{len(aging)}"
    nas.add_user(name, aging=aging)
    answer = ask(home, name, NAS_PASSWORD)
    status, code, message = error(answer)
    assert (status, code) == (401, "UNAUTHORIZED")
    assert "expired" in message
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_while_the_nas_cannot_be_reached_it_is_503(home: Server, nas: Nas) -> None:
    nas.add_user("ruth")
    token = login(home, "ruth", NAS_PASSWORD)
    nas.stop()
    try:
        make_older(home, "ruth", 61)
        assert refresh(home, token).status_code == 200  # its last answer counts for a while
        make_older(home, "ruth", 901)
        for answer in (refresh(home, token), ask(home, "ruth", NAS_PASSWORD)):
            status, code, message = error(answer)
            assert (status, code) == (503, "UNAVAILABLE")
            assert message == "The NAS cannot be reached. Try again later."
            assert int(answer.headers["Retry-After"]) > 0
    finally:
        nas.start()
    make_older(home, "ruth", 901)
    assert refresh(home, token).status_code == 200
