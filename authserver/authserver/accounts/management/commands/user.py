"""authserver user: accounts of people."""

import argparse

from django.db import transaction

from authserver.accounts import addresses, invitations, throttle, users
from authserver.accounts.models import User
from authserver.accounts.passwords import is_right
from authserver.accounts.select import find_user, users_containing
from authserver.commands import (
    Noun,
    Options,
    Row,
    Verbs,
    actor,
    ask,
    ask_to_remove,
    find,
    find_all,
    give,
    misused,
    need_selection,
    output,
    read_password,
    same_or_refuse,
    say,
    select,
    with_contains,
    with_format,
    with_yes,
)
from authserver.names import name_key

COLUMNS = (
    "uuid",
    "identifier",
    "fullname",
    "delivery_mailbox",
    "is_active",
    "is_staff",
    "source",
)


class Command(Noun):
    help = "Accounts of people."

    def add_verbs(self, verbs: Verbs) -> None:
        creating = verbs.add("create", self.create, "make an account")
        creating.add_argument("identifier", metavar="IDENTIFIER")
        creating.add_argument("fullname", metavar="FULLNAME")
        add_password(creating, "--password")
        creating.add_argument("--staff", action="store_true", help="an administrator")
        creating.add_argument("--nas", action="store_true", help="its password is the NAS's")
        for name in ("list", "show"):
            listing = verbs.add(name, getattr(self, f"{name}_them"), "show accounts")
            add_selection(listing)
            with_format(listing)
            state = listing.add_mutually_exclusive_group()
            state.add_argument("--active", action="store_true", help="only those")
            state.add_argument("--inactive", action="store_true", help="only those")
        editing = verbs.add("edit", self.edit, "change accounts")
        add_selection(editing)
        editing.add_argument("--set-fullname", metavar="NAME")
        editing.add_argument("--set-identifier", metavar="NAME", help="the name to sign in with")
        add_password(editing, "--set-password")
        staff = editing.add_mutually_exclusive_group()
        staff.add_argument("--set-staff", action="store_true", help="an administrator")
        staff.add_argument("--unset-staff", action="store_true", help="no administrator")
        editing.add_argument("--set-source", choices=(User.LOCAL, User.NAS))
        with_yes(editing)
        for name, run, text in (
            ("activate", self.activate, "let accounts in again"),
            ("deactivate", self.deactivate, "lock accounts out, and end what they have open"),
            ("remove", self.remove, "remove accounts, and all that is theirs"),
            ("sign-out", self.sign_out, "end all sessions and tokens of accounts"),
        ):
            verb = verbs.add(name, run, text)
            add_selection(verb)
            with_yes(verb)
        unlocking = verbs.add("unlock", self.unlock, "forget the failed logins of names")
        unlocking.add_argument("selectors", metavar="NAME", nargs="+")
        inviting = verbs.add("invite", self.invite, "print the link by which a password is set")
        inviting.add_argument("selector", metavar="SELECTOR")
        mailbox = verbs.add("set-delivery-mailbox", self.set_mailbox, "choose where mail goes")
        mailbox.add_argument("selector", metavar="SELECTOR")
        mailbox.add_argument("address", metavar="ADDRESS", help="one of the account's")
        with_yes(mailbox, asks=False)

    def create(self, options: Options) -> None:
        source = User.NAS if options.nas else User.LOCAL
        if options.nas and (options.password is not None or options.password_stdin):
            misused("The password of an account of the NAS is the NAS's: leave it out.")
        password = read_password() if options.password_stdin else options.password
        with transaction.atomic():
            key = name_key(options.identifier)
            if there := User.objects.filter(identifier_key=key).first():
                same_or_refuse(f"The user {there}", *compared(options, source, password, there))
                return
            user = users.create_user(
                options.identifier,
                options.fullname,
                by=actor(),
                password=password,
                staff=options.staff,
                source=source,
            )
        say(f"Created the user {user} ({user.pk}).")
        if password is None and source == User.LOCAL:
            say(f"It has no password yet: authserver user invite {user}")

    def list_them(self, options: Options) -> None:
        if options.selectors or options.contains:
            found = selected(options)
        else:
            found = list(User.objects.select_related("delivery_mailbox__domain"))
        if options.active or options.inactive:
            found = [user for user in found if user.is_active == options.active]
        output(map(row_of, found), COLUMNS, options.format)

    def show_them(self, options: Options) -> None:
        need_selection(options, options.selectors)
        self.list_them(options)

    def edit(self, options: Options) -> None:
        staff = True if options.set_staff else None
        staff = False if options.unset_staff else staff
        new_password = options.set_password is not None or options.password_stdin
        values = {
            "fullname": options.set_fullname,
            "identifier": options.set_identifier,
            "staff": staff,
            "source": options.set_source,
        }
        if not new_password and all(value is None for value in values.values()):
            misused("Say what to change: --set-fullname, --set-staff, --set-source, ...")
        found = selected(options)
        if len(found) > 1 and (options.set_identifier or new_password):
            misused("--set-identifier and a password are for one account.")
        password = read_password() if options.password_stdin else options.set_password
        ask_about(found, options)
        with transaction.atomic():
            for user in found:
                changed = users.edit_user(user, by=actor(), **values)
                if password is not None:
                    users.set_password(user, password, by=actor())
                    changed.append("password")
                say(f"{user}: {'changed ' + ', '.join(changed) if changed else 'as it was'}.")

    def activate(self, options: Options) -> None:
        set_active(options, active=True)

    def deactivate(self, options: Options) -> None:
        set_active(options, active=False)

    def remove(self, options: Options) -> None:
        found = selected(options)
        ask_to_remove(found, options.yes)
        with transaction.atomic():
            for user in found:
                users.remove_user(user, by=actor())
        say(f"Removed {', '.join(user.identifier for user in found)}.")

    def sign_out(self, options: Options) -> None:
        found = selected(options)
        ask_about(found, options)
        with transaction.atomic():
            for user in found:
                users.sign_out(user, by=actor())
        say(f"Signed out {', '.join(user.identifier for user in found)}.")

    @transaction.atomic
    def unlock(self, options: Options) -> None:
        for name in options.selectors:
            user = find_user(name)
            key = user.identifier_key if user else name_key(name)
            count = throttle.clear(throttle.name_digest(key))
            say(f"{user or name}: {count} failed logins forgotten.")

    @transaction.atomic
    def invite(self, options: Options) -> None:
        user = find(options.selector, find_user, "user")
        give(invitations.invite(user, by=actor()))
        say(f"{user} sets a password there, within 24 hours.")

    @transaction.atomic
    def set_mailbox(self, options: Options) -> None:
        user = find(options.selector, find_user, "user")
        alias = find(options.address, addresses.find_alias, "address")
        changed = addresses.set_delivery_mailbox(user, alias, by=actor())
        say(f"The delivery mailbox of {user} is {'now' if changed else 'already'} {alias}.")


