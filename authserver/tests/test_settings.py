"""Settings: what a bad one says, files of secrets, the appconfig folder, the key that is made."""

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from authserver.environment import SETTINGS, BadSetting, Environment, make_secret_key
from tests.databases import AUTHSERVER

pytestmark = pytest.mark.once
NO_FOLDER = {"APPCONFIG_DIR": "/nonexistent"}
NAS = {"UGOS_AUTH_PROXY_URL": "http://nas:8080", "UGOS_AUTH_PROXY_TOKEN": "t" * 16}
VAULT = {"VAULT_ADDR": "http://localhost:8200", "VAULT_TOKEN": "t"}
VAULT_DATABASE = {**VAULT, "VAULT_DATABASE_PATH": "database/creds/a", "DATABASE_NAME": "a"}
POSTGRES = {"DATABASE_URL": "postgres://u:p@h/n", "SECRET_KEY": "k" * 32}


def read(**environ: str) -> Environment:
    return Environment({**NO_FOLDER, **environ})


BAD = [
    ("BASE_URL", "localhost"),
    ("BASE_URL", "ftp://localhost"),
    ("BASE_URL", "http://sso.example.org"),
    ("BASE_URL", "https://sso.example.org/path"),
    ("BASE_URL", "https://sso.example.org/?q"),
    ("BASE_URL", "https://sso.example.org/#f"),
    ("BASE_URL", "https://user@sso.example.org"),
    ("BASE_URL", "https://sso.example.org:0x50"),
    ("BASE_URL", "https://sso.example.org:99999"),
    ("BASE_URL", "https://a b"),
    ("BASE_URL", "https://"),
    ("BASE_URL", "http://local\nhost"),
    ("BASE_URL", "http://localhost:0"),
    ("HOST", "two words"),
    ("HOST", "127.0.0.1:8000/"),
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "eighty"),
    ("PORT", "8000 "),
    ("PORT", "+80"),
    ("PORT", "\u0661\u0662"),
    ("WORKERS", "0"),
    ("WORKERS", "-1"),
    ("WORKERS", "1.5"),
    ("DATABASE_URL", "mysql://u:p@h/n"),
    ("DATABASE_URL", "postgres://u:p@h:port/n"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "sqlite:///"),
    ("DATABASE_URL", "sqlite:///:memory:"),
    ("SECRET_KEY", "short"),
    ("TRUSTED_PROXIES", "everybody"),
    ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ("TRUSTED_PROXIES", "10.0.0.0/33"),
    ("TRUSTED_PROXIES", ","),
    ("UGOS_AUTH_PROXY_URL", "nas:8080"),
    ("UGOS_AUTH_PROXY_URL", "http://nas:8080?x=y"),
    ("UGOS_AUTH_PROXY_URL", "http://user:pass@nas:8080"),
    ("UGOS_AUTH_PROXY_TOKEN", "short"),
    ("UGOS_AUTH_PROXY_TOKEN", "with blanks in it ok"),
    ("UGOS_AUTH_PROXY_CA", "/nonexistent/ca.pem"),
    ("VAULT_ADDR", "vault:8200"),
    ("VAULT_CA", "/nonexistent/ca.pem"),
    ("VAULT_TOKEN", "with blanks in it"),
    ("CONSUL_HTTP_ADDR", "unix:///run/consul"),
    ("CONSUL_CACERT", "/nonexistent/ca.pem"),
    ("GROUP_MAP", "admin=admins"),
    ("GROUP_MAP", "[]"),
    ("GROUP_MAP", '{"a": 5}'),
    ("GROUP_MAP", '{"a": "b", "a": "c"}'),
    ("GROUP_MAP", '{"a": ""}'),
    ("NAS_RECHECK", "0"),
    ("NAS_RECHECK", "3601"),
    ("NAS_GRACE", "-1"),
    ("NAS_GRACE", "86401"),
    ("SESSION_HOURS", "0"),
    ("SESSION_HOURS", "8761"),
    ("SESSION_COOKIE_NAME", "a b"),
    ("REFUSAL_SECONDS", "5.1"),
    ("REFUSAL_SECONDS", "-0.1"),
    ("REFUSAL_SECONDS", "nan"),
    ("REFUSAL_SECONDS", "1e0"),
    ("MAX_FAILURES", "1000001"),
    ("MAX_FAILURES", "-1"),
    ("FAILURE_WINDOW", "0"),
    ("FAILURE_WINDOW", "86401"),
    ("CHECKPASSWORD_OPEN", "yes"),
    ("CHECKPASSWORD_TOKEN", "short"),
    ("EMAIL_URL", "mail.example.org"),
    ("EMAIL_URL", "http://mail.example.org"),
    ("EMAIL_FROM", "nobody"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_LEVEL", "debug"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(BadSetting) as bad:
        read(**{name: value})
    assert str(bad.value).startswith(f"{name}:")
    assert "\n" not in str(bad.value)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"BASE_URL": "https://sso.example.org"}, "TRUSTED_PROXIES"),
        ({"UGOS_AUTH_PROXY_URL": "http://nas:8080"}, "UGOS_AUTH_PROXY_TOKEN"),
        ({"DATABASE_URL": "postgres://u:p@h/n"}, "SECRET_KEY"),
        ({"EMAIL_URL": "smtp://mail.example.org"}, "EMAIL_FROM"),
        ({"VAULT_ADDR": "http://localhost:8200"}, "VAULT_TOKEN"),
        ({"VAULT_TOKEN": "t"}, "VAULT_TOKEN"),
        ({"VAULT_DATABASE_PATH": "database/creds/a"}, "VAULT_DATABASE_PATH"),
        ({"DATABASE_PARENTROLE": "a"}, "DATABASE_PARENTROLE"),
        ({**VAULT, "VAULT_DATABASE_PATH": "database/creds/a"}, "DATABASE_NAME"),
        ({**VAULT_DATABASE, "DATABASE_URL": "sqlite:///a"}, "DATABASE_URL"),
        (VAULT_DATABASE, "SECRET_KEY"),
    ],
)
def test_what_belongs_together_is_demanded(environ: dict[str, str], name: str) -> None:
    with pytest.raises(BadSetting, match=f"^{name}"):
        read(**environ)


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://localhost:80/", "http://localhost"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://sso.localhost", "http://sso.localhost"),
        ("HTTP://LOCALHOST:8000", "http://localhost:8000"),
    ],
)
def test_the_public_address_has_one_spelling(given: str, base: str) -> None:
    assert read(BASE_URL=given).base_url == base


