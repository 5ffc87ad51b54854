"""Django for the double: one SQLite file, authentik's user model, tables without migrations."""

from pathlib import Path
from typing import Any

import django
import recorder
from django.apps import apps
from django.conf import settings
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import CharField, TextField
from django.db.models.lookups import IExact
from django.db.models.sql.compiler import SQLCompiler


def configure() -> None:
    """Readies Django, which wants it before a model is imported: the package `authentik` calls
    this."""
    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="a key of the tests",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "authentik.core.apps.CoreConfig",
        ],
        AUTH_USER_MODEL="authentik_core.User",
        AUTHENTICATION_BACKENDS=[
            "authentik.core.auth.InbuiltBackend",
            "authentik.core.auth.TokenBackend",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
            }
        },
    )
    connection_created.connect(add_functions)
    django.setup()
    for field in (CharField, TextField):
        field.register_lookup(CaseBlind)


def setup(path: Path) -> None:
    """Makes the tables, in a file below `path`; in a process that has them, nothing."""
    configure()
    database = connections.settings["default"]
    if database["NAME"]:
        return
    database["NAME"] = str(path / "authentik.sqlite3")
    with connection.schema_editor() as editor:
        for model in apps.get_models():
            editor.create_model(model)


def reset() -> None:
    """Empties the tables, the event table and the log."""
    for model in apps.get_models(include_auto_created=True):
        model._base_manager.all().delete()
    recorder.clear()


def upper(text: str | None) -> str | None:
    """PostgreSQL's upper(): letter by letter, so that a dotless i is I, and a sharp s stays."""
    if text is None:
        return None
    return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in text)


def add_functions(connection: BaseDatabaseWrapper, **_: object) -> None:
    connection.connection.create_function("pg_upper", 1, upper, deterministic=True)


class CaseBlind(IExact):
    """`iexact` as PostgreSQL compares: UPPER() of both sides. SQLite's own knows ASCII only."""

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, list[Any]]:
        left, left_values = self.process_lhs(compiler, connection)
        right, right_values = super(IExact, self).process_rhs(compiler, connection)
        return f"pg_upper({left}) = pg_upper({right})", [*left_values, *right_values]
