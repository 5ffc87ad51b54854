"""The client `checkpassword`: its modes, what it believes, and how it ends."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import jwt
import pytest

from authserver import signing
from authserver.accounts.models import Domain, Permission
from authserver.domains.keys import make_key
from tests.processes import BOUND, free_port, keep_secret
from tests.server import PASSWORD, Server

CHECKPASSWORD = str(Path(sys.executable).with_name("checkpassword"))
TOKEN = keep_secret("the-token-of-checkpassword")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("authclient"), CHECKPASSWORD_TOKEN=TOKEN, MAX_FAILURES=0
    )
    maria = running.make_user("maria")
    with running.database():
        maria.permissions.add(Permission.objects.create(name="Photos", permission_name="photos"))
        make_key(Domain.objects.create(name="localhost"), "jwt", "tests")
        make_key(
            Domain.objects.create(name="signs.example", jwt_sign_subdomains=True), "jwt", "tests"
        )
    (running.folder / "token").write_text(TOKEN + "\n")
    yield running
    running.stop()


def run(
    *arguments: object,
    stdin: str = "",
    three: bytes | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The command; `three` is what comes at descriptor 3, which is closed where it is None."""
    command = [CHECKPASSWORD, *map(str, arguments)]
    with tempfile.NamedTemporaryFile() as file:
        if three is not None:
            file.write(three)
            file.flush()
            command = ["sh", "-c", 'exec 3<"$0"; exec "$@"', file.name, *command]
        return subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], **(environment or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )


@pytest.fixture
def key(server: Server, tmp_path: Path) -> Path:
    path = tmp_path / "key"
    done = run("-m", "init", "-u", f"{server.base}/getkey/", "--jwtkey", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return path


def endpoint(server: Server, key: Path, *arguments: object) -> tuple[object, ...]:
    return ("-u", f"{server.base}/checkpassword/", "--jwtkey", key, *arguments)


# --- init and check ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pubkey", "cert"])
def test_init_writes_the_key_and_again_changes_nothing(
    server: Server, tmp_path: Path, form: str
) -> None:
    arguments = ("-u", f"{server.base}/getkey/", "--jwtkey", tmp_path / "key", "-f", form)
    assert run("-m", "check", *arguments).returncode == 0  # there is no file
    assert not (tmp_path / "key").exists()
    assert run("-m", "init", *arguments).returncode == 0
    before = (tmp_path / "key").stat()
    assert run("-m", "init", *arguments).returncode == 0
    assert (tmp_path / "key").stat() == before or before.st_ino == (tmp_path / "key").stat().st_ino
    assert run("-m", "check", *arguments).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_init_writes_over_another_key_and_check_says_that_it_is_one(
    server: Server, key: Path
) -> None:
    other = signing.public_pem(signing.make_private_key())
    for content in (other, "no key\n"):
        key.write_text(content)
        arguments = ("-u", f"{server.base}/getkey/", "--jwtkey", key)
        assert run("-m", "check", *arguments).returncode == 1
        assert key.read_text() == content
        assert run("-m", "init", *arguments).returncode == 0
        assert key.read_text() != content


def test_init_writes_to_stdout(server: Server) -> None:
    done = run("-m", "init", "-u", f"{server.base}/getkey/", "--jwtkey", "-")
    assert done.returncode == 0
    assert done.stdout.startswith("-----BEGIN PUBLIC KEY-----\n")


@pytest.mark.parametrize("mode", ["init", "check"])
def test_how_init_and_check_end(server: Server, key: Path, mode: str) -> None:
    before = key.read_bytes()
    url = ("-u", f"{server.base}/getkey/")
    assert run("-m", mode, *url, "--jwtkey", key, "--domain", "unknown.example").returncode == 1
    nowhere = f"http://127.0.0.1:{free_port()}/getkey/"
    assert run("-m", mode, "-u", nowhere, "--jwtkey", key).returncode == 2
    assert run("-m", mode, "-u", f"{server.base}/nothing/", "--jwtkey", key).returncode in (1, 3)
    assert run("-m", mode, "-u", f"{server.base}/health/", "--jwtkey", key).returncode == 3
    assert run("-m", mode, "--jwtkey", key).returncode == 3
    assert key.read_bytes() == before
    assert run("-m", "init", *url, "--jwtkey", key.parent / "none/key").returncode == 3


# --- Apache --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "password", "scopes", "status"),
    [
        ("maria", PASSWORD, [], 0),
        ("maria", PASSWORD, ["photos"], 0),
        ("maria", PASSWORD, ["photos", "x"], 1),
        ("maria", "wrong password", [], 1),
        ("maria", "", [], 1),
        ("nobody", PASSWORD, [], 1),
        ("", PASSWORD, [], 1),
    ],
)
def test_authext_by_pipe_and_by_environment(
    server: Server, key: Path, name: str, password: str, scopes: list[str], status: int
) -> None:
    arguments = endpoint(server, key, "-m", "authext", *(f"--scope={scope}" for scope in scopes))
    assert run(*arguments, stdin=f"{name}\n{password}\n").returncode == status
    assert run(*arguments, environment={"USER": name, "PASS": password}).returncode == status