def test_the_defaults_are_those_of_the_table() -> None:
    found = read()
    defaults = {
        "base_url": "http://localhost:8000",
        "host": "127.0.0.1",
        "port": 8000,
        "workers": 1,
        "data_dir": "/var/lib/authserver",
        "group_map": {"admin": "admins", "family": "family"},
        "nas_recheck": 60,
        "nas_grace": 900,
        "session_hours": 336,
        "session_cookie_name": "authserver",
        "refusal_seconds": 1.5,
        "max_failures": 10,
        "failure_window": 300,
        "log_level": "INFO",
    }
    assert {name: getattr(found, name) for name in defaults} == defaults
    assert found.trusted_proxies is None


def test_a_vault_is_also_for_who_has_his_database_elsewhere() -> None:
    assert not read(**VAULT).is_postgresql()
    assert read(**VAULT_DATABASE, SECRET_KEY="k" * 32).is_postgresql()


def test_consul_s_address_may_be_as_consul_writes_it() -> None:
    for given in ("127.0.0.1:8500", "http://127.0.0.1:8500"):
        assert read(CONSUL_HTTP_ADDR=given).consul_http_addr == "http://127.0.0.1:8500"


def test_an_empty_one_counts_as_unset() -> None:
    found = read(**{setting.name: "" for setting in SETTINGS})
    assert found.port == 8000
    assert not found.given


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.secret])
def test_a_secret_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    values = {
        "DATABASE_URL": "postgres://u:secret@h/n",
        "EMAIL_URL": "smtp://u:secret@h",
    }
    value = values.get(name, "a-secret-of-at-least-32-characters")
    file = tmp_path / "secret"
    file.write_text(value + "\n")
    others = {"SECRET_KEY": "k" * 40, "EMAIL_FROM": "a@b.example"}
    if name.startswith("VAULT"):
        others |= {
            "VAULT_ADDR": "http://127.0.0.1:8200",
            "VAULT_DATABASE_PATH": "database/creds/a",
            "DATABASE_NAME": "a",
        }
    others.pop(name, None)
    found = read(**{f"{name}_FILE": str(file)}, **others)
    assert found.texts[name] == value
    assert name in found.given
    with pytest.raises(BadSetting, match=f"{name} and {name}_FILE"):
        read(**{f"{name}_FILE": str(file), name: value}, **others)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff" * 40)
    for file in (empty, binary, tmp_path / "missing", tmp_path):
        with pytest.raises(BadSetting, match=r"^SECRET_KEY_FILE: "):
            read(SECRET_KEY_FILE=str(file))


