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

from authserver.vault import Credentials, VaultError

credentials = Credentials(
    settings.ENV.vault_addr,
    settings.ENV.vault_token,
    settings.ENV.vault_ca,
    settings.ENV.vault_database_path,
)


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        try:
            lease = credentials.current()
        except VaultError as error:
            raise OperationalError(str(error)) from None
        try:
            return super().get_new_connection(
                {**conn_params, "user": lease.user, "password": lease.password}
            )
        except psycopg.OperationalError:
            credentials.forget()
            raise

    def init_connection_state(self) -> None:
        super().init_connection_state()
        if role := settings.ENV.database_parentrole:
            with self.cursor() as cursor:
                cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
