"""AUTH_TOKEN: who may ask, and whose word on the client's address counts."""

from pathlib import Path

import pytest
from etc import right
from secrecy import TOKEN, WRONG, keep_secret
from service import Response, Service, Start

LOGIN = {"username": "des", "password": right("des")}


@pytest.fixture
def guarded(start: Start) -> Service:
    return start(AUTH_TOKEN=TOKEN)


def ask(service: Service, authorization: str | None) -> Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return service.request("POST", "/validate", LOGIN, headers)


def test_without_a_token_nobody_is_asked_for_one(service: Service) -> None:
    assert ask(service, None).json["valid"] is True
    assert ask(service, f"Bearer {TOKEN}").json["valid"] is True


def test_the_right_token_lets_in(guarded: Service) -> None:
    assert ask(guarded, f"Bearer {TOKEN}").json == {"valid": True, "username": "des"}
    user = guarded.request(
        "GET", "/user-info?username=des", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert user.json["exists"] is True


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_case_insensitive(guarded: Service, scheme: str) -> None:
    assert ask(guarded, f"{scheme} {TOKEN}").json["valid"] is True


WRONG_TOKENS = {
    "missing": None,
    "empty": "",
    "the scheme alone": "Bearer",
    "an empty token": "Bearer ",
    "the token alone": TOKEN,
    "another scheme": f"Basic {TOKEN}",
    "no space": f"Bearer{TOKEN}",
    "a shorter one": f"Bearer {TOKEN[:-1]}",
    "a longer one": f"Bearer {TOKEN}x",
    "another case": f"Bearer {TOKEN.upper()}",
    "two": f"Bearer {TOKEN}, Bearer {TOKEN}",
    "twice the scheme": f"Bearer Bearer {TOKEN}",
    "not ASCII": f"Bearer {TOKEN}\xe9",
}


@pytest.mark.parametrize("authorization", WRONG_TOKENS.values(), ids=WRONG_TOKENS)
def test_any_other_token_gets_401(guarded: Service, authorization: str | None) -> None:
    answer = ask(guarded, authorization)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json == {"valid": False, "error": answer.json["error"]}
    assert "verdict" not in "\n".join(guarded.log_lines()), "PAM was asked"


def test_user_info_gets_401_in_its_own_shape(guarded: Service) -> None:
    for method in ("GET", "HEAD"):
        answer = guarded.request(method, "/user-info?username=des")
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert method == "HEAD" or answer.json == {"exists": False, "error": answer.json["error"]}


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_and_ready_need_no_token(guarded: Service, path: str) -> None:
    assert guarded.request("GET", path).status == 200
    assert guarded.request("GET", path, headers={"Authorization": "Bearer wrong"}).status == 200


@pytest.mark.parametrize("newline", ["", "\n", "\r\n"])
def test_the_token_may_come_from_a_file(start: Start, tmp_path: Path, newline: str) -> None:
    (tmp_path / "token").write_text(TOKEN + newline, newline="")
    service = start(AUTH_TOKEN_FILE=tmp_path / "token")
    assert ask(service, None).status == 401
    assert ask(service, f"Bearer {TOKEN}").json["valid"] is True


@pytest.mark.parametrize(
    "token",
    ["Sixteen-visible!", "".join(map(chr, range(0x21, 0x7F)))],
    ids=["16 characters", "all visible"],
)
def test_a_token_is_16_or_more_visible_characters(start: Start, token: str) -> None:
    service = start(AUTH_TOKEN=keep_secret(token))
    assert ask(service, f"Bearer {token}").status == 200
    assert ask(service, f"Bearer {token[:-1]}").status == 401


def client_of(service: Service, forwarded: str, status: int = 200, **headers: str) -> str:
    """The client that the log names for a login with this X-Forwarded-For."""
    seen = len(service.log_lines())
    assert (
        service.validate("des", right("des"), X_Forwarded_For=forwarded, **headers).status == status
    )
    line = service.wait_for_log("event=verdict" if status == 200 else "event=request", after=seen)
    return line.partition("client=")[2].partition(" ")[0]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::0:7", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7\t", "192.0.2.7"),
    ],
)
def test_with_the_token_the_client_is_who_is_forwarded(
    guarded: Service, forwarded: str, client: str
) -> None:
    assert client_of(guarded, forwarded) == client


@pytest.mark.parametrize(
    "forwarded",
    [
        "",
        "192.0.2.7, 192.0.2.8",
        "192.0.2.7,",
        "192.0.2",
        "192.0.2.07",
        "fe80::1%eth0",
        "nas",
        "192.0.2.7:80",
        "[::1]",
    ],
)
def test_what_is_not_exactly_one_address_is_not_believed(guarded: Service, forwarded: str) -> None:
    assert client_of(guarded, forwarded) == "127.0.0.1"


def test_without_the_token_nobody_is_believed(service: Service, guarded: Service) -> None:
    assert client_of(service, "192.0.2.7") == "127.0.0.1"
    assert client_of(service, "192.0.2.7", Authorization=f"Bearer {TOKEN}") == "127.0.0.1"
    assert client_of(guarded, "192.0.2.7", 401, Authorization=f"Bearer {WRONG * 3}") == "127.0.0.1"
