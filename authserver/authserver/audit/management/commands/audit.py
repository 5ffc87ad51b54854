"""authserver audit: who did what, when and from where."""

import datetime
import re
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from authserver.audit.models import Event
from authserver.commands import Refused, misused, output, refuse, with_format

COLUMNS = ("at", "kind", "actor", "subject", "application", "client", "details")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    help = "Show the audit log of the last 90 days, the newest last."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--kind", metavar="KIND", help="login, login.refused, ...; its begin")
        parser.add_argument("--subject", metavar="NAME", help="the account that it is about")
        parser.add_argument("--actor", metavar="NAME", help="who did it")
        parser.add_argument("--application", metavar="NAME")
        parser.add_argument("--client", metavar="ADDRESS", help="from where")
        parser.add_argument("--since", metavar="WHEN", help="30m, 12h, 7d, or 2026-11-30T08:00Z")
        parser.add_argument(
            "-n", "--lines", metavar="N", default="100", help="only the last N (100; 0: all)"
        )
        with_format(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            since, lines = read_since(options["since"]), read_lines(options["lines"])
        except Refused as error:
            refuse(error)
        found = Event.objects.all()
        for name in ("subject", "actor", "application", "client"):
            if options[name]:
                found = found.filter(**{name: options[name]})
        if options["kind"]:
            found = found.filter(kind__startswith=options["kind"])
        if since:
            found = found.filter(at__gte=since)
        events = list(found[:lines] if lines else found)
        output((row_of(event) for event in reversed(events)), COLUMNS, options["format"])


def read_since(text: str | None) -> datetime.datetime | None:
    """So long ago, or a time (ISO 8601; without a zone: UTC)."""
    if not text:
        return None
    if ago := re.fullmatch(r"([0-9]{1,4})([mhd])", text):
        return timezone.now() - datetime.timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        misused("--since is 30m, 12h, 7d, or a time as 2026-11-30T08:00Z.")
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def read_lines(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        misused("--lines is a number.")
    return int(text)


def row_of(event: Event) -> dict[str, Any]:
    row = {name: getattr(event, name) for name in COLUMNS}
    row["at"] = event.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return row
