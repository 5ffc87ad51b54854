"""What this project's commands share: subcommands, selections, output, questions, exit codes.

Data goes to stdout, messages to stderr. Exit codes: 0 done, also where nothing had to change;
1 refused or not found; 2 misused. A secret stands on stdout alone.
"""

import argparse
import getpass
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Model, QuerySet

from authserver import __version__

Options = argparse.Namespace
Row = Mapping[str, Any]
M = TypeVar("M", bound=Model)


class Refused(Exception):
    """What cannot be done, or is not there: exit status 1, or another that is given."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def misused(text: str) -> NoReturn:
    """Stop a command whose options make no sense together."""
    raise Refused(text, status=2)


def say(text: str) -> None:
    """A message for who runs the command."""
    print(printable(text), file=sys.stderr)


def give(text: str) -> None:
    """A line of data that a program may read: a secret, a link."""
    print(text)


def actor() -> str:
    """Who runs the command, for the audit log."""
    try:
        return f"command:{os.environ.get('SUDO_USER') or getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return f"command:{os.getuid()}"


class Noun(BaseCommand):
    """A command named after what it is about. A subclass adds its verbs in `add_verbs`.

    Each verb is a method that takes the options. It changes all that it was told or nothing: in
    one transaction, which begins after the question, since on SQLite others would wait for it.
    """

    requires_system_checks: Sequence[str] = []  # type: ignore[assignment]  # those are migrate's

    def get_version(self) -> str:
        """Replaces Django's own version."""
        return __version__

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_verbs(Verbs(parser))

    def add_verbs(self, verbs: "Verbs") -> None:
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        run: Callable[[Options], None] = options.pop("run")
        try:
            run(Options(**options))
        except (Refused, ValidationError) as error:
            refuse(error)


def refuse(error: Refused | ValidationError) -> NoReturn:
    """Say what was refused, and end the process with its status."""
    text = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    say(f"authserver: {text}")
    sys.exit(error.status if isinstance(error, Refused) else 1)


class Verbs:
    """The subcommands of a command, or of a subcommand: `add` makes one that calls `run`."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.made = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(self, name: str, run: Callable[[Options], None], text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self.made.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        return parser

    def group(self, name: str, text: str) -> "Verbs":
        """A subcommand that has subcommands of its own."""
        return Verbs(self.made.add_parser(name, help=text, description=text))


# --- Options that several commands have ---------------------------------------------------------


def with_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--format", choices=("table", "json"), default="table", help="of the output"
    )


def with_yes(parser: argparse.ArgumentParser, *, asks: bool = True) -> None:
    """`--yes`; every verb that removes takes it, also one that does not ask."""
    text = "do not ask" if asks else "nothing is asked here"
    parser.add_argument("-y", "--yes", action="store_true", help=text)


def with_contains(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    """Those that are named, and those in which a text occurs."""
    parser.add_argument(name, nargs="*", metavar=name.upper(), help=what)
    parser.add_argument("-c", "--contains", metavar="TEXT", help="all in which TEXT occurs")


# --- Selections ---------------------------------------------------------------------------------


def find(selector: str, lookup: Callable[[str], M | None], what: str) -> M:
    """The one that a selector names; Refused where there is none."""
    found = lookup(selector)
    if found is None:
        raise Refused(f"There is no {what} {selector!r}.")
    return found


def find_all(selectors: Iterable[str], lookup: Callable[[str], M | None], what: str) -> list[M]:
    """Those that selectors name, each once, in their order."""
    return list(dict.fromkeys(find(selector, lookup, what) for selector in selectors))


def select(
    selectors: Sequence[str],
    lookup: Callable[[str], M | None],
    containing: "QuerySet[M] | None",
    what: str,
) -> list[M]:
    """Those that are named, and those that `containing` has; Refused where that is nothing."""
    found = find_all(selectors, lookup, what)
    if containing is not None:
        found = list(dict.fromkeys([*found, *containing]))
    if not found:
        raise Refused(f"There is no such {what}.")
    return found


def need_selection(options: Options, selectors: Sequence[str]) -> None:
    if not selectors and not options.contains:
        misused("Name at least one, or give -c TEXT.")


def by_number(queryset: "QuerySet[M]", text: str) -> M | None:
    """The row with that id."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        return None
    return queryset.filter(pk=int(text)).first()


# --- Output and questions -----------------------------------------------------------------------


def printable(text: str) -> str:
    """`text` without what a terminal would obey: control characters as Python writes them."""
    return "".join(
        character if character == "\n" or unicodedata.category(character)[0] != "C"
        else character.encode("unicode_escape").decode()
        for character in text
    )  # fmt: skip


def cell(value: Any) -> str:
    """A value as a table shows it: one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    if isinstance(value, dict):
        return json.dumps(value, default=str) if value else ""
    return printable(str(value)).replace("\n", " ")


def output(rows: Iterable[Row], columns: Sequence[str], form: str) -> None:
    """Write rows to stdout: one JSON array, or a table with a line for each."""
    if form == "json":
        print(json.dumps([{name: row[name] for name in columns} for row in rows], default=str))
        return
    lines = [list(columns), *([cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def ask(question: str, yes: bool) -> None:
    """Go on only after a yes: `--yes`, or `y` at the terminal. Else Refused."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} There is no terminal to ask at: say --yes.")
    print(printable(question), "[y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("Nothing was changed.")


def ask_to_remove(found: Sequence[Model], yes: bool) -> None:
    ask(f"Remove {', '.join(map(str, found))}?", yes)


def read_password() -> str:
    """A password from stdin: its first line, asked for where that is a terminal."""
    if sys.stdin.isatty():
        return getpass.getpass("Password: ")
    line = sys.stdin.readline()
    if not line:
        raise Refused("There is no password on stdin.")
    return line.removesuffix("\n").removesuffix("\r")


def same_or_refuse(what: str, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Creating what exists: fine with the same values, Refused with others."""
    other = [name for name, value in wanted.items() if there[name] != value]
    if other:
        raise Refused(f"{what} exists already, with another {' and '.join(other)}.")
    say(f"{what} exists already.")
