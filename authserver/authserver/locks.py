"""One thing at a time, over all processes that share the database."""

from django.db import connection


def hold(name: str) -> None:
    """Wait for the lock called `name`, and hold it until the transaction ends.

    On SQLite there is nothing to do: a transaction there begins as a writer (`IMMEDIATE`), and
    there is one writer at a time.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("a lock is held by a transaction")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
