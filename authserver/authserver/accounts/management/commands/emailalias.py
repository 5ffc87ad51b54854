"""authserver emailalias: addresses of users."""

import argparse

from django.db import transaction
from django.db.models import QuerySet

from authserver.accounts import addresses
from authserver.accounts.models import EmailAlias
from authserver.accounts.select import find_user
from authserver.commands import (
    Noun,
    Options,
    Refused,
    Row,
    Verbs,
    actor,
    ask,
    ask_to_remove,
    by_number,
    find,
    misused,
    output,
    same_or_refuse,
    say,
    select,
    with_format,
    with_yes,
)
from authserver.names import name_key

COLUMNS = ("id", "alias", "mailprefix", "domain", "target_type", "target", "blacklisted")


def find_alias(selector: str) -> EmailAlias | None:
    """An address, by itself or by its id."""
    if "@" in selector:
        return addresses.find_alias(selector)
    return by_number(EmailAlias.objects.all(), selector)


class Command(Noun):
    help = "Addresses of users: aliases of their names, and where their mail goes."

    def add_verbs(self, verbs: Verbs) -> None:
        creating = verbs.add("create", self.create, "give a user an address")
        creating.add_argument("alias", metavar="ADDRESS", nargs="?", help="LOCAL@DOMAIN")
        creating.add_argument("--mailprefix", metavar="P", help="its local part")
        creating.add_argument("-d", "--domain", metavar="DOMAIN", help="its domain")
        creating.add_argument("-u", "--user", metavar="USER", required=True, help="whose it is")
        creating.add_argument("--blacklisted", action="store_true", help="mail to it is refused")
        for name, run in (("list", self.list_all), ("show", self.list_all)):
            listing = verbs.add(name, run, "show addresses")
            add_selection(listing, need=name == "show")
            with_format(listing)
        editing = verbs.add("edit", self.edit, "change addresses")
        add_selection(editing, need=True)
        editing.add_argument("--set-user", metavar="USER", help="whose it is")
        editing.add_argument("--set-mailprefix", metavar="P", help="its local part")
        editing.add_argument("--set-domain", metavar="DOMAIN", help="its domain")
        flag = editing.add_mutually_exclusive_group()
        flag.add_argument("--set-blacklisted", action="store_true", help="refuse mail to it")
        flag.add_argument("--unset-blacklisted", action="store_true", help="take mail to it")
        with_yes(editing)
        removing = verbs.add("remove", self.remove, "remove addresses")
        add_selection(removing, need=True)
        with_yes(removing)
        black = verbs.add("blacklist", self.blacklist, "refuse mail to addresses")
        black.add_argument("aliases", metavar="ADDRESS", nargs="+")
        black.add_argument(
            "--create-if-missing", action="store_true", help="give those that are missing to USER"
        )
        black.add_argument("-u", "--user", metavar="USER", help="with --create-if-missing")
        white = verbs.add("unblacklist", self.unblacklist, "take mail to addresses again")
        add_selection(white, need=True)
        with_yes(white)

    @transaction.atomic
    def create(self, options: Options) -> None:
        mailprefix, domain_name = address_of(options)
        user = find(options.user, find_user, "user")
        address = f"{mailprefix}@{addresses.domain_name(domain_name)}"
        if there := addresses.find_alias(address):
            wanted = {"user": user, "blacklisting": options.blacklisted}
            has = {"user": there.user, "blacklisting": there.blacklisted}
            same_or_refuse(f"The address {there}", wanted, has)
            return
        domain = find(domain_name, addresses.find_domain, "domain")
        alias = addresses.create_alias(
            mailprefix, domain, user, by=actor(), blacklisted=options.blacklisted
        )
        say(f"Created the address {alias} of {user}.")

    def list_all(self, options: Options) -> None:
        output(map(row_of, selected(options)), COLUMNS, options.format)

    def edit(self, options: Options) -> None:
        blacklisted = True if options.set_blacklisted else None
        if options.unset_blacklisted:
            blacklisted = False
        changes = (options.set_user, options.set_mailprefix, options.set_domain, blacklisted)
        if all(change is None for change in changes):
            misused("Say what to change: --set-user, --set-mailprefix, --set-domain, ...")
        found = selected(options)
        if options.set_mailprefix is not None and len(found) > 1:
            misused("--set-mailprefix is for one address.")
        user = find(options.set_user, find_user, "user") if options.set_user else None
        domain = None
        if options.set_domain:
            domain = find(options.set_domain, addresses.find_domain, "domain")
        ask_about(found, options)
        with transaction.atomic():
            for alias in found:
                addresses.edit_alias(
                    alias,
                    by=actor(),
                    mailprefix=options.set_mailprefix,
                    domain=domain,
                    user=user,
                    blacklisted=blacklisted,
                )
        say(f"{names(found)}: as you said.")

    def remove(self, options: Options) -> None:
        found = selected(options)
        ask_to_remove(found, options.yes)
        with transaction.atomic():
            for alias in found:
                addresses.remove_alias(alias, by=actor())
        say(f"Removed {names(found)}.")

    @transaction.atomic
    def blacklist(self, options: Options) -> None:
        if options.create_if_missing and not options.user:
            misused("--create-if-missing needs --user.")
        user = find(options.user, find_user, "user") if options.user else None
        for address in options.aliases:
            alias = find_alias(address)
            if alias:
                addresses.edit_alias(alias, by=actor(), blacklisted=True)
            elif options.create_if_missing and user:
                mailprefix, domain_name = addresses.split_address(address)
                domain = find(domain_name, addresses.find_domain, "domain")
                addresses.create_alias(mailprefix, domain, user, by=actor(), blacklisted=True)
            else:
                raise Refused(f"There is no address {address!r}.")
        say(f"Mail is refused to {', '.join(options.aliases)}.")

    def unblacklist(self, options: Options) -> None:
        found = selected(options)
        ask_about(found, options)
        with transaction.atomic():
            for alias in found:
                addresses.edit_alias(alias, by=actor(), blacklisted=False)
        say(f"Mail is taken to {names(found)}.")


