"""authserver backup: everything in one file, while the service runs."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from authserver.backup import back_up
from authserver.commands import Refused, refuse, say


class Command(BaseCommand):
    help = (
        "Write everything to FILE, as it is at one moment; the service may go on. "
        "Who can read the file can be anybody here: keep it like a password."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = back_up(options["file"])
        except Refused as error:
            refuse(error)
        say(f"Wrote {count} rows to {options['file']}.")
