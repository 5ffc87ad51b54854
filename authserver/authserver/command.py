"""The command `authserver`: Django's management commands, and this project's own."""

import os
import sys

from authserver import __version__
from authserver.environment import BadSetting


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authserver.settings")
    if sys.argv[1:] == ["--version"]:
        print(f"authserver {__version__}")
        return
    try:
        from authserver import settings  # noqa: PLC0415  (reads the environment)
    except BadSetting as error:
        sys.exit(stop(f"authserver: {error}"))
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    from authserver.log import set_up  # noqa: PLC0415

    set_up(settings.ENV.log_level)
    execute_from_command_line(["authserver", *sys.argv[1:]])


def stop(line: str) -> int:
    print(line, file=sys.stderr)
    return 2
