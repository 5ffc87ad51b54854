"""authserver settings: the table of settings, with what is set."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from authserver.commands import output, with_format
from authserver.environment import SETTINGS

COLUMNS = ("name", "value", "set", "default", "meaning")


class Command(BaseCommand):
    help = "Show the settings (environment variables), with what is set. Secrets are not shown."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        with_format(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        environment = settings.ENV
        rows = []
        for setting in SETTINGS:
            text = environment.texts[setting.name]
            rows.append(
                {
                    "name": setting.name,
                    "value": "(hidden)" if setting.secret and text else text,
                    "set": setting.name in environment.given,
                    "default": setting.default,
                    "meaning": setting.meaning,
                }
            )
        output(rows, COLUMNS, options["format"])
