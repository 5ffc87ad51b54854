"""authserver permissions: permissions, memberships, and what applications require."""

import argparse
from collections.abc import Callable, Iterable, Sequence

from django.db import transaction

from authserver.accounts import groups
from authserver.accounts.management.commands.group import COLUMNS as GROUP_COLUMNS
from authserver.accounts.management.commands.group import find_group
from authserver.accounts.models import Group, Permission, User
from authserver.accounts.select import find_user
from authserver.commands import (
    Noun,
    Options,
    Verbs,
    actor,
    find,
    find_all,
    misused,
    output,
    same_or_refuse,
    say,
    with_format,
    with_yes,
)
from authserver.oidc import applications
from authserver.oidc.applications import find_application

COLUMNS = ("permission_name", "name", "id")
USER, GROUP = ("U", "a user: uuid, identifier or address"), ("G", "a group: its name or id")
CLIENT = ("CLIENT", "an application: its client id or name")


class Command(Noun):
    help = "Permissions (scopes of applications): who holds them, and which application needs them."

    def add_verbs(self, verbs: Verbs) -> None:
        creating = verbs.add("create", self.create, "make a permission")
        creating.add_argument("--name", metavar="LABEL", required=True, help="for people")
        creating.add_argument("permission", metavar="PERM", help="the scope's name")
        removing = verbs.add("remove", self.remove, "remove a permission, from all who hold it")
        removing.add_argument("permission", metavar="PERM")
        with_yes(removing, asks=False)
        listing = verbs.add("list", self.list_all, "show the permissions")
        listing.add_argument("permissions", metavar="PERM", nargs="*", help="only these")
        listing.add_argument("--filter-permission", metavar="TEXT", help="with TEXT in PERM")
        listing.add_argument("--filter-name", metavar="TEXT", help="with TEXT in the label")
        with_format(listing)
        giving = verbs.group("grant", "give permissions or memberships")
        taking = verbs.group("revoke", "take permissions or memberships away")
        for name, holder, grant, revoke in (
            ("user", USER, self.grant_user, self.revoke_user),
            ("group", GROUP, self.grant_group, self.revoke_group),
            ("application", CLIENT, self.grant_application, self.revoke_application),
        ):
            add_holder(giving, name, holder, grant, "perms", "PERM")
            add_all(add_holder(taking, name, holder, revoke, "perms", "PERM", "*"))
        add_holder(giving, "membership", USER, self.grant_membership, "groups", "GROUP")
        leaving = add_holder(
            taking, "membership", USER, self.revoke_membership, "groups", "GROUP", "*"
        )
        add_all(leaving)
        showing = verbs.group("show", "show what one has")
        for name, holder, run in (
            ("user", USER, self.show_user),
            ("group", GROUP, self.show_group),
            ("application", CLIENT, self.show_application),
            ("membership", USER, self.show_membership),
        ):
            parser = showing.add(name, run, f"of a {name}")
            parser.add_argument("holder", metavar=holder[0], help=holder[1])
            with_format(parser)
        for name, run, text in (
            ("require", self.require, "let only users into an application who hold permissions"),
            ("drop", self.drop, "let users into an application who do not hold them"),
        ):
            parser = verbs.add(name, run, text)
            parser.add_argument("holder", metavar=CLIENT[0], help=CLIENT[1])
            parser.add_argument("perms", metavar="PERM", nargs="+")

    @transaction.atomic
    def create(self, options: Options) -> None:
        if there := find_permission(options.permission):
            what = f"The permission {there}"
            same_or_refuse(what, {"label": options.name}, {"label": there.name})
            return
        groups.create_permission(options.permission, options.name, by=actor())
        say(f"Created the permission {options.permission}.")

    @transaction.atomic
    def remove(self, options: Options) -> None:
        groups.remove_permission(find_one(options.permission), by=actor())
        say(f"Removed the permission {options.permission}.")

    def list_all(self, options: Options) -> None:
        found = Permission.objects.all()
        if options.filter_permission:
            found = found.filter(permission_name__icontains=options.filter_permission)
        if options.filter_name:
            found = found.filter(name__icontains=options.filter_name)
        if options.permissions:
            named = find_all(options.permissions, find_permission, "permission")
            found = found.filter(pk__in=[permission.pk for permission in named])
        show(found, options.format)

    @transaction.atomic
    def grant_user(self, options: Options) -> None:
        grant(find(options.holder, find_user, "user"), options.perms)

    @transaction.atomic
    def grant_group(self, options: Options) -> None:
        grant(find(options.holder, find_group, "group"), options.perms)

    @transaction.atomic
    def grant_membership(self, options: Options) -> None:
        user = find(options.holder, find_user, "user")
        new = groups.join(user, find_all(options.groups, find_group, "group"), by=actor())
        say(f"{user} is now in {listed(new)}." if new else f"{user} was there already.")

    @transaction.atomic
    def revoke_user(self, options: Options) -> None:
        revoke(find(options.holder, find_user, "user"), options)

    @transaction.atomic
    def revoke_group(self, options: Options) -> None:
        revoke(find(options.holder, find_group, "group"), options)

    @transaction.atomic
    def revoke_membership(self, options: Options) -> None:
        user = find(options.holder, find_user, "user")
        check_all(options, options.groups)
        has = list(user.groups.all())
        wanted = has if options.all else find_all(options.groups, find_group, "group")
        lost = groups.leave(user, wanted, by=actor())
        say(f"{user} is no more in {listed(lost)}." if lost else f"{user} was not in there.")

    @transaction.atomic
    def grant_application(self, options: Options) -> None:
        application = find(options.holder, find_application, "application")
        new = applications.give(application, named(options), by=actor())
        said = f"now holds {listed(new)}" if new else "held that already"
        say(f"{application} {said}.")

    @transaction.atomic
    def revoke_application(self, options: Options) -> None:
        application = find(options.holder, find_application, "application")
        check_all(options, options.perms)
        wanted = list(application.permissions.all()) if options.all else named(options)
        lost = applications.take(application, wanted, by=actor())
        said = f"no more holds {listed(lost)}" if lost else "did not hold that"
        say(f"{application} {said}.")

    @transaction.atomic
    def require(self, options: Options) -> None:
        application = find(options.holder, find_application, "application")
        new = applications.require(application, named(options), by=actor())
        said = f"now requires {listed(new)}" if new else "required that already"
        say(f"{application} {said}.")

    @transaction.atomic
    def drop(self, options: Options) -> None:
        application = find(options.holder, find_application, "application")
        lost = applications.drop(application, named(options), by=actor())
        said = f"no more requires {listed(lost)}" if lost else "did not require that"
        say(f"{application} {said}.")

    def show_application(self, options: Options) -> None:
        """What its users must hold: as the existing program shows it."""
        application = find(options.holder, find_application, "application")
        show(application.required_permissions.all(), options.format)

    def show_user(self, options: Options) -> None:
        show(find(options.holder, find_user, "user").permissions.all(), options.format)

    def show_group(self, options: Options) -> None:
        show(find(options.holder, find_group, "group").permissions.all(), options.format)

    def show_membership(self, options: Options) -> None:
        found = find(options.holder, find_user, "user").groups.all()
        rows = [{"name": group.name, "id": group.pk} for group in found]
        output(rows, GROUP_COLUMNS, options.format)


