"""authserver group: groups of users."""

from django.db import transaction

from authserver.accounts import groups
from authserver.accounts.models import Group
from authserver.commands import (
    Noun,
    Options,
    Verbs,
    actor,
    by_number,
    find,
    find_all,
    output,
    say,
    with_format,
    with_yes,
)

COLUMNS = ("name", "id")


def find_group(selector: str) -> Group | None:
    """A group by its name, else by its id."""
    found = Group.objects.filter(name=selector).first()
    return found or by_number(Group.objects.all(), selector)


class Command(Noun):
    help = "Groups of users. Who is in them: see `permissions`."

    def add_verbs(self, verbs: Verbs) -> None:
        creating = verbs.add("create", self.create, "make a group")
        creating.add_argument("name", metavar="NAME")
        listing = verbs.add("list", self.list_all, "show the groups")
        listing.add_argument("names", metavar="NAME", nargs="*", help="only these")
        with_format(listing)
        removing = verbs.add("remove", self.remove, "remove a group; its members stay")
        removing.add_argument("name", metavar="NAME", help="or its id")
        with_yes(removing, asks=False)

    @transaction.atomic
    def create(self, options: Options) -> None:
        if Group.objects.filter(name=options.name).exists():
            say(f"The group {options.name!r} exists already.")
            return
        groups.create_group(options.name, by=actor())
        say(f"Created the group {options.name!r}.")

    def list_all(self, options: Options) -> None:
        named = find_all(options.names, find_group, "group")
        rows = [{"name": group.name, "id": group.pk} for group in named or Group.objects.all()]
        output(rows, COLUMNS, options.format)

    @transaction.atomic
    def remove(self, options: Options) -> None:
        group = find(options.name, find_group, "group")
        groups.remove_group(group, by=actor())
        say(f"Removed the group {group.name!r}.")