def add_selection(parser: argparse.ArgumentParser, *, need: bool) -> None:
    parser.set_defaults(need=need)
    parser.add_argument("aliases", metavar="ADDRESS", nargs="*", help="or its id")
    parser.add_argument("-c", "--contains", metavar="TEXT", help="all in which TEXT occurs")
    parser.add_argument("-u", "--user", metavar="USER", help="all of this user")
    parser.add_argument("--mailprefix", metavar="P", help="all with this local part")
    parser.add_argument("-d", "--domain", metavar="DOMAIN", help="all in this domain")
    state = parser.add_mutually_exclusive_group()
    state.add_argument("--blacklisted", action="store_true", help="all to which mail is refused")
    state.add_argument("--not-blacklisted", action="store_true", help="all to which it is not")


def address_of(options: Options) -> tuple[str, str]:
    if options.alias and (options.mailprefix or options.domain):
        misused("Give the address, or --mailprefix and --domain.")
    if options.alias:
        return addresses.split_address(options.alias)
    if not options.mailprefix or not options.domain:
        misused("Give the address, or --mailprefix and --domain.")
    return options.mailprefix, options.domain


def matching(options: Options) -> QuerySet[EmailAlias] | None:
    """Those that all given filters have; None where there are no filters."""
    filters: dict[str, object] = {}
    if options.contains:
        filters["address_key__contains"] = name_key(options.contains)
    if options.user:
        filters["user"] = find(options.user, find_user, "user")
    if options.mailprefix:
        filters["address_key__startswith"] = name_key(options.mailprefix) + "@"
    if options.domain:
        filters["domain"] = find(options.domain, addresses.find_domain, "domain")
    if options.blacklisted or options.not_blacklisted:
        filters["blacklisted"] = options.blacklisted
    return EmailAlias.objects.filter(**filters) if filters else None


def selected(options: Options) -> list[EmailAlias]:
    found = matching(options)
    if not options.aliases and found is None:
        if options.need:
            misused("Name an address, or say which: -c TEXT, --user USER, ...")
        return list(EmailAlias.objects.select_related("user", "domain"))
    if found is not None:
        found = found.select_related("user", "domain")
    return select(options.aliases, find_alias, found, "address")


def names(found: list[EmailAlias]) -> str:
    return ", ".join(map(str, found))


def ask_about(found: list[EmailAlias], options: Options) -> None:
    """Ask before changing what was not named."""
    if len(found) > len(options.aliases):
        ask(f"Change {names(found)}?", options.yes)


def row_of(alias: EmailAlias) -> Row:
    return {
        "id": alias.pk,
        "alias": alias.alias,
        "mailprefix": alias.mailprefix,
        "domain": alias.domain.name,
        "target_type": "user",
        "target": alias.user.identifier,
        "blacklisted": alias.blacklisted,
    }