def add_password(parser: argparse.ArgumentParser, option: str) -> None:
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(option, metavar="P", help="others on this machine can see it")
    ways.add_argument("--password-stdin", action="store_true", help="the password is on stdin")


def add_selection(parser: argparse.ArgumentParser) -> None:
    with_contains(parser, "selectors", "uuid, identifier or address")


def selected(options: Options) -> list[User]:
    need_selection(options, options.selectors)
    containing = users_containing(options.contains) if options.contains else None
    return select(options.selectors, find_user, containing, "user")


def ask_about(found: list[User], options: Options) -> None:
    """Ask before changing those that were not named."""
    if len(found) > len(find_all(options.selectors, find_user, "user")):
        ask(f"Change {', '.join(user.identifier for user in found)}?", options.yes)


def set_active(options: Options, *, active: bool) -> None:
    found = selected(options)
    ask_about(found, options)
    with transaction.atomic():
        for user in found:
            users.set_active(user, active, by=actor())
    say(f"{', '.join(user.identifier for user in found)}: {'' if active else 'not '}active.")


def compared(
    options: Options, source: str, password: str | None, there: User
) -> tuple[dict[str, object], dict[str, object]]:
    """What `create` wants, and what the user has who is there."""
    wanted = {
        "identifier": options.identifier,
        "full name": options.fullname,
        "right to administer": options.staff,
        "source": source,
    }
    has: dict[str, object] = {
        "identifier": there.identifier,
        "full name": there.fullname,
        "right to administer": there.is_staff,
        "source": there.source,
    }
    if password is not None:
        wanted["password"] = True
        has["password"] = is_right(password, there.password)
    return wanted, has


def row_of(user: User) -> Row:
    mailbox = user.delivery_mailbox
    return {
        "uuid": str(user.pk),
        "identifier": user.identifier,
        "fullname": user.fullname,
        "delivery_mailbox": mailbox.alias if mailbox else None,
        "is_active": user.is_active,
        "is_staff": user.is_staff,
        "source": user.source,
    }
