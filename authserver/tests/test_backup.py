"""authserver backup and restore: one file, of one moment, from either database and into either."""

import gzip
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authserver.accounts.models import Group, User
from tests.databases import AUTHSERVER, drop_database, new_database
from tests.processes import keep_secret
from tests.server import PASSWORD, SECRET_KEY, Server

Command = Callable[..., subprocess.CompletedProcess[str]]


def command(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [AUTHSERVER, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "APPCONFIG_DIR": "/nonexistent",
            "DATA_DIR": str(folder),
            **settings,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of an empty database without tables."""
    folder = tmp_path / "empty"
    folder.mkdir()
    url = new_database(folder, empty=True)
    yield {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY}
    drop_database(url)


def rows(file: Path) -> list[str]:
    """The lines of a backup, but the first."""
    return gzip.decompress(file.read_bytes()).decode().splitlines()[1:]


def test_a_backup_brings_everything_back(
    server: Server, tmp_path: Path, empty: dict[str, str]
) -> None:
    server.make_user("jane", fullname="J\u00e4ne \u2028 D.")
    server.browser().signed_in("jane", PASSWORD)
    server.run("domain", "create", "example.org")
    server.run("emailalias", "create", "jane@example.org", "-u", "jane")
    server.run("user", "set-delivery-mailbox", "jane", "jane@example.org")
    service = keep_secret(server.run("serviceuser", "create", "-u", "jane").stdout.strip())
    file = tmp_path / "backup.gz"
    done = server.run("backup", str(file))
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert service not in "\n".join(rows(file))
    done = command(tmp_path, "restore", str(file), **empty)
    assert done.returncode == 0, done.stderr
    again = tmp_path / "again.gz"
    assert command(tmp_path, "backup", str(again), **empty).returncode == 0
    assert rows(again) == rows(file)
    assert len(rows(file)) > 50


def test_what_is_made_after_a_restore_gets_numbers_of_its_own(
    server: Server, tmp_path: Path, empty: dict[str, str]
) -> None:
    server.run("group", "create", "before")
    file = tmp_path / "backup.gz"
    server.run("backup", str(file))
    command(tmp_path, "restore", str(file), **empty)
    for name in ("one", "two"):
        done = command(tmp_path, "group", "create", name, **empty)
        assert done.returncode == 0, done.stderr


def test_a_backup_is_of_one_moment_while_others_write(server: Server, tmp_path: Path) -> None:
    """A group and its member are made in one transaction: a backup has both or none."""
    stop, failed = threading.Event(), list[str]()

    def write() -> None:
        with server.database():
            number = 0
            while not stop.is_set():
                number += 1
                write_pair(f"pair-{number}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            file = tmp_path / f"backup-{number}.gz"
            assert server.run("backup", str(file)).returncode == 0
            text = "\n".join(rows(file))
            if text.count('"pair-') != 2 * text.count('"pair-group-'):
                failed.append(text)
    finally:
        stop.set()
        writer.join()
    assert not failed


def write_pair(name: str) -> None:
    from django.db import transaction

    with transaction.atomic():
        Group.objects.create(name=f"pair-group-{name}")
        Group.objects.create(name=f"pair-{name}")


def test_a_database_in_use_is_left_alone(server: Server, tmp_path: Path) -> None:
    server.make_user("lives-here")
    file = tmp_path / "backup.gz"
    server.run("backup", str(file))
    done = server.run("restore", str(file))
    assert done.returncode == 1
    assert "in use" in done.stderr
    with server.database():
        assert User.objects.filter(identifier="lives-here").exists()


def test_what_is_no_whole_backup_is_refused(
    server: Server, tmp_path: Path, empty: dict[str, str]
) -> None:
    file = tmp_path / "backup.gz"
    server.run("group", "create", "there")
    server.run("backup", str(file))
    whole = file.read_bytes()
    lines = gzip.decompress(whole).decode().splitlines(keepends=True)
    other = gzip.compress("".join(lines).replace('"there"', '"other"').encode())
    lines.remove(next(line for line in lines if '"there"' in line))
    for damaged in (
        whole[: len(whole) // 2],
        whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:],
        other[:-8] + whole[-8:],  # as many rows and bytes: only the checksum tells
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"",
        gzip.compress(b"{}\n"),
        gzip.compress("".join(lines).encode()),
        gzip.compress("".join(lines[:-1]).encode()),
    ):
        file.write_bytes(damaged)
        done = command(tmp_path, "restore", str(file), **empty)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert "backup" in done.stderr
    listed = command(tmp_path, "user", "list", "-f", "json", **empty)
    assert "migrate" in listed.stderr or json.loads(listed.stdout) == []
    file.write_bytes(whole)
    assert command(tmp_path, "restore", str(file), **empty).returncode == 0
    assert command(tmp_path, "restore", str(tmp_path / "none")).returncode == 1


def test_a_backup_of_a_newer_version_is_refused(
    server: Server, tmp_path: Path, empty: dict[str, str]
) -> None:
    file = tmp_path / "backup.gz"
    server.run("backup", str(file))
    first, *others = gzip.decompress(file.read_bytes()).decode().splitlines(keepends=True)
    head = json.loads(first)
    head["migrations"].append(["accounts", "9999_of_tomorrow"])
    file.write_bytes(gzip.compress("".join([json.dumps(head) + "\n", *others]).encode()))
    done = command(tmp_path, "restore", str(file), **empty)
    assert done.returncode == 1
    assert "newer" in done.stderr


@pytest.mark.once
def test_a_backup_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Of the first migration, into a database that then has all of them."""
    old, new = tmp_path / "old", tmp_path / "new"
    for app in ("contenttypes", "auth", "admin"):
        assert command(old, "migrate", "-v0", app).returncode == 0
    assert command(old, "migrate", "-v0", "accounts", "0001").returncode == 0
    file = tmp_path / "old.gz"
    done = command(old, "backup", str(file))
    assert done.returncode == 0, done.stderr
    done = command(new, "restore", str(file))
    assert done.returncode == 0, done.stderr
    assert command(new, "migrate", "--check").returncode == 0


def test_a_file_that_is_there_is_replaced_whole_or_stays(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "backup.gz"
    file.write_text("the one of yesterday")
    done = server.run("backup", str(file), DATABASE_URL="sqlite:////nonexistent/db")
    assert done.returncode == 1
    assert file.read_text() == "the one of yesterday"
    assert list(tmp_path.iterdir()) == [file]
    assert server.run("backup", str(tmp_path / "no" / "folder.gz")).returncode == 1


@pytest.mark.once
def test_the_secret_key_of_the_data_folder_comes_along(tmp_path: Path) -> None:
    one, other, third = tmp_path / "one", tmp_path / "other", tmp_path / "third"
    command(one, "migrate", "-v0")
    command(one, "backup", str(tmp_path / "backup.gz"))
    done = command(other, "restore", str(tmp_path / "backup.gz"))
    assert done.returncode == 0, done.stderr
    key = (one / "secret_key").read_text()
    assert (other / "secret_key").read_text() == key
    assert (other / "secret_key").stat().st_mode & 0o777 == 0o600
    # one that is set by the environment stays where it was set
    third.mkdir()
    command(one, "backup", str(tmp_path / "b.gz"), SECRET_KEY=key)
    head = json.loads(gzip.decompress((tmp_path / "b.gz").read_bytes()).splitlines()[0])
    assert head["secret_key"] is None


@pytest.mark.postgres
def test_it_moves_from_sqlite_to_postgresql_and_back(server: Server, tmp_path: Path) -> None:
    server.make_user("mover")
    there, back = tmp_path / "there.gz", tmp_path / "back.gz"
    server.run("backup", str(there))
    sqlite = {"SECRET_KEY": SECRET_KEY}
    done = command(tmp_path, "restore", str(there), **sqlite)
    assert done.returncode == 0, done.stderr
    assert command(tmp_path, "backup", str(back), **sqlite).returncode == 0
    assert rows(back) == rows(there)
    url = new_database(tmp_path, empty=True)
    try:
        done = command(tmp_path, "restore", str(back), DATABASE_URL=url, **sqlite)
        assert done.returncode == 0, done.stderr
    finally:
        drop_database(url)
