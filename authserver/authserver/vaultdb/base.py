"""PostgreSQL with credentials from Vault: Django's own, but for who connects.

Each new connection has the credentials that count then, and becomes DATABASE_PARENTROLE
(`SET ROLE`), which owns the tables whatever user Vault has made.
"""

from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from django.db.utils import OperationalError
from psycopg import sql

from authserver.vault import Credentials, Lease, Vault, VaultError

credentials = Credentials(Vault(settings.ENV), settings.ENV.vault_database_path)


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        lease = current()
        try:
            return self.connect_as(lease, conn_params)
        except psycopg.OperationalError as error:
            # used_password: it was asked for one, and did not like it. The role may be gone, where
            # somebody has revoked the lease; a server that is down is no reason for another one
            if error.pgconn is None or not error.pgconn.used_password:
                raise
        credentials.forget(lease)
        return self.connect_as(current(), conn_params)

    def connect_as(self, lease: Lease, conn_params: dict[str, Any]) -> Any:
        who = {"user": lease.user, "password": lease.password}
        return super().get_new_connection({**conn_params, **who})

    def init_connection_state(self) -> None:
        super().init_connection_state()
        if role := settings.ENV.database_parentrole:
            with self.cursor() as cursor:
                cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))


def current() -> Lease:
    try:
        return credentials.current()
    except VaultError as error:
        raise OperationalError(str(error)) from None
