"""authserver serve: the production server."""

import sys
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from authserver.accounts.setup import log_link


class Command(BaseCommand):
    help = "Answer at HOST:PORT until SIGTERM or SIGINT."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
            missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError as error:
            sys.exit(f"authserver: the database cannot be used: {type(error).__name__}: {error}")
        if missing:
            sys.exit("authserver: the database lacks migrations: run `authserver migrate` first")
        log_link()
        connections.close_all()
        uvicorn.run(
            "authserver.asgi:application",
            host=settings.ENV.host,
            port=settings.ENV.port,
            workers=settings.ENV.workers,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            http="httptools",
            ws="none",
            loop="asyncio",
            timeout_graceful_shutdown=10,
        )