def test_no_error_tells_a_secret() -> None:
    for name in ("SECRET_KEY", "UGOS_AUTH_PROXY_TOKEN", "CHECKPASSWORD_TOKEN"):
        with pytest.raises(BadSetting) as bad:
            read(**{name: "my secret"})
        assert "my secret" not in str(bad.value)
    for name in ("DATABASE_URL", "EMAIL_URL"):
        with pytest.raises(BadSetting) as bad:
            read(**{name: "oops://user:my-secret@host:port/x"})
        assert "my-secret" not in str(bad.value)


def test_the_appconfig_folder_is_read_and_the_environment_goes_before_it(tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.mkdir()
    (env / "PORT").write_text("1234\nthe second line is none\n")
    (env / "WORKERS").write_text("3")
    (env / "LOG_LEVEL").write_text("")
    (env / ".hidden").write_text("x")
    (env / "SECRET_KEY").write_text("k" * 40 + "  \t\n")
    found = Environment({"APPCONFIG_DIR": str(tmp_path), "WORKERS": "2"})
    assert (found.port, found.workers, found.log_level) == (1234, 2, "INFO")
    assert found.secret_key == "k" * 40


def test_a_database_address_has_its_tls_options(tmp_path: Path) -> None:
    url = (
        "postgres://u:p%40ss@h:5433/n?sslmode=verify-full&sslrootcert=/ca.pem"
        "&sslcert=/c.pem&sslkey=/k.pem"
    )
    found = read(DATABASE_URL=url, SECRET_KEY="k" * 40).database_url
    assert (found["USER"], found["PASSWORD"], found["HOST"], found["PORT"], found["NAME"]) == (
        "u",
        "p@ss",
        "h",
        5433,
        "n",
    )
    assert found["OPTIONS"]["sslmode"] == "verify-full"
    assert found["OPTIONS"]["sslrootcert"] == "/ca.pem"
    assert (found["OPTIONS"]["sslcert"], found["OPTIONS"]["sslkey"]) == ("/c.pem", "/k.pem")
    assert read(DATABASE_URL="sqlite:////var/x.db").database_url["NAME"] == "/var/x.db"


@pytest.mark.parametrize("command", ["serve", "migrate", "user", "settings", "check"])
def test_every_command_stops_with_one_line_and_2(tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        [AUTHSERVER, command],
        env={**NO_FOLDER, "PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "PORT": "no"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "PORT" in done.stderr


def test_the_secret_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    key = make_secret_key(str(folder))
    assert len(key) >= 32
    assert make_secret_key(str(folder)) == key
    assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["secret_key"]


def test_processes_that_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    code = (
        "import sys; from authserver.environment import make_secret_key as m; print(m(sys.argv[1]))"
    )
    python = Path(AUTHSERVER).with_name("python")

    def make(_: int) -> str:
        return subprocess.run(
            [python, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(make, range(6)))) == 1


def test_threads_that_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    for number in range(20):
        folder = str(tmp_path / str(number))
        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(lambda _: make_secret_key(folder), range(8)))) == 1  # noqa: B023


def test_a_damaged_or_unusable_key_stops_with_2(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("short")
    with pytest.raises(BadSetting, match="DATA_DIR"):
        make_secret_key(str(tmp_path))
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BadSetting, match="DATA_DIR"):
        make_secret_key(str(file))
