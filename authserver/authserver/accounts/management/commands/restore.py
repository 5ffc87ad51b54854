"""authserver restore: a backup, back into an empty database."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from authserver.backup import restore
from authserver.commands import Refused, refuse, say


class Command(BaseCommand):
    help = "Read FILE, which `authserver backup` has written, into this empty database."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = restore(options["file"])
        except Refused as error:
            refuse(error)
        say(f"Read {count} rows from {options['file']}.")
        if settings.ENV.secret_key:
            say("Open forms and links in mail count on only where SECRET_KEY is the former one.")
