"""SIGHUP: the certificate with its key, and the token's file, are read anew, each by itself."""

import shutil
import signal
import socket
import ssl
from pathlib import Path

import pytest
from etc import right
from secrecy import keep_secret
from service import Service, Start
from test_tls import Pair, make_pair
from wire import HEALTH, Wire

OLD, NEW = keep_secret("the-old-token-of-the-tests"), keep_secret("the-new-token-of-the-tests")


def reload(service: Service) -> list[str]:
    """Send the signal; the lines that it leaves in the log."""
    before = len(service.log_lines())
    service.process.send_signal(signal.SIGHUP)
    service.wait_for_log("level=INFO event=reload ", before)
    return [line for line in service.log_lines()[before:] if "event=reload" in line]


def status(service: Service, token: str) -> int:
    bearer = {"Authorization": f"Bearer {token}"}
    return service.request("GET", "/user-info?username=des", headers=bearer).status


def certificate(service: Service) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection((service.host, service.port))) as connection:
        shown = connection.getpeercert(binary_form=True)
    assert shown
    return shown


def pem(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_a_new_token_is_taken_up_and_the_old_one_is_refused(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(OLD + "\n")
    service = start(AUTH_TOKEN_FILE=file)
    assert (status(service, OLD), status(service, NEW)) == (200, 401)
    file.write_text(NEW + "\n")
    assert status(service, NEW) == 401, "not before the signal"
    assert len(reload(service)) == 1
    assert (status(service, OLD), status(service, NEW)) == (401, 200)


@pytest.mark.parametrize("content", ["", "too-short\n", None], ids=["empty", "short", "missing"])
def test_a_token_file_that_cannot_be_used_is_an_error_and_the_old_one_goes_on(
    start: Start, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "token"
    file.write_text(OLD)
    service = start(AUTH_TOKEN_FILE=file)
    file.unlink() if content is None else file.write_text(content)
    error, _ = reload(service)
    assert "level=ERROR" in error
    assert "AUTH_TOKEN_FILE" in error
    assert status(service, OLD) == 200


def renewed(pair: Pair, folder: Path) -> Pair:
    """Another pair, in the place of the first."""
    folder.mkdir()
    new = make_pair(folder)
    shutil.copy(new.cert, pair.cert)
    shutil.copy(new.key, pair.key)
    return new


def test_a_renewed_certificate_is_shown_to_new_connections_and_cuts_no_old_one(
    start: Start, tmp_path: Path
) -> None:
    pair = make_pair(tmp_path)
    service = start(TLS_CERT=pair.cert, TLS_KEY=pair.key)
    first = certificate(service)
    trusted = ssl.create_default_context(cafile=str(pair.cert))
    old = Wire(trusted.wrap_socket(service.connect(), server_hostname="127.0.0.1"))
    new = renewed(pair, tmp_path / "new")
    assert certificate(service) == first
    reload(service)
    assert certificate(service) == pem(new.cert) != first
    with old:
        assert old.send(HEALTH).answer().status == 200


def test_a_certificate_without_its_key_is_an_error_and_the_old_pair_goes_on(
    start: Start, tmp_path: Path
) -> None:
    """As when the signal comes between the two files; the token is read all the same."""
    pair, token = make_pair(tmp_path), tmp_path / "token"
    token.write_text(OLD)
    service = start(TLS_CERT=pair.cert, TLS_KEY=pair.key, AUTH_TOKEN_FILE=token)
    first = certificate(service)
    key = pair.key.read_text()
    renewed(pair, tmp_path / "new")
    pair.key.write_text(key)
    token.write_text(NEW)
    error, done = reload(service)
    assert "level=ERROR" in error
    assert "TLS_CERT" in error
    assert "level=INFO" in done
    assert certificate(service) == first
    trusted = ssl.create_default_context()
    trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
    head = (
        f"GET /user-info?username=des HTTP/1.1\r\nHost: nas\r\nAuthorization: Bearer {NEW}\r\n\r\n"
    )
    with Wire(trusted.wrap_socket(service.connect())) as wire:
        assert wire.send(head.encode()).answer().status == 200


def test_with_nothing_to_read_it_goes_on(start: Start) -> None:
    service = start()
    reload(service)
    assert service.validate("des", right("des")).json["valid"] is True
