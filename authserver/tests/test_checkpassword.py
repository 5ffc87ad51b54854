"""POST /checkpassword/: its three forms, what it judges first, and what its JWT says."""

import base64
import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import RSAKey
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from authserver.accounts.models import Domain, EmailAlias, Permission, ServiceUser, User
from authserver.accounts.service_users import create_service_user
from authserver.accounts.users import set_active
from authserver.domains.keys import make_key
from tests.processes import BOUND, LIMITS, keep_secret
from tests.server import PASSWORD, Server

TOKEN = keep_secret("the-token-of-checkpassword")
SERVICE_PASSWORD = keep_secret("abcd-efgh-ijkl-mnop")
HTTP = httpx.Client(timeout=BOUND, trust_env=False, limits=LIMITS)
NO = {"authenticated": False, "authorized": False}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("checkpassword"), CHECKPASSWORD_TOKEN=TOKEN, MAX_FAILURES=3
    )
    maria, gone = running.make_user("Maria"), running.make_user("gone")
    running.make_user("paul")
    with running.database():
        set_active(gone, False, "tests")
        domain = Domain.objects.create(name="example.org")
        mailbox = EmailAlias.objects.create(mailprefix="maria", domain=domain, user=maria)
        User.objects.filter(pk=maria.pk).update(delivery_mailbox=mailbox)
        for name in ("photos", "calendar"):
            maria.permissions.add(Permission.objects.create(name=name, permission_name=name))
        make_key(Domain.objects.create(name="localhost"), "jwt", "tests")
        create_service_user(maria, "scanner", "", "tests")
        digest = hashlib.sha256(SERVICE_PASSWORD.encode()).hexdigest()
        ServiceUser.objects.filter(username="scanner").update(digest=digest)
        Domain.objects.create(name="empty.example")
        signs = Domain.objects.create(name="signs.example", jwt_sign_subdomains=True)
        make_key(signs, "jwt", "tests")
        make_key(Domain.objects.create(name="alone.example"), "jwt", "tests")
    yield running
    running.stop()


def ask(server: Server, fields: Any = None, **more: Any) -> httpx.Response:
    arguments: dict[str, Any] = {"json": fields} if fields is not None else {}
    return HTTP.post(f"{server.base}/checkpassword/", **{**arguments, **more})


def trusted(**headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}", **headers}


def public_key(server: Server, domain: str = "localhost", form: str = "pubkey") -> str:
    answer = HTTP.get(f"{server.base}/getkey/", params={"domain": domain, "format": form})
    return "\n".join(next(iter(answer.json().values())))


def claims(server: Server, answer: httpx.Response, domain: str = "localhost") -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/jwt"
    key = JWK.from_pem(public_key(server, domain).encode())
    jws = JWS()
    jws.deserialize(answer.text, key)
    found: dict[str, Any] = jwt.decode(answer.text, options={"verify_signature": False})
    return found


def test_the_token_says_what_the_seed_says_and_no_more(server: Server) -> None:
    before = int(time.time())
    answer = ask(server, {"username": "MARIA", "password": PASSWORD, "scopes": ["photos"]})
    found = claims(server, answer)
    now = found["nbf"] + 5
    assert before <= now <= time.time()
    assert found == {
        "sub": "MARIA",
        "canonical_username": "maria@example.org",
        "authenticated": True,
        "authorized": True,
        "scopes": ["calendar", "photos"],
        "nbf": now - 5,
        "exp": now + 3600,
        "iss": "localhost",
        "aud": "net.maurus.authclient",
    }


def test_two_other_libraries_believe_the_token(server: Server) -> None:
    answer = ask(server, {"username": "maria", "password": PASSWORD})
    pem = public_key(server)
    jws = JWS()
    jws.deserialize(answer.text, JWK.from_pem(pem.encode()))
    assert jws.jose_header["kid"] == JWK.from_pem(pem.encode()).thumbprint()
    assert jws.jose_header["alg"] == "RS256"
    token = joserfc_jwt.decode(answer.text, RSAKey.import_key(pem), algorithms=["RS256"])
    assert token.claims["sub"] == "maria"


