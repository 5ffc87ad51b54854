"""authserver domain: domains, and the keys that sign in their names."""

import argparse
from pathlib import Path
from typing import Any

from django.db import transaction

from authserver import signing
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
    give,
    misused,
    output,
    same_or_refuse,
    say,
    with_format,
    with_yes,
)
from authserver.domains import keys
from authserver.domains.models import DomainKey
from authserver.files import private_file

COLUMNS = ("name", "id", "jwt_sign_subdomains", "has_jwtkey", "has_dkimkey", "dkimselector")
KINDS = (DomainKey.JWT, DomainKey.DKIM)


class Command(Noun):
    help = "Domains, and the keys that sign in their names."

    def add_verbs(self, verbs: Verbs) -> None:
        creating = verbs.add("create", self.create, "make a domain")
        creating.add_argument("--jwt-allow-subdomain-signing", action="store_true", default=None)
        with_values(creating)
        editing = verbs.add("edit", self.edit, "change a domain")
        editing.add_argument("--jwt-allow-subdomain-signing", choices=("true", "false"))
        with_values(editing)
        editing.add_argument("--remove-key", choices=KINDS, action="append", default=[])
        editing.add_argument("--overwrite", action="store_true", help="a key that is there")
        public = verbs.add("pubkey", self.pubkey, "show the public half of a key")
        public.add_argument("--key", choices=KINDS, default=DomainKey.JWT)
        public.add_argument("--create-key", action="store_true", help="where there is none")
        public.add_argument("--format", choices=("pem", "dkimdns"), default="pem")
        public.add_argument("-o", "--output", metavar="FILE", default="-", help="- is stdout")
        public.add_argument("domain", metavar="DOMAIN")
        listing = verbs.add("list", self.list_all, "show the domains")
        listing.add_argument("domain", metavar="NAME", nargs="?", help="only this one")
        listing.add_argument("--include-parent-domain", action="store_true", help="and its parents")
        with_format(listing)
        searching = verbs.add("search", self.search, "show the domains in which a text occurs")
        searching.add_argument("contains", metavar="TEXT", nargs="?", default="")
        searching.add_argument(
            "--require-subdomain-signing", action="store_true", help="that sign for subdomains"
        )
        with_format(searching)
        removing = verbs.add("remove", self.remove, "remove a domain without addresses")
        removing.add_argument("--remove-multiple", action="store_true", help="also several")
        with_yes(removing)
        removing.add_argument("contains", metavar="TEXT", help="its name, or what occurs in it")

    @transaction.atomic
    def create(self, options: Options) -> None:
        values = values_of(options)
        if there := addresses.find_domain(options.domain):
            kept = {name: getattr(there, name) for name in values}
            lacking = [kind for kind in options.create_key if not keys.find_key(there, kind)]
            wanted = values | {f"{kind} key": True for kind in options.create_key}
            kept |= {f"{kind} key": kind not in lacking for kind in options.create_key}
            same_or_refuse(f"The domain {there}", wanted, kept)
            return
        domain = addresses.create_domain(options.domain, actor(), **values)
        for kind in dict.fromkeys(options.create_key):
            keys.make_key(domain, kind, actor())
        say(f"Created the domain {domain}.")

    @transaction.atomic
    def edit(self, options: Options) -> None:
        domain = find(options.domain, addresses.find_domain, "domain")
        values = values_of(options)
        if not values and not options.create_key and not options.remove_key:
            misused("Say what to change: --create-key, --redirect-all-email-to, ...")
        addresses.edit_domain(domain, actor(), **values)
        for kind in dict.fromkeys(options.remove_key):
            keys.remove_key(domain, kind, actor())
        for kind in dict.fromkeys(options.create_key):
            keys.make_key(domain, kind, actor(), overwrite=options.overwrite)
        say(f"Changed the domain {domain}.")

    @transaction.atomic
    def pubkey(self, options: Options) -> None:
        if options.format == "dkimdns" and options.key != DomainKey.DKIM:
            misused("--format dkimdns goes with --key dkim.")
        domain = find(options.domain, addresses.find_domain, "domain")
        key = keys.find_key(domain, options.key)
        if key is None and options.create_key:
            key = keys.make_key(domain, options.key, actor())
        if key is None:
            raise Refused(f"{domain} has no {options.key} key: say --create-key.")
        text = signing.public_pem(key.private_key).strip()
        if options.format == "dkimdns":
            text = keys.dkim_record(key)
        if options.output == "-":
            give(text)
            return
        with private_file(Path(options.output), 0o644) as file:
            file.write(text.encode() + b"\n")

    def list_all(self, options: Options) -> None:
        found = list(Domain.objects.all())
        if options.domain:
            names = [addresses.domain_name(options.domain)]
            if options.include_parent_domain:
                names = keys.names_upwards(names[0])
            found = [domain for domain in found if domain.name in names]
            if not found:
                raise Refused(f"There is no domain {options.domain!r}.")
        show(found, options.format)

    def search(self, options: Options) -> None:
        found = containing(options.contains)
        if options.require_subdomain_signing:
            found = [domain for domain in found if domain.jwt_sign_subdomains]
        show(found, options.format)
        if options.contains and not found:
            raise Refused(f"No such domain has {options.contains!r} in its name.")

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


def with_values(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--redirect-all-email-to", metavar="FQDN|ADDRESS", help="where all its mail goes"
    )
    parser.add_argument("--dkim-selector", metavar="S", help="under which its key stands in DNS")
    parser.add_argument(
        "--create-key", choices=KINDS, action="append", default=[], help="make a key"
    )
    parser.add_argument("domain", metavar="DOMAIN")


def values_of(options: Options) -> dict[str, Any]:
    """The fields that were given."""
    signs = options.jwt_allow_subdomain_signing
    values = {
        "jwt_sign_subdomains": None if signs is None else signs in (True, "true"),
        "redirect_to": options.redirect_all_email_to,
        "dkim_selector": options.dkim_selector,
    }
    return {name: value for name, value in values.items() if value is not None}


def containing(text: str) -> list[Domain]:
    return list(Domain.objects.filter(name__contains=addresses.domain_name(text)))


def show(found: list[Domain], form: str) -> None:
    kinds: dict[int, set[str]] = {}
    for number, kind in DomainKey.objects.values_list("domain_id", "kind"):
        kinds.setdefault(number, set()).add(kind)
    rows = [
        {
            "name": domain.name,
            "id": domain.pk,
            "jwt_sign_subdomains": domain.jwt_sign_subdomains,
            "has_jwtkey": DomainKey.JWT in kinds.get(domain.pk, ()),
            "has_dkimkey": DomainKey.DKIM in kinds.get(domain.pk, ()),
            "dkimselector": domain.dkim_selector,
        }
        for domain in found
    ]
    output(rows, COLUMNS, form)
