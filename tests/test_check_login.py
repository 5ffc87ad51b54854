"""deploy/check-login: one login at a terminal, with the token, and no secret on the screen."""

import os
import sys
from pathlib import Path

from etc import right
from secrecy import TOKEN, WRONG
from service import ROOT, Service, Start
from terminal import Session, converse
from test_tls import Pair, make_pair

NAME = "sha512"
LOGIN = (("Username: ", NAME), ("Password: ", right(NAME)))


def check(
    service: Service, answers: tuple[tuple[str, str], ...], *arguments: str, **env: str
) -> Session:
    """check-login as a person runs it beside a service."""
    beside = {"PATH": os.environ["PATH"], "HOST": service.host, "PORT": str(service.port)}
    command = [sys.executable, ROOT / "deploy/check-login", *arguments]
    return converse(command, answers, beside | env)


def test_a_right_password_and_the_account_are_shown(start: Start) -> None:
    session = check(start(), LOGIN)
    assert session.status == 0
    assert '200 {"valid": true, "username": "sha512"}' in session.shown
    assert '"uid": ' in session.shown


def test_a_wrong_password_is_said_and_the_status_tells_it(start: Start) -> None:
    session = check(start(), (LOGIN[0], ("Password: ", WRONG)))
    assert session.status == 1
    assert '200 {"valid": false, "error": "Invalid credentials"}' in session.shown


def test_the_token_of_the_environment_is_sent(start: Start, tmp_path: Path) -> None:
    service = start(AUTH_TOKEN=TOKEN)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    for given in ({"AUTH_TOKEN": TOKEN}, {"AUTH_TOKEN_FILE": str(tmp_path / "token")}):
        session = check(service, LOGIN, **given)
        assert session.status == 0
        assert TOKEN not in session.shown


def test_a_token_that_is_needed_is_asked_for_and_no_secret_is_shown(start: Start) -> None:
    service = start(AUTH_TOKEN=TOKEN)
    session = check(service, (LOGIN[0], ("Token: ", TOKEN), LOGIN[1]))
    assert session.status == 0
    assert TOKEN not in session.shown
    assert right(NAME) not in session.shown


def test_with_a_wrong_token_no_password_is_asked_for(start: Start) -> None:
    service = start(AUTH_TOKEN=TOKEN)
    for wrong in ("wrong-token-0123456789", "t\u00f6ken", "with\ta-tab"):
        session = check(service, (LOGIN[0], ("Token: ", wrong)))
        assert session.status == 1
        assert wrong not in session.shown
        assert "Password" not in session.shown
    session = check(service, LOGIN[:1], AUTH_TOKEN="wrong-token-0123456789")
    assert session.status == 1
    assert "401 " in session.shown


def test_where_nobody_listens_it_says_so_in_one_line(start: Start) -> None:
    service = start()
    service.stop()
    session = check(service, LOGIN[:1])
    assert session.status == 1
    assert "refused" in session.shown
    assert "Traceback" not in session.shown


def test_beside_a_service_with_a_certificate_it_asks_by_tls(start: Start, tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    service = start(TLS_CERT=pair.cert, TLS_KEY=pair.key)
    assert check(service, LOGIN, TLS_CERT=str(pair.cert)).status == 0


def test_an_https_url_is_asked_only_with_a_certificate_to_trust(
    start: Start, tmp_path: Path
) -> None:
    pair: Pair = make_pair(tmp_path)
    service = start(TLS_CERT=pair.cert, TLS_KEY=pair.key)
    url = f"https://127.0.0.1:{service.port}"
    assert check(service, LOGIN, url, SSL_CERT_FILE=str(pair.cert)).status == 0
    session = check(service, LOGIN[:1], url)
    assert session.status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in session.shown


def test_other_arguments_get_the_usage(start: Start) -> None:
    for arguments in (("ftp://nas",), ("--help",), ("http://nas", "x")):
        session = check(start(), (), *arguments)
        assert session.status == 2
        assert "usage: check-login" in session.shown