def test_who_has_no_mailbox_is_called_by_the_identifier(server: Server) -> None:
    answer = ask(server, {"username": "PAUL", "password": PASSWORD})
    assert claims(server, answer)["canonical_username"] == "paul"


@pytest.mark.parametrize(
    ("wanted", "authorized"),
    [([], True), (["photos"], True), (["photos", "calendar"], True), (["photos", "x"], False)],
)
def test_authorized_says_whether_all_scopes_are_held(
    server: Server, wanted: list[str], authorized: bool
) -> None:
    answer = ask(server, {"username": "maria", "password": PASSWORD, "scopes": wanted})
    assert claims(server, answer)["authorized"] is authorized


def test_a_form_has_scopes_with_commas_between(server: Server) -> None:
    fields = {"username": "maria", "password": PASSWORD, "scopes": "photos,calendar", "nonce": "n1"}
    found = claims(server, ask(server, data=fields))
    assert (found["authorized"], found["nonce"]) == (True, "n1")


def test_basic_has_the_rest_in_headers(server: Server) -> None:
    headers = {"X-Auth-Scopes": "photos, x", "X-Auth-Domain": "a.signs.example"}
    answer = ask(server, auth=("maria", PASSWORD), headers={**headers, "X-Auth-Nonce": "n2"})
    found = claims(server, answer, "signs.example")
    assert (found["authorized"], found["nonce"], found["iss"]) == (False, "n2", "signs.example")


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "maria", "password": "wrong password"},
        {"username": "maria", "password": ""},
        {"username": "nobody", "password": PASSWORD},
        {"username": "gone", "password": PASSWORD},
        {"username": "scanner", "password": PASSWORD},
    ],
)
def test_what_is_not_right_is_401_alike(server: Server, fields: dict[str, str]) -> None:
    answer = ask(server, fields, headers=trusted())
    assert (answer.status_code, answer.json()) == (401, NO)


def test_a_service_user_comes_in_by_its_password_and_stands_for_its_owner(server: Server) -> None:
    fields = {"username": "scanner", "password": SERVICE_PASSWORD}
    found = claims(server, ask(server, fields))
    assert (found["sub"], found["canonical_username"]) == ("scanner", "maria@example.org")
    assert found["authenticated"] is True
    found = claims(server, ask(server, {"username": "scanner"}, headers=trusted()))
    assert (found["canonical_username"], found["authenticated"]) == ("maria@example.org", False)


def test_without_a_password_only_who_is_trusted_learns_anything(server: Server) -> None:
    for fields in ({"username": "maria"}, {"username": "nobody", "password": None}):
        assert ask(server, fields).status_code == 403
        wrong = {"Authorization": "Bearer another-token-than-that"}
        assert ask(server, fields, headers=wrong).status_code == 403
    found = claims(server, ask(server, {"username": "maria", "scopes": ["x"]}, headers=trusted()))
    assert (found["authenticated"], found["authorized"]) == (False, False)
    for name in ("nobody", "gone"):
        answer = ask(server, {"username": name}, headers=trusted())
        assert (answer.status_code, answer.json()) == (401, NO)


def test_the_open_form_needs_no_token(serve: Any) -> None:
    server = serve(CHECKPASSWORD_OPEN="true")
    server.make_user("maria")
    with server.database():
        make_key(Domain.objects.create(name="localhost"), "jwt", "tests")
    assert claims(server, ask(server, {"username": "maria"}))["authenticated"] is False


