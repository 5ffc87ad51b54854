"""POST /validate: what every outcome of PAM is answered with, and what a request must look like."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
from etc import ACCOUNTS, PLAIN, Etc, right
from secrecy import WRONG
from service import BOUND, Service, Start, parallel

INVALID = {"valid": False, "error": "Invalid credentials"}
SCHEMES = ("sha512", "yescrypt")


def valid(name: str) -> dict[str, Any]:
    return {"valid": True, "username": name}


def refused(text: str) -> dict[str, Any]:
    return {"valid": False, "error": text}


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on a stack like Debian's login: `nullok`, and 2 seconds of delay on a refusal."""
    running = Service(Etc(tmp_path_factory.mktemp("debian") / "etc"), {"PAM_SERVICE": "debian"})
    yield running
    running.stop()


# name, password, answer and the log's reason by pam_unix alone, then by the stack like Debian's
OUTCOMES: list[tuple[str, str, dict[str, Any], str, dict[str, Any], str]] = [
    row
    for scheme in SCHEMES
    for row in (
        (scheme, right(scheme), valid(scheme), "PAM_SUCCESS", valid(scheme), "PAM_SUCCESS"),
        (scheme, WRONG, INVALID, "PAM_AUTH_ERR", INVALID, "PAM_AUTH_ERR"),
        (
            f"{scheme}.locked",
            right(f"{scheme}.locked"),
            INVALID,
            "PAM_AUTH_ERR",
            INVALID,
            "PAM_AUTH_ERR",
        ),
        *(
            (
                f"{scheme}.{case}",
                right(f"{scheme}.{case}"),
                refused(text),
                reason,
                refused(debians),
                reasons,
            )
            for case, text, reason, debians, reasons in (
                (
                    "expired",
                    "Account expired",
                    "PAM_ACCT_EXPIRED",
                    "Invalid credentials",
                    "PAM_AUTH_ERR",
                ),
                (
                    "mustchange",
                    "Password expired",
                    "PAM_NEW_AUTHTOK_REQD",
                    "Password expired",
                    "PAM_NEW_AUTHTOK_REQD",
                ),
                (
                    "agedout",
                    "Password expired",
                    "PAM_AUTHTOK_EXPIRED",
                    "Invalid credentials",
                    "PAM_AUTH_ERR",
                ),
            )
        ),
        *(
            (f"{scheme}.{case}", WRONG, INVALID, "PAM_AUTH_ERR", INVALID, "PAM_AUTH_ERR")
            for case in ("locked", "expired", "mustchange", "agedout")
        ),
    )
] + [
    (name, password, INVALID, reason, INVALID, reason)
    for name, password, reason in (
        ("nopassword", "any-password", "PAM_AUTH_ERR"),
        ("star", "any-password", "PAM_AUTH_ERR"),
        ("no.such.user", "any-password", "NO_SUCH_ACCOUNT"),
        ("system", right("system"), "UID_NOT_SERVED"),
        ("highuid", right("highuid"), "UID_NOT_SERVED"),
        ("toor", right("toor"), "UID_NOT_SERVED"),
        ("root", "any-password", "UID_NOT_SERVED"),
    )
]
NAMES = [f"{row[0]}-{'right' if row[1] == right(row[0]) else 'wrong'}" for row in OUTCOMES]


def check(service: Service, name: str, password: str, answer: dict[str, Any], reason: str) -> None:
    before = len(service.log_lines())
    response = service.validate(name, password)
    assert (response.status, response.json) == (200, answer)
    line = service.wait_for_log(f"event=verdict user={re.escape(name)} ", before)
    assert f" reason={reason} " in line
    assert f" result={'valid' if answer['valid'] else 'invalid'} " in line


@pytest.mark.parametrize(("name", "password", "answer", "reason", "_", "__"), OUTCOMES, ids=NAMES)
def test_pam_unix_alone_gives_each_account_its_answer(
    service: Service, name: str, password: str, answer: dict[str, Any], reason: str, _: Any, __: str
) -> None:
    check(service, name, password, answer, reason)