@pytest.mark.parametrize(
    ("groups", "status"), [("photos", 0), ("a photos", 0), ("a b", 1), ("", 1)]
)
def test_one_of_the_groups_is_enough(server: Server, key: Path, groups: str, status: int) -> None:
    arguments = endpoint(server, key, "-m", "authextgroup", "--token-file", server.folder / "token")
    assert run(*arguments, stdin=f"maria\n{groups}\n").returncode == status
    environment = {"USER": "maria", "GROUP": groups}
    assert run(*arguments, environment=environment).returncode == status
    assert run(*arguments, stdin=f"nobody\n{groups}\n").returncode == 1


def test_groups_need_the_token(server: Server, key: Path) -> None:
    done = run(*endpoint(server, key, "-m", "authextgroup"), stdin="maria\nphotos\n")
    assert done.returncode == 3


def test_a_parent_s_key_signs_for_a_subdomain(server: Server, tmp_path: Path) -> None:
    key = tmp_path / "key"
    domain = ("--domain", "a.signs.example")
    run("-m", "init", "-u", f"{server.base}/getkey/", "--jwtkey", key, *domain)
    arguments = endpoint(server, key, "-m", "authext")
    assert run(*arguments, *domain, stdin=f"maria\n{PASSWORD}\n").returncode == 0
    # the same key, but the answer is in another domain's name
    assert run(*arguments, stdin=f"maria\n{PASSWORD}\n").returncode == 3


def test_an_unknown_domain_is_3_and_111(server: Server, key: Path) -> None:
    arguments = endpoint(server, key, "--domain", "unknown.example")
    assert run(*arguments, "-m", "authext", stdin=f"maria\n{PASSWORD}\n").returncode == 3
    assert run(*arguments, three=f"maria\0{PASSWORD}\0t\0".encode()).returncode == 111


# --- DJB and Dovecot -----------------------------------------------------------------------------


def test_a_right_password_runs_the_program_with_who_it_is(server: Server, key: Path) -> None:
    environment = {"PASS": "a secret", "userdb_uid": "0", "KEPT": "1"}
    three = f"MARIA\0{PASSWORD}\0t\0".encode()
    done = run(*endpoint(server, key, "env"), three=three, environment=environment)
    assert done.returncode == 0
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert (found["USER"], found["HOME"], found["KEPT"]) == ("maria", "/", "1")
    assert found["SHELL"]
    assert not found.keys() & {"PASS", "userdb_uid", "EXTRA", "AUTHORIZED"}


def test_the_program_has_its_arguments_and_other_descriptors(server: Server, key: Path) -> None:
    three = f"maria\0{PASSWORD}\0t\0".encode()
    program = ("sh", "-c", 'echo "$1"; (: <&3) 2>/dev/null && echo open; exit 7', "sh", "-x y")
    done = run(*endpoint(server, key, *program), three=three)
    assert (done.returncode, done.stdout) == (7, "-x y\n")
    assert run(*endpoint(server, key, "/nonexistent"), three=three).returncode == 111
    assert run(*endpoint(server, key), three=three).returncode == 0


