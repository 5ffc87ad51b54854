"""The command `authserver`: Django's management commands, and this project's own."""

import os
import sys
from typing import Any, NoReturn

from authserver import __version__
from authserver.environment import BadSetting


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authserver.settings")
    if sys.argv[1:] == ["--version"]:
        print(f"authserver {__version__}")
        return
    if any("\udc80" <= character <= "\udcff" for text in sys.argv for character in text):
        stop("the arguments must be UTF-8", status=2)
    try:
        from authserver import settings  # noqa: PLC0415  (reads the environment)
    except BadSetting as error:
        stop(str(error), status=2)
    from authserver.log import set_up  # noqa: PLC0415

    if sys.argv[1:2] != ["serve"]:
        settings.DATABASE["OPTIONS"].pop("pool", None)  # one connection, and its error at once
    # the audit log of a command is in the database; its lines would hide the command's own
    quiet = sys.argv[1:2] != ["serve"] and "LOG_LEVEL" not in settings.ENV.given
    set_up("WARNING" if quiet else settings.ENV.log_level)
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  (nobody gets a traceback)
        stop(explain(error))


def run() -> None:
    from django.core.management import ManagementUtility, get_commands  # noqa: PLC0415

    class Commands(ManagementUtility):
        """Replaces Django's answer to a command that does not exist: it is misuse, exit 2."""

        def fetch_command(self, subcommand: str) -> Any:
            if subcommand not in get_commands():
                stop(f"there is no command {subcommand!r}: see authserver help", status=2)
            return super().fetch_command(subcommand)

    if sys.argv[1:2] in (["help"], ["--help"], ["-h"]) or not sys.argv[1:]:
        show_help(sys.argv[2:])
    else:
        Commands(["authserver", *sys.argv[1:]]).execute()
    sys.stdout.flush()


def show_help(arguments: list[str]) -> None:
    """Replaces Django's pages, which know nothing of verbs."""
    import django  # noqa: PLC0415

    django.setup()
    from authserver import manual  # noqa: PLC0415

    try:
        manual.run(arguments)
    except LookupError as error:
        stop(f"there is no command {error.args[0]!r}: see authserver help", status=2)


def explain(error: Exception) -> str:
    """One line about what went wrong, without values that somebody may have typed."""
    from django.db import DatabaseError, InterfaceError  # noqa: PLC0415

    if isinstance(error, DatabaseError | InterfaceError):
        if lacks_migrations():
            return "the database lacks migrations: run `authserver migrate` first"
        first = (str(error).splitlines() or [""])[0]
        return f"the database cannot be used: {type(error).__name__}: {first}"
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'}: {error.strerror}"
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f" ({trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno})" if trace else ""
    return f"a fault in authserver: {type(error).__name__}{where}"


def lacks_migrations() -> bool:
    from django.db import DatabaseError, connection  # noqa: PLC0415
    from django.db.migrations.executor import MigrationExecutor  # noqa: PLC0415

    try:
        executor = MigrationExecutor(connection)
        return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except DatabaseError:
        return False


def stop(line: str, status: int = 1) -> NoReturn:
    print(f"authserver: {line}", file=sys.stderr)
    sys.exit(status)
