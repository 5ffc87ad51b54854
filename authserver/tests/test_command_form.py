"""What holds for every command: exit codes, output, and never a traceback."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from authserver.environment import SETTINGS
from tests.command_line import run
from tests.databases import AUTHSERVER, drop_database, new_database
from tests.processes import free_port, keep_secret

SECRET = keep_secret("a-token-of-32-characters-or-more!")
URL_PASSWORD = keep_secret("database-password")


def command(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """`authserver` in a process of its own, with these settings only."""
    environment = {name: str(value) for name, value in settings.items()}
    done = subprocess.run(
        [AUTHSERVER, *arguments],
        env={"PATH": os.environ["PATH"], "APPCONFIG_DIR": "/nonexistent", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert URL_PASSWORD not in done.stdout + done.stderr
    return done


@pytest.mark.once
def test_a_bad_setting_is_one_line_that_names_it_and_exit_2(tmp_path: Path) -> None:
    result = command("user", "list", DATA_DIR=tmp_path, PORT="eighty")
    assert result.returncode == 2
    assert result.stderr.startswith("authserver: PORT: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.once
@pytest.mark.parametrize("verb", [("user", "list"), ("migrate",), ("backup", "file")])
def test_a_database_that_is_down_is_one_line_and_exit_1(
    tmp_path: Path, verb: tuple[str, ...]
) -> None:
    url = f"postgres://me:{URL_PASSWORD}@127.0.0.1:{free_port()}/none"
    result = command(*verb, DATA_DIR=tmp_path, DATABASE_URL=url, SECRET_KEY=SECRET)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "the database cannot be used" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", [("user", "list"), ("serve",), ("audit",)])
def test_a_database_without_migrations_names_the_command_that_helps(
    tmp_path: Path, verb: tuple[str, ...]
) -> None:
    url = new_database(tmp_path, empty=True)
    result = command(*verb, DATA_DIR=tmp_path, DATABASE_URL=url, SECRET_KEY=SECRET)
    drop_database(url)
    assert result.returncode == 1
    assert "authserver migrate" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.once
def test_a_command_that_does_not_exist_is_2(tmp_path: Path) -> None:
    assert command("nosuch", DATA_DIR=tmp_path).returncode == 2


@pytest.mark.once
def test_an_argument_that_is_no_text_is_2(tmp_path: Path) -> None:
    assert command("group", "create", os.fsdecode(b"\xff"), DATA_DIR=tmp_path).returncode == 2


@pytest.mark.once
def test_output_that_nobody_reads_to_the_end_is_no_fault(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [AUTHSERVER, "settings"],
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path)},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.once
def test_settings_shows_each_with_what_is_set_and_no_secret(tmp_path: Path) -> None:
    secrets = {
        "SECRET_KEY": SECRET,
        "UGOS_AUTH_PROXY_TOKEN": SECRET,
        "DATABASE_URL": f"postgres://me:{URL_PASSWORD}@db/none",
    }
    result = command("settings", "--format", "json", DATA_DIR=tmp_path, PORT=8123, **secrets)
    assert result.returncode == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert list(rows) == [setting.name for setting in SETTINGS]
    assert (rows["PORT"]["value"], rows["PORT"]["set"]) == ("8123", True)
    assert (rows["HOST"]["value"], rows["HOST"]["set"]) == ("127.0.0.1", False)
    for name in secrets:
        assert rows[name]["value"] == "(hidden)"
        assert rows[name]["set"]
    assert "8123" in command("settings", DATA_DIR=tmp_path, PORT=8123).stdout


@pytest.mark.django_db
def test_the_audit_log_is_shown_the_newest_last_and_filtered() -> None:
    for name in ("one", "two", "three"):
        run("group", "create", name)
    run("domain", "create", "example.org")

    def shown(*arguments: str) -> list[str]:
        return [event["subject"] for event in run("audit", "-f", "json", *arguments).json]

    assert shown() == ["one", "two", "three", "example.org"]
    assert shown("--kind", "group") == ["one", "two", "three"]
    assert shown("--subject", "two") == ["two"]
    assert shown("-n", "2") == ["three", "example.org"]
    assert shown("--since", "1h", "--actor", "nobody") == []
    assert shown("--since", "2000-01-01") == ["one", "two", "three", "example.org"]
    assert shown("--since", "2999-01-01T00:00Z") == []
    assert run("audit", "--since", "yesterday").status == 2
    assert run("audit", "-n", "many").status == 2
    head, first, *_ = run("audit").out.splitlines()
    assert head.split() == [
        "at", "kind", "actor", "subject", "application", "client", "details",
    ]  # fmt: skip
    assert first.split()[1] == "group.created"