@pytest.mark.parametrize(
    ("three", "status"),
    [
        (f"maria\0{PASSWORD}\0".encode(), 0),
        (b"maria\0wrong password\0t\0", 1),
        (b"nobody\0wrong password\0t\0", 1),
        (b"\0x\0t\0", 1),
        (b"maria\0\xff\xfe\0t\0", 1),
        (b"maria\0" + b"x" * 600 + b"\0t\0", 1),
        (b"maria\0x", 2),
        (b"", 2),
        (None, 2),
    ],
)
def test_how_djb_s_interface_ends(
    server: Server, key: Path, three: bytes | None, status: int
) -> None:
    done = run(*endpoint(server, key, "echo", "reached"), three=three)
    assert done.returncode == status
    assert ("reached" in done.stdout) is (status == 0)


def test_dovecot_looks_up_a_user_without_a_password(server: Server, key: Path) -> None:
    arguments = endpoint(server, key, "--token-file", server.folder / "token")
    userdb = ("--userdb-uid", "5000", "--userdb-gid", "vmail", "--userdb-home", "/mail/%u")
    environment = {"AUTHORIZED": "1"}

    def look_up(name: str, *more: object) -> subprocess.CompletedProcess[str]:
        three = f"{name}\0\0t\0".encode()
        return run(*arguments, *more, "env", three=three, environment=environment)

    done = look_up("maria", *userdb)
    assert done.returncode == 0
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert found["AUTHORIZED"] == "2"
    assert (found["userdb_uid"], found["userdb_gid"]) == ("5000", "vmail")
    assert found["HOME"] == found["userdb_home"] == "/mail/maria"
    assert found["EXTRA"].split() == ["userdb_uid", "userdb_gid", "userdb_home"]
    assert look_up("nobody", *userdb).returncode == 3
    assert look_up("maria").returncode == 111


# --- What is believed ----------------------------------------------------------------------------


class Liar(BaseHTTPRequestHandler):
    """A server that answers `lie(fields)`: a status and a body."""

    lie: ClassVar[Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.lie(body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        pass


KEY, OTHER_KEY = signing.make_private_key(), signing.make_private_key()


@pytest.fixture
def lying(tmp_path: Path) -> Iterator[tuple[object, ...]]:
    listener = HTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    key = tmp_path / "key"
    key.write_text(signing.public_pem(KEY))
    yield ("-u", f"http://localhost:{listener.server_port}/", "--jwtkey", key, "-m", "authext")
    listener.shutdown()
    listener.server_close()
    thread.join()


def answer_of(fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "sub": fields["username"],
        "canonical_username": "maria",
        "authenticated": True,
        "authorized": True,
        "scopes": [],
        "nbf": now - 5,
        "exp": now + 3600,
        "iss": "localhost",
        "aud": "net.maurus.authclient",
        "nonce": fields["nonce"],
    }
    claims |= changes
    return {name: value for name, value in claims.items() if value is not None}


def test_a_right_answer_is_believed(lying: tuple[object, ...]) -> None:
    Liar.lie = lambda _, fields: (200, signing.sign(KEY, answer_of(fields)))
    assert run(*lying, stdin="maria\nx\n").returncode == 0


PAST = int(time.time()) - 3600


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "paul"}, {"sub": None}, {"nonce": "0" * 48}, {"nonce": None}, {"iss": "localhos"},
        {"iss": "host"}, {"iss": ""}, {"iss": None}, {"aud": "another"}, {"aud": None},
        {"exp": PAST}, {"exp": None}, {"nbf": int(time.time()) + 600}, {"nbf": None},
        {"authenticated": False}, {"authenticated": 1}, {"authenticated": None},
        {"authorized": None}, {"scopes": None}, {"scopes": "photos"},
    ],
)  # fmt: skip
def test_a_token_that_is_not_the_answer_is_not_believed(
    lying: tuple[object, ...], changes: dict[str, Any]
) -> None:
    Liar.lie = lambda _, fields: (200, signing.sign(KEY, answer_of(fields, **changes)))
    assert run(*lying, stdin="maria\nx\n").returncode == 3


def test_authorized_must_be_true(lying: tuple[object, ...]) -> None:
    Liar.lie = lambda _, fields: (200, signing.sign(KEY, answer_of(fields, authorized="yes")))
    assert run(*lying, stdin="maria\nx\n").returncode == 1