@pytest.mark.parametrize(("name", "password", "_", "__", "answer", "reason"), OUTCOMES, ids=NAMES)
def test_a_stack_like_debians_gives_each_account_its_answer(
    debian: Service, name: str, password: str, _: Any, __: str, answer: dict[str, Any], reason: str
) -> None:
    check(debian, name, password, answer, reason)


@pytest.mark.alone
def test_no_call_sleeps_whatever_delay_the_stack_asks_for(debian: Service) -> None:
    """40 refusals in turn would take 80 s and more if PAM slept, and half of it by two
    processors."""
    began = time.monotonic()
    for _ in range(40):
        assert debian.validate("des", WRONG).json == INVALID
    assert time.monotonic() - began < 30


def test_a_null_password_lets_nobody_in_where_the_stack_says_nullok(debian: Service) -> None:
    for password in ("any-password", " ", "x"):
        assert debian.validate("nopassword", password).json == INVALID


def test_the_other_service_is_used_where_the_own_one_is_missing(start: Start) -> None:
    service = start(PAM_SERVICE="not-there")
    service.wait_for_log("level=WARNING event=no-pam-service .*not-there")
    assert service.validate("sha512", right("sha512")).json == valid("sha512")
    assert service.validate("nopassword", "any-password").json == INVALID


@pytest.mark.parametrize(
    "code", ["perm_denied", "auth_err", "cred_insufficient", "user_unknown", "maxtries"]
)
@pytest.mark.parametrize("phase", ["auth", "acct"])
def test_a_denial_of_the_stack_is_invalid_credentials(
    service: Service, code: str, phase: str
) -> None:
    check(debug(service, phase, code), "des", right("des"), INVALID, f"PAM_{code.upper()}")


@pytest.mark.parametrize("code", ["new_authtok_reqd", "acct_expired", "authtok_expired"])
def test_expiry_said_by_the_password_phase_is_invalid_credentials(
    service: Service, code: str
) -> None:
    check(debug(service, "auth", code), "des", right("des"), INVALID, f"PAM_{code.upper()}")


NO_VERDICT = """
open_err symbol_err service_err system_err buf_err authinfo_unavail session_err cred_unavail
cred_expired cred_err no_module_data conv_err authtok_err authtok_recover_err authtok_lock_busy
authtok_disable_aging try_again abort module_unknown bad_item conv_again
""".split()


@pytest.mark.parametrize("code", NO_VERDICT)
@pytest.mark.parametrize("phase", ["auth", "acct"])
def test_a_code_that_is_no_verdict_is_503_with_its_name_in_the_log(
    service: Service, code: str, phase: str
) -> None:
    debug(service, phase, code)
    before = len(service.log_lines())
    response = service.validate("des", right("des"))
    assert response.status == 503
    assert response.json["valid"] is False
    assert response.json["error"] != "Invalid credentials"
    assert int(response.headers["Retry-After"]) > 0
    name = "PAM_" + code.upper().replace("RECOVER_ERR", "RECOVERY_ERR")
    line = service.wait_for_log("event=verdict ", before)
    assert re.search(rf" result=error reason={name}( |$)", line)


def debug(service: Service, phase: str, code: str) -> Service:
    """`service`, the stack of which now says `code` in one phase and yes in the other."""
    values = {"auth": "success", "acct": "success", phase: code}
    service.etc.pam(
        "debug",
        f"auth [default=bad success=ok] pam_debug.so auth={values['auth']}\n"
        f"account [default=bad success=ok] pam_debug.so acct={values['acct']}\n",
    )
    service.etc.pam("ugos-auth-proxy", "auth include debug\naccount include debug\n")
    return service


