"""authserver serve: the production server."""

import resource
import signal
import socket
import sys
from typing import Any, NoReturn

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from uvicorn.supervisors import Multiprocess

from authserver.accounts.setup import log_link
from authserver.protocol import Protocol


class Command(BaseCommand):
    help = "Answer at HOST:PORT until SIGTERM or SIGINT."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            check_migrations()
            log_link()
        except DatabaseError as error:
            stop(1, f"the database cannot be used: {one_line(error)}")
        connections.close_all()
        listener = listen(settings.ENV.host, settings.ENV.port)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        config = uvicorn.Config(
            "authserver.asgi:application",
            workers=settings.ENV.workers,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_worker_healthcheck=30,
        )
        # uvicorn sends itself the signal again when it has finished
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        if settings.ENV.workers > 1:
            Multiprocess(config, sockets=[listener]).run()
        else:
            uvicorn.Server(config).run(sockets=[listener])


STOP_SECONDS = 10  # for running requests to finish


def stop(status: int, text: str) -> NoReturn:
    print(f"authserver: {text}", file=sys.stderr)
    sys.exit(status)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def check_migrations() -> None:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        stop(1, "the database lacks migrations: run `authserver migrate` first")


def listen(host: str, port: int) -> socket.socket:
    """The socket that all workers share."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            address[:2], family=family, backlog=2048, dualstack_ipv6=both
        )
    except OSError as error:
        stop(1, f"HOST, PORT: cannot listen on {host} port {port}: {error.strerror}")
    # a connection inherits it (asyncio sets it only where it made the listening socket itself):
    # else the body of an answer waits up to 40 ms until the client confirms its head
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.set_inheritable(True)
    return listener