def forged(fields: dict[str, Any]) -> list[str]:
    claims = answer_of(fields)
    return [
        signing.sign(OTHER_KEY, claims),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "x" * 32, algorithm="HS256"),
        jwt.encode(claims, signing.load(KEY), algorithm="PS256"),
        jwt.encode(claims, signing.load(KEY), algorithm="RS512"),
        signing.sign(KEY, claims)[:-4] + "AAAA",
        "",
        "no token",
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_token_by_another_key_or_algorithm_is_not_believed(
    lying: tuple[object, ...], number: int
) -> None:
    Liar.lie = lambda _, fields: (200, forged(fields)[number])
    assert run(*lying, stdin="maria\nx\n").returncode == 3


@pytest.mark.parametrize(
    ("status", "exit_status"),
    [(401, 1), (503, 2), (302, 3), (403, 3), (404, 3), (429, 3), (500, 3)],
)
def test_what_the_server_s_status_comes_to(
    lying: tuple[object, ...], status: int, exit_status: int
) -> None:
    Liar.lie = lambda _, fields: (status, signing.sign(KEY, answer_of(fields)))
    assert run(*lying, stdin="maria\nx\n").returncode == exit_status
    djb = run(*lying[:-2], three=b"maria\0x\0t\0")
    assert djb.returncode == (1 if status == 401 else 111)


def test_an_answer_that_is_too_large_is_not_read(lying: tuple[object, ...]) -> None:
    Liar.lie = lambda _, _fields: (200, "x" * 200_000)
    assert run(*lying, stdin="maria\nx\n").returncode == 3


# --- Misuse --------------------------------------------------------------------------------------


def test_a_password_goes_by_https_only(key: Path) -> None:
    arguments = ("-u", "http://login.example.org/checkpassword/", "--jwtkey", key)
    assert run(*arguments, "-m", "authext", stdin="maria\nx\n").returncode == 3
    assert run(*arguments, three=b"maria\0x\0t\0").returncode == 2


@pytest.mark.parametrize(
    "url", ["https://a..b/", f"https://{'x' * 64}/", "https://[::1/", "https:"]
)
def test_a_url_that_is_none_is_a_misuse(key: Path, url: str) -> None:
    arguments = ("-u", url, "--jwtkey", key)
    assert run(*arguments, "-m", "authext", stdin="maria\nx\n").returncode == 3
    djb = run(*arguments, three=b"maria\0x\0t\0")
    assert djb.returncode == 2
    assert "Traceback" not in djb.stderr


def test_a_fault_is_never_a_wrong_password(server: Server, key: Path) -> None:
    """An argument that is no UTF-8 is what nobody has thought of."""
    arguments = (*endpoint(server, key), "--domain", os.fsdecode(b"\xff"))
    for mode in ("init", "check"):
        done = run("-m", mode, "-u", f"{server.base}/getkey/", *arguments[2:])
        assert done.returncode == 3
        assert "Traceback" not in done.stderr
    assert run(*arguments, three=f"maria\0{PASSWORD}\0t\0".encode()).returncode == 111


def of_unknown_kind() -> str:
    """A public key whose algorithm (an object identifier, RFC 8017) nobody knows."""
    head, *lines, foot = signing.public_pem(signing.make_private_key()).strip().split("\n")
    rsa = bytes.fromhex("2a864886f70d010101")
    der = base64.b64decode("".join(lines)).replace(rsa, rsa[:-1] + b"\x63")
    return "\n".join([head, base64.b64encode(der).decode(), foot])


@pytest.mark.parametrize("content", [None, "no key", signing.make_private_key(), of_unknown_kind()])
def test_a_key_that_is_none_is_a_misuse(
    server: Server, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    arguments = endpoint(server, path)
    assert run(*arguments, "-m", "authext", stdin=f"maria\n{PASSWORD}\n").returncode == 3
    assert run(*arguments, three=f"maria\0{PASSWORD}\0t\0".encode()).returncode == 2


def test_unknown_options_end_as_the_mode_says(server: Server, key: Path) -> None:
    assert run(*endpoint(server, key, "--unknown")).returncode == 2
    assert run(*endpoint(server, key, "-m", "authext", "--unknown")).returncode == 3
    assert run("--version").stdout.startswith("checkpassword ")


def test_no_secret_is_said(server: Server, key: Path) -> None:
    arguments = endpoint(server, key, "-m", "authext", "--token-file", server.folder / "token")
    for name in ("maria", "nobody"):
        done = run(*arguments, stdin=f"{name}\na very secret password\n")
        assert "secret password" not in done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
