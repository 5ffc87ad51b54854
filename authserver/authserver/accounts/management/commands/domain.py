"""authserver domain: the domains of addresses."""

from django.db import transaction

from authserver.accounts import addresses
from authserver.accounts.models import Domain
from authserver.commands import (
    Noun,
    Options,
    Refused,
    Verbs,
    actor,
    ask_to_remove,
    find,
    output,
    say,
    with_format,
    with_yes,
)

COLUMNS = ("name", "id")


class Command(Noun):
    help = "Domains of addresses."

    def add_verbs(self, verbs: Verbs) -> None:
        creating = verbs.add("create", self.create, "make a domain")
        creating.add_argument("domain", metavar="DOMAIN")
        listing = verbs.add("list", self.list_all, "show the domains")
        listing.add_argument("domain", metavar="NAME", nargs="?", help="only this one")
        with_format(listing)
        searching = verbs.add("search", self.search, "show the domains in which a text occurs")
        searching.add_argument("contains", metavar="TEXT", nargs="?", default="")
        with_format(searching)
        removing = verbs.add("remove", self.remove, "remove a domain without addresses")
        removing.add_argument("--remove-multiple", action="store_true", help="also several")
        with_yes(removing)
        removing.add_argument("contains", metavar="TEXT", help="its name, or what occurs in it")

    @transaction.atomic
    def create(self, options: Options) -> None:
        if there := addresses.find_domain(options.domain):
            say(f"The domain {there} exists already.")
            return
        say(f"Created the domain {addresses.create_domain(options.domain, by=actor())}.")

    def list_all(self, options: Options) -> None:
        named = options.domain and find(options.domain, addresses.find_domain, "domain")
        show([named] if named else list(Domain.objects.all()), options.format)

    def search(self, options: Options) -> None:
        found = containing(options.contains)
        show(found, options.format)
        if options.contains and not found:
            raise Refused(f"No domain has {options.contains!r} in its name.")

    def remove(self, options: Options) -> None:
        exact = addresses.find_domain(options.contains)
        found = [exact] if exact else containing(options.contains)
        if not found:
            raise Refused(f"No domain has {options.contains!r} in its name.")
        if len(found) > 1 and not options.remove_multiple:
            names = ", ".join(domain.name for domain in found)
            raise Refused(f"That is more than one domain: {names}. Say --remove-multiple.")
        ask_to_remove(found, options.yes)
        with transaction.atomic():
            for domain in found:
                addresses.remove_domain(domain, by=actor())
        say(f"Removed {', '.join(map(str, found))}.")


def containing(text: str) -> list[Domain]:
    return list(Domain.objects.filter(name__contains=addresses.domain_name(text)))


def show(found: list[Domain], form: str) -> None:
    output([{"name": domain.name, "id": domain.pk} for domain in found], COLUMNS, form)
