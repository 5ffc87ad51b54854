"""A backup: one file with every row, from either database and into either.

The file is gzip of JSON lines: first what it is (`format`, `version`, the `migrations` that the
database had, `secret_key` where that is a file in DATA_DIR), then for each table its name and
columns followed by its rows, and last the number of rows, without which a file is not whole.

It is read within one transaction that sees one moment, while others go on writing. A restore
brings an empty database to the same migrations, fills it, and then migrates it to today's: so a
backup of an older version can be read, and one from SQLite can go to PostgreSQL.
"""

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from django.apps.registry import Apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Field, Model

from authserver import __version__
from authserver.commands import Refused
from authserver.files import private_file

FORMAT = 1
ROWS = 1000  # at a time
# what migrations and `serve` put into a database that nobody has used yet
MADE_ALONE = {
    "accounts.setuptoken",
    "auth.permission",
    "contenttypes.contenttype",
    "oidc.signingkey",
}
# what reading raises where a file was cut, changed, or written by something else
DAMAGED = (
    EOFError,
    KeyError,
    TypeError,
    ValidationError,
    ValueError,
    gzip.BadGzipFile,
    zlib.error,
)
NOT_WHOLE = "This is not a whole backup of authserver"


class Table:
    """A table and the fields of its columns, as the migrations that were applied made it."""

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        self.label = model._meta.label_lower
        self.name = model._meta.db_table
        self.fields: list[Field[Any, Any]] = list(model._meta.local_concrete_fields)
        self.columns = [str(field.column) for field in self.fields]

    def read(self) -> Iterator[list[Any]]:
        for row in self.model._base_manager.order_by("pk").iterator(chunk_size=ROWS):
            yield [self.to_json(field, row) for field in self.fields]

    @staticmethod
    def to_json(field: "Field[Any, Any]", row: Model) -> Any:
        return None if field.value_from_object(row) is None else field.value_to_string(row)

    def write(self, rows: list[list[Any]]) -> None:
        """Insert rows as they are: no default and no time of the last change is made anew."""
        quote = connection.ops.quote_name
        columns = ", ".join(quote(column) for column in self.columns)
        places = ", ".join(["%s"] * len(self.columns))
        query = f"INSERT INTO {quote(self.name)} ({columns}) VALUES ({places})"  # noqa: S608
        with connection.cursor() as cursor:
            cursor.executemany(query, [self.from_json(row) for row in rows])

    def from_json(self, row: list[Any]) -> list[Any]:
        return [
            field.get_db_prep_save(None if value is None else field.to_python(value), connection)
            for field, value in zip(self.fields, row, strict=True)
        ]

    def empty(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(self.name)}")  # noqa: S608


def tables(apps: Apps) -> list[Table]:
    models = apps.get_models(include_auto_created=True)
    return [
        Table(model)
        for model in models
        if model._meta.managed and not model._meta.proxy and not model._meta.swapped
    ]


def apps_at(migrations: list[tuple[str, str]]) -> Apps:
    """The models as those migrations made them."""
    executor = MigrationExecutor(connection)
    for app, name in migrations:
        if (app, name) not in executor.loader.disk_migrations:
            raise Refused(f"The backup is of a newer authserver: {app} {name} is not known here.")
    return executor.loader.project_state(migrations).apps


@contextlib.contextmanager
def one_moment() -> Iterator[None]:
    """A transaction that sees the database as it is now, and holds nobody up."""
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        connection.transaction_mode = "DEFERRED"  # type: ignore[attr-defined]
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def back_up(path: Path) -> int:
    """Write everything to `path`; how many rows that is."""
    count = 0
    with one_moment():
        executor = MigrationExecutor(connection)
        applied = sorted(executor.loader.applied_migrations)
        head = {
            "authserver": "backup",
            "format": FORMAT,
            "version": __version__,
            "migrations": applied,
            "secret_key": None if settings.ENV.secret_key else settings.SECRET_KEY,
        }
        with (
            private_file(path) as raw,
            gzip.open(raw, "wt", compresslevel=6, encoding="utf-8") as file,
        ):
            file.write(json.dumps(head) + "\n")
            for table in tables(apps_at(applied)):
                file.write(json.dumps({"table": table.label, "columns": table.columns}) + "\n")
                for row in table.read():
                    file.write(json.dumps(row) + "\n")
                    count += 1
            file.write(json.dumps({"rows": count}) + "\n")
    return count


