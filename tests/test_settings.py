"""Settings and arguments: what is read, what stops the start, and what is warned of."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from etc import Etc
from secrecy import TOKEN
from service import COVERAGE_FOLDER, MAIN, ROOT, Start, free_port, python

import main

README = ROOT / "README.md"


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """main.py, which must exit by itself; the address would be harmless if it did not."""
    env = {
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "COVERAGE_FILE": str(COVERAGE_FOLDER / ".coverage"),
    } | env
    command = [*python(), *arguments]
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


BAD = {
    "HOST": ["nowhere.invalid", "256.1.1.1", "a..b", "[::1]", "x" * 80],
    "PORT": [
        "0",
        "65536",
        "-1",
        "+80",
        "8_0",
        "80.0",
        "http",
        " 8080",
        "0x50",
        "\u0668",
        "9" * 5000,
    ],
    "AUTH_TOKEN": [
        "x" * 15,
        "spaces in the token",
        "sixteen-chars-\xe4\xe4",
        "with-a-newline-in-it\n",
        "x" * 16 + "\t",
    ],
    "AUTH_TOKEN_FILE": ["/nowhere/token", "/dev/null", "/"],
    "TLS_CERT": ["/nowhere/cert.pem"],
    "TLS_KEY": ["/nowhere/key.pem"],
    "PAM_SERVICE": ["../login", "a/b", "a b", ".", "..", "a\nb", "x" * 100],
    "MIN_UID": ["0", "-1", "x", "1e3", "4294967296", "60001"],
    "MAX_UID": ["0", "-1", "x", "99999999999999999999"],
    "ALLOWED_GROUPS": [",", "users,", ",users", "users,,admin", " , "],
    "FAIL_DELAY": ["-0.1", "3.1", "x", "nan", "inf", "1e0", "1,5"],
    "MAX_FAILURES": ["-1", "x", "1.5"],
    "FAILURE_WINDOW": ["0", "-1", "x"],
    "MAX_CONNECTIONS": ["0", "-1", "x"],
    "REQUEST_TIMEOUT": ["0", "0.0", "-1", "nan", "inf", "x"],
    "LOG_LEVEL": ["LOUD", "info", "10", "INFO\nx"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, vs in BAD.items() for v in vs], ids=lambda x: repr(x[:24])
)
def test_a_bad_value_stops_the_start_with_one_line_that_names_the_variable(
    name: str, value: str
) -> None:
    done = run(**{name: value})
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.endswith("\n")
    assert re.search(rf"\b{name}\b", done.stderr)
    assert (done.returncode, done.stdout) == (2, "")
    assert name != "AUTH_TOKEN" or value not in done.stderr


def test_every_setting_has_its_bad_values_here() -> None:
    assert {setting.name for setting in main.SETTINGS} == set(BAD)


@pytest.mark.parametrize(
    "content",
    ["", "\n", "too-short\n", f"{TOKEN}\n\n", f"{TOKEN} \n", f" {TOKEN}", f"{TOKEN}\n{TOKEN}"],
)
def test_a_bad_token_file_stops_the_start_and_is_not_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    done = run(AUTH_TOKEN_FILE=str(tmp_path / "token"))
    assert done.returncode == 2
    assert re.fullmatch(r".*AUTH_TOKEN_FILE.*\n", done.stderr)
    assert not content.strip() or content.strip() not in done.stderr


def test_both_tokens_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    done = run(AUTH_TOKEN=TOKEN, AUTH_TOKEN_FILE=str(tmp_path / "token"))
    assert done.returncode == 2
    assert re.fullmatch(r".*AUTH_TOKEN\b.*AUTH_TOKEN_FILE.*\n", done.stderr)
    assert TOKEN not in done.stderr


def test_uids_that_are_crossed_are_an_error() -> None:
    done = run(MIN_UID="2000", MAX_UID="1999")
    assert done.returncode == 2
    assert re.fullmatch(".*M(IN|AX)_UID.*\n", done.stderr)


def test_a_certificate_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("no PEM\n")
    done = run(TLS_CERT=str(tmp_path / "pem"), TLS_KEY=str(tmp_path / "pem"))
    assert done.returncode == 2
    assert re.fullmatch(".*TLS_CERT.*\n", done.stderr)


def test_empty_counts_as_unset(start: Start) -> None:
    own = ("HOST", "PORT", "LOG_LEVEL", "FAIL_DELAY", "MAX_FAILURES")
    service = start(**{setting.name: "" for setting in main.SETTINGS if setting.name not in own})
    assert service.request("GET", "/ready").status == 200
    assert vars(main.Settings(dict.fromkeys(BAD, ""))) == vars(main.Settings({}))


def test_the_limits_of_each_number_are_allowed() -> None:
    for name, low, high in (
        ("PORT", 1, 65535),
        ("MIN_UID", 1, 60000),
        ("MAX_UID", 1000, 4294967294),
        ("FAIL_DELAY", 0, 3),
        ("MAX_FAILURES", 0, 10),
        ("FAILURE_WINDOW", 1, 300),
        ("MAX_CONNECTIONS", 1, 256),
    ):
        for value in (low, high):
            assert getattr(main.Settings({name: str(value)}), name.lower()) == value
    assert main.Settings({"FAIL_DELAY": "0.25"}).fail_delay == 0.25
    assert main.Settings({"ALLOWED_GROUPS": "media team , users"}).allowed_groups == frozenset(
        {"media team", "users"}
    )


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ugos-auth-proxy 0.2.0\n", "")


def test_help_lists_every_setting_with_its_default() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name, _, default, meaning in main.SETTINGS:
        line = next(line for line in done.stdout.splitlines() if line.split()[:1] == [name])
        assert meaning in line
        assert default in line


@pytest.mark.parametrize(
    "arguments", [["-h"], ["--port", "80"], ["serve"], [""], ["--version", "x"], ["--help=x"]]
)
def test_any_other_argument_exits_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"unknown argument {arguments[-1] if arguments[0] == '' else arguments[0]!r}"
        in done.stderr.splitlines()[0]
    )
    assert "Traceback" not in done.stderr


def test_an_address_of_another_machine_is_said_in_one_line() -> None:
    done = run(HOST="192.0.2.1")
    assert done.returncode == 2
    assert re.fullmatch(".*HOST.*\n", done.stderr)


def test_a_used_port_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = run(PORT=str(listener.getsockname()[1]))
    assert done.returncode in (1, 2)
    assert re.fullmatch(".+in use.*\n", done.stderr)


def test_a_hard_limit_on_descriptors_that_cannot_hold_the_connections_stops_the_start(
    start: Start,
) -> None:
    service = start(before="ulimit -n 555;", MAX_CONNECTIONS=300)
    assert service.process.poll() == 2
    (line,) = service.log_lines()
    assert re.search("MAX_CONNECTIONS.* 556 .* 555", line)
    service = start(before="ulimit -n 556;", MAX_CONNECTIONS=300)
    assert service.request("GET", "/health").status == 200


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_need_nothing_but_python(argument: str) -> None:
    alone = [sys.executable, "-I", "-S", MAIN, argument]
    done = subprocess.run(alone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_lists_the_settings_of_the_code() -> None:
    table = re.search(
        r"^\| *variable *\| *default *\| *meaning *\|\n\|[-| :]+\|\n((?:\|.*\n)+)",
        README.read_text(),
        re.M | re.I,
    )
    assert table, "no table with the columns variable, default, meaning"
    listed: list[tuple[str, str]] = []
    for row in table[1].splitlines():
        names, defaults = (re.findall("`([^`]+)`", cell) for cell in row.split("|")[1:3])
        assert len(defaults) in (0, len(names)), row
        listed += zip(names, defaults or [""] * len(names), strict=True)
    assert dict(listed) == {setting.name: setting.default for setting in main.SETTINGS}
    assert len(listed) == len(main.SETTINGS)


# --- Warnings at the start


def warnings(start: Start, **options: str) -> list[str]:
    return [line for line in start(**options).log_lines() if "level=WARNING" in line]


def test_a_start_with_nothing_unusual_warns_of_nothing(start: Start) -> None:
    assert warnings(start) == []
    assert warnings(start, AUTH_TOKEN=TOKEN, HOST="0.0.0.0") == []  # noqa: S104


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_no_token_on_an_address_that_is_not_loopback_is_warned_of_once(
    start: Start, host: str
) -> None:
    (line,) = warnings(start, HOST=host)
    assert "AUTH_TOKEN" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_loopback_address_needs_no_token(start: Start, host: str) -> None:
    assert warnings(start, HOST=host) == []


def test_a_missing_pam_service_is_warned_of_once_and_the_fallback_named(start: Start) -> None:
    (line,) = warnings(start, PAM_SERVICE="elsewhere")
    assert "/etc/pam.d/elsewhere" in line
    assert "other" in line


@pytest.mark.parametrize("name", ["passwd", "shadow", "group"])
def test_a_single_file_mount_is_warned_of_once(start: Start, etc: Etc, name: str) -> None:
    etc.replace("copy", etc.read(name))
    (line,) = warnings(start, before=f"mount --bind /etc/copy /etc/{name}")
    assert f"/etc/{name}" in line
