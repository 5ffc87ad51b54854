"""authserver serviceuser: names and passwords for programs, each of a user's."""

import argparse

from django.db import transaction

from authserver.accounts import service_users
from authserver.accounts.models import ServiceUser
from authserver.accounts.select import find_service_user, find_user
from authserver.commands import (
    Noun,
    Options,
    Refused,
    Row,
    Verbs,
    actor,
    ask,
    ask_to_remove,
    find,
    give,
    misused,
    output,
    say,
    select,
    with_contains,
    with_format,
    with_yes,
)
from authserver.names import name_key

COLUMNS = ("id", "username", "description", "user_identifier", "user_uuid", "last_used")
RANDOM = "A service user's password is made here, at random: leave the option out."


class Command(Noun):
    help = "Service users: a name and a random password of a user's, for a program."

    def add_verbs(self, verbs: Verbs) -> None:
        creating = verbs.add("create", self.create, "make one, and print its password")
        creating.add_argument("-u", "--user", metavar="USER", required=True, help="whose it is")
        creating.add_argument("--username", metavar="N", default="", help="else one is made up")
        creating.add_argument("--description", metavar="D", default="", help="what it is for")
        creating.add_argument("--password", metavar="P", help="refused: it is made at random")
        for name in ("list", "show"):
            listing = verbs.add(name, getattr(self, f"{name}_them"), "show service users")
            add_selection(listing)
            with_format(listing)
        editing = verbs.add("edit", self.edit, "change service users")
        add_selection(editing)
        editing.add_argument("--set-username", metavar="N")
        editing.add_argument("--set-description", metavar="D")
        editing.add_argument("--set-password", metavar="P", help="refused: make another one")
        with_yes(editing)
        removing = verbs.add("remove", self.remove, "remove service users")
        add_selection(removing)
        with_yes(removing)

    def create(self, options: Options) -> None:
        if options.password is not None:
            raise Refused(RANDOM)
        user = find(options.user, find_user, "user")
        service, password = service_users.create_service_user(
            user, options.username, options.description, by=actor()
        )
        say(service.username)
        give(password)  # alone on stdout; the name is for people

    def list_them(self, options: Options) -> None:
        output(map(row_of, selected(options)), COLUMNS, options.format)

    def show_them(self, options: Options) -> None:
        need(options)
        self.list_them(options)

    def edit(self, options: Options) -> None:
        if options.set_password is not None:
            raise Refused(RANDOM)
        if options.set_username is None and options.set_description is None:
            misused("Say what to change: --set-username, --set-description.")
        need(options)
        found = selected(options)
        if options.set_username is not None and len(found) > 1:
            misused("--set-username is for one service user.")
        if len(found) > len(options.names):
            ask(f"Change {', '.join(map(str, found))}?", options.yes)
        with transaction.atomic():
            for service in found:
                changed = service_users.edit_service_user(
                    service,
                    by=actor(),
                    username=options.set_username,
                    description=options.set_description,
                )
                say(f"{service}: {'changed' if changed else 'as it was'}.")

    def remove(self, options: Options) -> None:
        need(options)
        found = selected(options)
        ask_to_remove(found, options.yes)
        with transaction.atomic():
            for service in found:
                service_users.remove_service_user(service, by=actor())
        say(f"Removed {', '.join(service.username for service in found)}.")


def add_selection(parser: argparse.ArgumentParser) -> None:
    with_contains(parser, "names", "its name or id")
    parser.add_argument("-u", "--user", metavar="USER", help="all of this user")


def need(options: Options) -> None:
    if not (options.names or options.contains or options.user):
        misused("Name at least one, or give -c TEXT or --user USER.")


def selected(options: Options) -> list[ServiceUser]:
    everyone = ServiceUser.objects.select_related("user")
    if not (options.names or options.contains or options.user):
        return list(everyone)
    found = everyone
    if options.contains:
        found = found.filter(username_key__contains=name_key(options.contains))
    if options.user:
        found = found.filter(user=find(options.user, find_user, "user"))
        if not options.names and not found.exists() and not options.contains:
            return []
    filtered = found if options.contains or options.user else None
    return select(options.names, find_service_user, filtered, "service user")


def row_of(service: ServiceUser) -> Row:
    used = service.last_used
    return {
        "id": service.pk,
        "username": service.username,
        "description": service.description,
        "user_identifier": service.user.identifier,
        "user_uuid": str(service.user_id),
        "last_used": used.strftime("%Y-%m-%dT%H:%M:%SZ") if used else None,
    }