def restore(path: Path) -> int:
    """Read a backup into this database, which must be empty; how many rows that were.

    Raises Refused; then nothing but tables has been made.
    """
    check_empty()
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            head = read_head(next(file, ""))
            migrations = [(app, name) for app, name in head["migrations"]]
            apps_at(migrations)
            migrate_to(migrations)
            with transaction.atomic():
                count = fill({table.label: table for table in tables(apps_at(migrations))}, file)
    except DAMAGED as error:
        raise Refused(f"{NOT_WHOLE}: {path}") from error
    call_command("migrate", verbosity=0, interactive=False)
    if head["secret_key"] and not settings.ENV.secret_key:
        put_secret_key(head["secret_key"])
    return count


def check_empty() -> None:
    """Refused where somebody has used this database."""
    there = set(connection.introspection.table_names())
    executor = MigrationExecutor(connection)
    state = executor.loader.project_state(sorted(executor.loader.applied_migrations))
    for table in tables(state.apps):
        if table.name not in there or table.label in MADE_ALONE:
            continue
        if table.model._base_manager.exists():
            raise Refused(
                f"This database is in use ({table.name} has rows): "
                "a backup goes into an empty one only."
            )


def read_head(line: str) -> dict[str, Any]:
    head = json.loads(line or "{}")
    if not isinstance(head, dict) or head.get("authserver") != "backup":
        raise Refused("This is no backup of authserver.")
    if head["format"] != FORMAT:
        raise Refused(f"The backup is of another authserver ({head['version']}).")
    return head


def migrate_to(migrations: list[tuple[str, str]]) -> None:
    executor = MigrationExecutor(connection)
    ahead = executor.loader.applied_migrations.keys() - set(migrations)
    if ahead:
        app, name = min(ahead)
        raise Refused(
            f"This database has a migration that the backup has not ({app} {name}): "
            "restore into one without tables, or with the version of the backup."
        )
    graph = executor.loader.graph
    wanted = set(migrations)
    followed = {
        parent.key
        for key in wanted
        for parent in graph.node_map[key].parents
        if parent.key[0] == key[0]
    }
    executor.migrate(sorted(wanted - followed))


def fill(wanted: dict[str, Table], file: TextIO) -> int:
    """Replace all rows by those of the file, in one transaction; how many."""
    for table in wanted.values():
        table.empty()
    count, rows = 0, list[list[Any]]()
    current: Table | None = None
    for line in file:
        found = json.loads(line)
        if isinstance(found, list):
            rows.append(found)
        if current and rows and (len(rows) >= ROWS or isinstance(found, dict)):
            current.write(rows)
            count += len(rows)
            rows = []
        if isinstance(found, dict):
            if "rows" in found:
                break
            current = wanted[found["table"]]
            if current.columns != found["columns"]:
                raise Refused(f"The backup's table {current.label} has other columns.")
    else:
        raise Refused(NOT_WHOLE + ".")
    if count != found["rows"] or file.read():  # at its end gzip compares the checksum
        raise Refused(NOT_WHOLE + ".")
    set_sequences(wanted)
    return count


def set_sequences(wanted: dict[str, Table]) -> None:
    """Let the next row's number follow the highest (PostgreSQL; SQLite does so by itself)."""
    models = [table.model for table in wanted.values()]
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models):
            cursor.execute(statement)


def put_secret_key(key: str) -> None:
    """Put the backup's key in place of the one that was made for this start."""
    with private_file(Path(settings.ENV.data_dir) / "secret_key") as file:
        file.write(key.encode())