JSON = {"Content-Type": "application/json"}
BAD: list[dict[str, Any]] = [
    {"json": ["maria"]},
    {"json": {}},
    {"json": {"username": ""}},
    {"json": {"username": 1}},
    {"json": {"username": "maria", "password": 1}},
    {"json": {"username": "maria", "password": "x", "scopes": "photos"}},
    {"json": {"username": "maria", "password": "x", "scopes": [1]}},
    {"json": {"username": "maria", "password": "x", "nonce": "n" * 65}},
    {"content": b'{"username": "a", "username": "b"}', "headers": JSON},
    {"content": b'{"username": "\\ud800"}', "headers": JSON},
    {"content": b"{", "headers": JSON},
    {"content": b"[" * 100_000, "headers": JSON},
    {"content": b"x", "headers": {"Content-Type": "text/plain"}},
    {"data": {"password": "x"}},
    {"data": {"username": ["a", "b"]}},
    {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    {"content": b"x", "headers": {"Content-Type": b"multipart/form-data; boundary=\xff"}},
    {"data": {"username": "maria", **{f"field{n}": "x" for n in range(1000)}}},
    {"headers": {"Authorization": "Basic !!!"}},
    {"headers": {"Authorization": "Basic " + base64.b64encode(b"maria").decode()}},
    {"headers": {"Authorization": "Basic " + base64.b64encode(b"\xff:x").decode()}},
]


@pytest.mark.parametrize("request_", BAD)
def test_a_malformed_request_is_400_and_says_why(server: Server, request_: dict[str, Any]) -> None:
    answer = ask(server, **request_)
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize(
    ("domain", "issuer"),
    [
        ("signs.example", "signs.example"),
        ("a.b.signs.example", "signs.example"),
        ("SIGNS.example", "signs.example"),
        ("alone.example", "alone.example"),
        ("a.alone.example", None),
        ("empty.example", None),
        ("unknown.example", None),
        ("notsigns.example", None),
        ("." * 300, None),
    ],
)
def test_the_key_is_found_by_walking_the_labels_upwards(
    server: Server, domain: str, issuer: str | None
) -> None:
    answer = ask(server, {"username": "maria", "password": PASSWORD, "domain": domain})
    if issuer is None:
        assert answer.status_code == 404
    else:
        assert claims(server, answer, issuer)["iss"] == issuer


def test_too_many_refusals_are_429_before_403_and_after_404(server: Server) -> None:
    headers = trusted()
    fields = {"username": "throttled", "client": "192.0.2.9"}
    for _ in range(3):
        assert ask(server, {**fields, "password": "x"}, headers=headers).status_code == 401
    answer = ask(server, {**fields, "password": "x"}, headers=headers)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert ask(server, fields, headers=headers).status_code == 429
    unknown = {**fields, "domain": "unknown.example"}
    assert ask(server, unknown, headers=headers).status_code == 404
    # the client is believed with the token only
    assert ask(server, {**fields, "password": "x"}).status_code == 401


def test_two_workers_count_the_refusals_of_all_three_forms_together(serve: Any) -> None:
    server = serve(WORKERS=2, MAX_FAILURES=4)
    with server.database():
        make_key(Domain.objects.create(name="localhost"), "jwt", "tests")
    server.make_user("maria")
    wrong = {"username": "maria", "password": "wrong one"}
    forms = ({"json": wrong}, {"data": wrong}, {"auth": ("maria", "wrong one")})

    def guess(number: int) -> int:
        url = f"{server.base}/checkpassword/"  # each by a connection of its own
        return httpx.post(url, **forms[number % 3], timeout=BOUND, trust_env=False).status_code

    with ThreadPoolExecutor(12) as threads:
        assert Counter(threads.map(guess, range(12))) == {401: 4, 429: 8}


def test_what_basic_says_of_the_client_needs_the_token(server: Server) -> None:
    headers = {"X-Auth-Client": "192.0.2.10"}
    for _ in range(3):
        answer = ask(server, auth=("t2", "x"), headers={**headers, "X-Auth-Token": TOKEN})
        assert answer.status_code == 401
    answer = ask(server, auth=("t2", "x"), headers={**headers, "X-Auth-Token": TOKEN})
    assert answer.status_code == 429
    assert ask(server, auth=("t2", "x"), headers=headers).status_code == 401


def test_other_methods_are_405(server: Server) -> None:
    assert HTTP.get(f"{server.base}/checkpassword/").status_code == 405


def test_a_refusal_takes_its_time(serve: Any) -> None:
    server = serve(REFUSAL_SECONDS="0.7")
    with server.database():
        make_key(Domain.objects.create(name="localhost"), "jwt", "tests")
    server.make_user("maria")
    for name in ("maria", "nobody"):
        begun = time.monotonic()
        assert ask(server, {"username": name, "password": "wrong one"}).status_code == 401
        assert time.monotonic() - begun >= 0.7