def add_holder(
    verbs: Verbs,
    name: str,
    holder: tuple[str, str],
    run: Callable[[Options], None],
    what: str,
    metavar: str,
    nargs: str = "+",
) -> argparse.ArgumentParser:
    parser = verbs.add(name, run, f"of a {name}")
    parser.add_argument("holder", metavar=holder[0], help=holder[1])
    parser.add_argument(what, metavar=metavar, nargs=nargs)
    return parser


def add_all(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="all that there are")


def check_all(options: Options, named: Sequence[str]) -> None:
    if bool(named) == options.all:
        misused("Name at least one, or say --all.")


def named(options: Options) -> list[Permission]:
    return find_all(options.perms, find_permission, "permission")


def find_permission(permission_name: str) -> Permission | None:
    return Permission.objects.filter(permission_name=permission_name).first()


def find_one(permission_name: str) -> Permission:
    return find(permission_name, find_permission, "permission")


def listed(found: Iterable[object]) -> str:
    return ", ".join(map(str, found))


def grant(holder: User | Group, names: Sequence[str]) -> None:
    new = groups.grant(holder, find_all(names, find_permission, "permission"), by=actor())
    say(f"{holder} now holds {listed(new)}." if new else f"{holder} held that already.")


def revoke(holder: User | Group, options: Options) -> None:
    check_all(options, options.perms)
    has = list(holder.permissions.all())
    wanted = has if options.all else find_all(options.perms, find_permission, "permission")
    lost = groups.revoke(holder, wanted, by=actor())
    say(f"{holder} no more holds {listed(lost)}." if lost else f"{holder} did not hold that.")


def show(found: Iterable[Permission], form: str) -> None:
    rows = [
        {
            "permission_name": permission.permission_name,
            "name": permission.name,
            "id": permission.pk,
        }
        for permission in found
    ]
    output(rows, COLUMNS, form)