@pytest.fixture(autouse=True)
def stack_restored(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "service" in request.fixturenames:
        service: Service = request.getfixturevalue("service")
        service.etc.pam("ugos-auth-proxy", PLAIN)


@pytest.mark.parametrize("phase", ["auth", "account"])
def test_a_missing_module_is_503(service: Service, phase: str) -> None:
    service.etc.pam("ugos-auth-proxy", PLAIN + f"{phase} required pam_not_there.so\n")
    response = service.validate("des", right("des"))
    assert response.status == 503
    assert response.json["error"] != "Invalid credentials"


def test_a_shadow_file_that_this_user_may_not_read_is_503(start: Start) -> None:
    service = start(user=65534)
    response = service.validate("sha512", right("sha512"))
    assert (response.status, response.json["valid"]) == (503, False)
    service.wait_for_log("event=verdict .* result=error reason=PAM_AUTHINFO_UNAVAIL")


def test_an_ordinary_user_in_group_shadow_gives_true_answers(start: Start) -> None:
    service = start(user=65534, groups=[42])
    assert service.validate("sha512", right("sha512")).json == valid("sha512")
    assert service.validate("sha512", WRONG).json == INVALID
    assert service.validate("yescrypt.expired", right("yescrypt.expired")).json == refused(
        "Account expired"
    )


def test_64_right_logins_at_once_are_all_right(service: Service) -> None:
    names = ["sha512", "yescrypt", "des", "jane.doe"] * 16
    answers = parallel(lambda name: service.validate(name, right(name)).json, names)
    assert answers == [valid(name) for name in names]


def test_logins_at_once_get_each_their_own_answer(service: Service) -> None:
    asked = [
        ("des", right("des")),
        ("des", WRONG),
        ("no.such.user", WRONG),
        ("jane.doe", right("jane.doe")),
    ] * 12
    answers = parallel(lambda login: service.validate(*login).json, asked)
    assert answers == [valid("des"), INVALID, INVALID, valid("jane.doe")] * 12


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_password_changed_by_rename_is_seen_by_the_next_request(
    service: Service, scheme: str
) -> None:
    name = f"changes.{scheme}"
    service.etc.add_user(name, "the-old-password", scheme=scheme)
    assert service.validate(name, "the-old-password").json == valid(name)
    service.etc.set_password(name, "a-new-password", scheme)
    assert service.validate(name, "the-old-password").json == INVALID
    assert service.validate(name, "a-new-password").json == valid(name)


def test_a_locked_account_and_an_unlocked_one_are_seen_by_the_next_request(
    service: Service,
) -> None:
    service.etc.add_user("lockable", "my-password")
    assert service.validate("lockable", "my-password").json == valid("lockable")
    service.etc.lock("lockable")
    assert service.validate("lockable", "my-password").json == INVALID
    service.etc.set_hash("lockable", lambda hashed: hashed.lstrip("!"))
    assert service.validate("lockable", "my-password").json == valid("lockable")


def test_a_new_account_is_seen_and_a_removed_one_is_gone(service: Service) -> None:
    assert service.validate("newcomer", "my-password").json == INVALID
    passwd = service.etc.read("passwd")
    service.etc.add_user("newcomer", "my-password")
    assert service.validate("newcomer", "my-password").json == valid("newcomer")
    service.etc.replace("passwd", passwd)
    assert service.validate("newcomer", "my-password").json == INVALID


def test_passwd_that_cannot_be_read_is_503_also_for_unknown_names(start: Start) -> None:
    service = start()
    (service.etc.path / "passwd").unlink()
    for name in ("des", "no.such.user"):
        response = service.validate(name, right("des"))
        assert (response.status, response.json["valid"]) == (503, False)
        assert int(response.headers["Retry-After"]) > 0


def test_only_members_of_allowed_groups_are_served(start: Start) -> None:
    service = start(ALLOWED_GROUPS="media team,admin")
    assert service.validate("jane.doe", right("jane.doe")).json == valid(
        "jane.doe"
    )  # admin is her primary group
    assert service.validate("des", right("des")).json == INVALID
    service.wait_for_log("event=verdict user=des .* reason=GROUP_NOT_SERVED")


REFUSED = [
    ("sha512", WRONG),
    ("no.such.user", WRONG),
    ("sha512.locked", right("sha512.locked")),
    ("nopassword", WRONG),
    ("star", WRONG),
    ("system", right("system")),
    ("root", WRONG),
    ("sha512.expired", WRONG),
]


def test_refusals_cannot_be_told_apart_by_bytes(service: Service) -> None:
    def answer(login: tuple[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        response = service.validate(*login)
        return (
            response.status,
            [(k, v) for k, v in response.headers.items() if k != "Date"],
            response.raw,
        )

    first, *others = map(answer, REFUSED)
    assert others == [first] * len(others)


def assert_all_the_same(service: Service) -> None:
    """Served or not, every name gets one and the same 503."""

    def answer(login: tuple[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        response = service.validate(*login)
        headers = [(k, v) for k, v in response.headers.items() if k != "Date"]
        return response.status, headers, response.raw

    first, *others = map(answer, REFUSED)
    assert first[0] == 503
    assert others == [first] * len(others)


@pytest.mark.parametrize("phase", ["auth", "account"])
@pytest.mark.parametrize("control", ["required", "requisite"])
def test_with_a_broken_stack_no_name_is_told_from_another(
    start: Start, etc: Etc, phase: str, control: str
) -> None:
    """But in the account phase, to which a wrong password does not come, there is nothing to
    tell."""
    service = start()
    etc.pam("ugos-auth-proxy", f"{phase} {control} pam_not_there.so\n" + PLAIN)
    if phase == "auth":
        assert_all_the_same(service)
    assert service.validate("des", right("des")).status == 503


@pytest.mark.parametrize("filename", ["passwd", "shadow", "group"])
def test_with_a_file_away_no_name_is_told_from_another(
    start: Start, etc: Etc, filename: str
) -> None:
    service = start(ALLOWED_GROUPS="users")
    (etc.path / filename).unlink()
    assert_all_the_same(service)


def test_with_shadow_not_readable_no_name_is_told_from_another(start: Start) -> None:
    assert_all_the_same(start(user=65534))


def test_pam_is_asked_about_a_fixed_name_and_never_about_one_that_is_not_served(
    start: Start, etc: Etc
) -> None:
    etc.script("who", "echo $PAM_USER >>/etc/asked\n")
    etc.pam("ugos-auth-proxy", "auth optional pam_exec.so quiet /etc/who\n" + PLAIN)
    service = start()
    for name in ("no.such.user", "system", "root", "toor", "des"):
        service.validate(name, WRONG)
    nobody = "ugos-auth-proxy-nobody"
    assert etc.read("asked").split() == [nobody] * 4 + ["des"]


def test_a_stack_that_lets_everybody_in_lets_no_name_in_that_is_not_served(
    start: Start, etc: Etc
) -> None:
    etc.pam("ugos-auth-proxy", "auth required pam_permit.so\naccount required pam_permit.so\n")
    service = start()
    for name in ("no.such.user", "system", "root", "toor"):
        assert service.validate(name, WRONG).json == INVALID


@pytest.mark.alone
def test_every_refusal_takes_the_delay_at_least_and_a_right_login_does_not(start: Start) -> None:
    service = start(FAIL_DELAY="0.7", PAM_SERVICE="debian")

    def seconds(login: tuple[str, str]) -> float:
        began = time.monotonic()
        service.validate(*login)
        return time.monotonic() - began

    times = parallel(seconds, [*REFUSED, ("sha512.mustchange", right("sha512.mustchange"))])
    assert min(times) >= 0.7
    ended = "event=request .* path=/validate .*ms="
    lines = [line for line in service.log_lines() if re.search(ended, line)]
    held = sorted(float(line.rpartition("ms=")[2]) for line in lines)
    assert held[0] >= 700
    assert held[len(held) // 2] <= 875, "at most a quarter more, while the queue is short"
    logged = [re.search(r"result=invalid .*ms=([\d.]+)", line) for line in service.log_lines()]
    assert max(float(found[1]) for found in logged if found) < 690, (
        "the verdict is logged before the delay"
    )
    before = len(service.log_lines())
    service.validate("des", right("des"))
    assert float(service.wait_for_log("event=request ", before).rpartition("ms=")[2]) < 690


@pytest.mark.alone
def test_held_refusals_keep_no_login_from_its_turn(start: Start) -> None:
    """30 refusals are held 3 s each; done in turn, two at a time, they would take 45 s."""
    service = start(FAIL_DELAY="3")
    began = time.monotonic()
    assert (
        parallel(lambda n: service.validate(f"made.up.{n}", WRONG).json, range(30))
        == [INVALID] * 30
    )
    assert 3 <= time.monotonic() - began < 30


PASSWORDS = [
    " leading-space",
    "trailing-space ",
    "with\ttab and\nline\r\nends",
    'quote" back\\slash',
    "p\u00e4ssw\u00f6rd-\u6f22\u5b57-\U0001f511",
    "a\u0308 is not \u00e4",
    "\ufeff-bom-password",
    "y" * 400,
]


@pytest.mark.parametrize("password", PASSWORDS, ids=ascii)
def test_a_password_is_taken_byte_for_byte(service: Service, password: str) -> None:
    name = f"odd{PASSWORDS.index(password)}"
    service.etc.add_user(name, password, scheme="sha512")
    assert service.validate(name, password).json == valid(name)
    others = {
        password.strip(),
        password + " ",
        " " + password,
        password[:-1],
        password.replace("\r\n", "\n"),
    }
    for other in others - {password}:
        assert service.validate(name, other).json == INVALID


@pytest.mark.parametrize(
    "password", ["x", " ", "\n", "\x7f", "y" * 513, "y" * 4000], ids=lambda p: repr(p[:5])
)
def test_an_odd_password_is_just_wrong(service: Service, password: str) -> None:
    assert service.validate("sha512", password).json == INVALID


@pytest.mark.parametrize(
    "sent", [" sha512", "sha512 ", "\t sha512\r\n", "\u00a0sha512\u2003"], ids=ascii
)
def test_white_space_around_the_username_is_stripped(service: Service, sent: str) -> None:
    assert service.validate(sent, right("sha512")).json == valid("sha512")


@pytest.mark.parametrize("name", ["jane.doe", "MarcEwers"])
def test_names_with_dots_and_capitals_log_in(service: Service, name: str) -> None:
    assert service.validate(name, right(name)).json == valid(name)


@pytest.mark.parametrize(
    "name", ["SHA512", "marcewers", "sha512$", "-sha512", "sha 512", "+", "J\ufffdrgen", "1101"]
)
def test_a_name_that_is_not_exactly_an_accounts_is_invalid_credentials(
    service: Service, name: str
) -> None:
    assert service.validate(name, right("sha512")).json == INVALID


def test_a_password_and_a_name_beyond_ascii_log_in(service: Service) -> None:
    service.etc.add_user("j\u00f6rg", "gr\u00fc\u00dfe-password", scheme="sha512")
    assert service.validate("j\u00f6rg", "gr\u00fc\u00dfe-password").json == valid("j\u00f6rg")


def test_unknown_keys_of_the_body_are_ignored(service: Service) -> None:
    body = {"username": "des", "password": right("des"), "otp": 1, "extra": {"deep": [None]}}
    assert service.request("POST", "/validate", body).json == valid("des")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_a_body_that_is_not_utf_8_is_400(service: Service, encoding: str) -> None:
    body = '{"username": "j\u00f6rg", "password": "gr\u00fc\u00dfe-password"}'.encode(encoding)
    assert bad(service, body)


def bad(service: Service, body: bytes) -> str:
    response = service.request("POST", "/validate", body, {"Content-Type": "application/json"})
    assert response.status == 400
    assert response.json == {"valid": False, "error": response.json["error"]}
    return str(response.json["error"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"{",
        b'{"username": "des" "password": "x"}',
        b'{"username": "des", "password": "x"} trailing',
        b"{'username': 'des', 'password': 'x'}",
        b'{"username": "des", "password": "raw\nline end"}',
        b'{"username": "des", "password": "x", "username": "toor"}',
        b'{"username": "des", "password": "x", "password": "x"}',
        b'{"username": "des", "password": "x", "n": {"a": 1, "a": 2}}',
        b'{"username": "des", "password": "x", "n": NaN}',
        b'{"username": "des", "password": "x", "n": -Infinity}',
        b'\xef\xbb\xbf{"username": "des", "password": "x"}',
        b'{"username": "des", "password": "\xff"}',
        b'{"username": "des", "password": "\xed\xa0\x80"}',
        b'{"username": "des", "password": "\xc0\x80"}',
        b"[" * 4000,
        b'["des", "x"]',
        b'"des"',
        b"null",
        b"1",
    ],
    ids=lambda body: ascii(body[:45]),
)
def test_a_body_that_is_no_json_object_is_400_and_the_text_names_json(
    service: Service, body: bytes
) -> None:
    assert "JSON" in bad(service, body)


def test_deep_nesting_that_a_parser_can_read_is_ignored_or_400_but_no_fault(
    service: Service,
) -> None:
    body = b'{"username": "no.such.user", "password": "x", "n": ' + b"[" * 1900 + b"]" * 1900 + b"}"
    assert service.request(
        "POST", "/validate", body, {"Content-Type": "application/json"}
    ).status in (200, 400)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("username", "", "Username"),
        ("username", " \t ", "Username"),
        ("password", "", "Password"),
        ("username", None, "string"),
        ("username", 1101, "string"),
        ("username", ["des"], "string"),
        ("username", {"des": 1}, "string"),
        ("password", True, "string"),
        ("password", 1.5, "string"),
        ("username", "u" * 257, "Username"),
        ("username", "\u00e4" * 129, "Username"),
        ("username", "des\n", None),
        ("username", "d\nes", "Username"),
        ("username", "d\x00es", "Username"),
        ("username", "d\x7fes", "Username"),
        ("username", "d\x85es", "Username"),
        ("username", "des:x", "Username"),
        ("username", "../des", "Username"),
        ("username", "des\ud800", "Username"),
        ("password", "with\x00nul", "Password"),
        ("password", "lone\udfff", "Password"),
        ("password", "lone\ud83dx", "Password"),
    ],
    ids=ascii,
)
def test_a_bad_field_is_400_and_the_text_names_what_is_wrong(
    service: Service, field: str, value: Any, named: str | None
) -> None:
    body = json.dumps({"username": "des", "password": "some-password", field: value}).encode()
    if named is None:  # the control: white space at the end is stripped, not judged
        assert (
            service.request("POST", "/validate", body, {"Content-Type": "application/json"}).status
            == 200
        )
    else:
        assert named in bad(service, body)


@pytest.mark.parametrize("field", ["username", "password"])
def test_a_missing_field_is_400_and_the_text_names_it(service: Service, field: str) -> None:
    fields = {"username": "des", "password": "some-password"}
    del fields[field]
    assert field.title() in bad(service, json.dumps(fields).encode())


def test_a_username_of_256_bytes_is_judged(service: Service) -> None:
    assert service.validate("u" * 256, WRONG).json == INVALID


def test_a_request_without_a_body_is_400(service: Service) -> None:
    with closing(HTTPConnection(service.host, service.port, timeout=BOUND)) as connection:
        connection.putrequest("POST", "/validate")
        connection.putheader("Content-Type", "application/json")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 400
        assert json.loads(answer.read())["valid"] is False


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/json5", ""]
)
def test_another_content_type_is_415(service: Service, kind: str | None) -> None:
    body = json.dumps({"username": "des", "password": right("des")}).encode()
    response = service.request(
        "POST", "/validate", body, {} if kind is None else {"Content-Type": kind}
    )
    assert response.status == 415
    assert response.json == {"valid": False, "error": response.json["error"]}


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/json;a=b"]
)
def test_parameters_and_case_of_the_content_type_are_fine(service: Service, kind: str) -> None:
    body = {"username": "des", "password": right("des")}
    assert service.request("POST", "/validate", body, {"Content-Type": kind}).json == valid("des")


def test_a_body_over_4096_bytes_is_413_and_one_of_4096_is_judged(service: Service) -> None:
    body = json.dumps({"username": "des", "password": right("des")}).encode()
    kind = {"Content-Type": "application/json"}
    assert service.request("POST", "/validate", body.ljust(4096), kind).json == valid("des")
    response = service.request("POST", "/validate", body.ljust(4097), kind)
    assert response.status == 413
    assert response.json["valid"] is False
    assert "too large" in response.json["error"]


def test_the_accounts_of_this_suite_are_what_they_are_called() -> None:
    assert ACCOUNTS["sha512"].hashed.startswith("$6$")
    assert ACCOUNTS["yescrypt"].hashed.startswith("$y$")
    assert len(ACCOUNTS["des"].hashed) == 13
