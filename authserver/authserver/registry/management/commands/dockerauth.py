"""authserver dockerauth: Docker registries, their repositories, and who may do what there."""

import argparse

from django.conf import settings
from django.db import transaction

from authserver.accounts import addresses
from authserver.accounts.models import Domain, Group, User
from authserver.accounts.select import find_user
from authserver.commands import (
    Noun,
    Options,
    Refused,
    Row,
    Verbs,
    actor,
    ask_to_remove,
    find,
    give,
    output,
    same_or_refuse,
    say,
    with_format,
    with_yes,
)
from authserver.domains.keys import names_upwards
from authserver.registry import keys, registries
from authserver.registry.models import ACTIONS, DockerRegistry, DockerRepo

COLUMNS = ("name", "client_id", "domain", "id")
REPO_COLUMNS = ("name", "registry", "id")
RIGHT_COLUMNS = ("repo", "holder", "actions")
FLAGS = {
    "allow_unauthenticated_pull": "anyone may pull from all repositories",
    "allow_unauthenticated_push": "anyone may push to all repositories",
    "user_namespaces": "each user may do everything below his own name",
}
BUNDLE = "/etc/docker/registry/authserver.pem"


class Command(Noun):
    help = "Docker registries, their repositories, and who may do what there."

    def add_verbs(self, verbs: Verbs) -> None:
        registry = verbs.group("registry", "registries")
        for name in ("create", "add"):
            creating = registry.add(name, self.create, "make a registry, with its key")
            creating.add_argument("--client-id", required=True, metavar="C", help="its service")
            creating.add_argument("--name", required=True, metavar="N")
            creating.add_argument("--domain", required=True, metavar="D", help="its issuer")
            creating.add_argument(
                "--domain-exact-match", action="store_true", help="not a parent of D"
            )
            for flag, text in FLAGS.items():
                option = f"--{flag.replace('_', '-')}"
                creating.add_argument(option, action="store_true", help=text)
        listing = registry.add("list", self.list_all, "show the registries")
        listing.add_argument("registry", metavar="REGISTRY", nargs="?", help="only this one")
        with_format(listing)
        showing = registry.add("show", self.show, "show what the registry needs")
        showing.add_argument(
            "-f", "--format", choices=("table", "json", "config", "cert", "compose"),
            default="table",
        )  # fmt: skip
        showing.add_argument("registry", metavar="REGISTRY", help="a client id or a name")
        rotating = registry.add("rotate-key", self.rotate_key, "sign with a new key")
        rotating.add_argument("registry", metavar="REGISTRY")
        removing = registry.add("remove", self.remove, "remove a registry and all rights there")
        removing.add_argument("registry", metavar="REGISTRY")
        with_yes(removing)
        self.add_repo_verbs(verbs.group("repo", "repositories and rights"))

    def add_repo_verbs(self, repo: Verbs) -> None:
        with_repo(repo.add("create", self.create_repo, "make a repository or a namespace (x/*)"))
        listing = repo.add("list", self.list_repos, "show the repositories")
        listing.add_argument("--registry", metavar="C", help="only of this registry")
        with_format(listing)
        showing = repo.add("show", self.show_repo, "show who may do what in one")
        with_repo(showing)
        with_format(showing)
        for name, run, text in (
            ("grant", self.grant, "let somebody pull, push or delete"),
            ("revoke", self.revoke, "let somebody no longer"),
        ):
            verb = repo.add(name, run, text)
            with_repo(verb)
            who = verb.add_mutually_exclusive_group(required=True)
            who.add_argument("--user", metavar="U")
            who.add_argument("--group", metavar="G")
            who.add_argument("--anonymous", action="store_true", help="everybody")
            verb.add_argument("actions", nargs="+", choices=ACTIONS, metavar="|".join(ACTIONS))
        removing = repo.add("remove", self.remove_repo, "remove a repository's rights")
        with_repo(removing)
        with_yes(removing)

    @transaction.atomic
    def create(self, options: Options) -> None:
        domain = domain_of(options.domain, options.domain_exact_match)
        values = {name: getattr(options, name) for name in ("name", "client_id", *FLAGS)}
        values["domain"] = domain
        if there := registries.find_registry(options.client_id):
            kept = {name: getattr(there, name) for name in values}
            same_or_refuse(f"The registry {there}", values, kept)
            return
        say(f"Created the registry {registries.create_registry(actor(), **values)}.")

    def list_all(self, options: Options) -> None:
        found = list(DockerRegistry.objects.select_related("domain"))
        if options.registry:
            found = [find(options.registry, registries.find_registry, "registry")]
        output(map(row_of, found), COLUMNS, options.format)

    def show(self, options: Options) -> None:
        registry = find(options.registry, registries.find_registry, "registry")
        if options.format == "cert":
            give(keys.certificates(registry).strip())
        elif options.format == "config":
            give(registries.config_of(registry, settings.BASE_URL, BUNDLE))
        elif options.format == "compose":
            give(registries.compose_of(registry, settings.BASE_URL, BUNDLE))
        else:
            row = {**row_of(registry), **{name: getattr(registry, name) for name in FLAGS}}
            output([row], (*COLUMNS, *FLAGS), options.format)

    @transaction.atomic
    def rotate_key(self, options: Options) -> None:
        registry = find(options.registry, registries.find_registry, "registry")
        registries.rotate_key(registry, actor())
        say(f"{registry} has a new key: give it `dockerauth registry show --format cert`.")

    def remove(self, options: Options) -> None:
        registry = find(options.registry, registries.find_registry, "registry")
        ask_to_remove([registry], options.yes)
        with transaction.atomic():
            registries.remove_registry(registry, actor())
        say(f"Removed the registry {registry}.")

    @transaction.atomic
    def create_repo(self, options: Options) -> None:
        registry = find(options.registry, registries.find_registry, "registry")
        if registries.find_repo(registry, options.name):
            say(f"The repository {options.name} exists already.")
            return
        say(f"Created {registries.create_repo(registry, options.name, actor())}.")

    def list_repos(self, options: Options) -> None:
        found = DockerRepo.objects.select_related("registry")
        if options.registry:
            registry = find(options.registry, registries.find_registry, "registry")
            found = found.filter(registry=registry)
        rows = [
            {"name": repo.name, "registry": repo.registry.client_id, "id": repo.pk}
            for repo in found
        ]
        output(rows, REPO_COLUMNS, options.format)

    def show_repo(self, options: Options) -> None:
        repo = repo_of(options)
        rows = [
            {"repo": repo.name, "holder": holder_name(right), "actions": sorted(right.actions)}
            for right in repo.rights.select_related("user", "group")
        ]
        output(rows, RIGHT_COLUMNS, options.format)

    @transaction.atomic
    def grant(self, options: Options) -> None:
        self.change(options, allowed=True)

    @transaction.atomic
    def revoke(self, options: Options) -> None:
        self.change(options, allowed=False)

    def change(self, options: Options, *, allowed: bool) -> None:
        repo = repo_of(options)
        holder: User | Group | None = None
        if options.user:
            holder = find(options.user, find_user, "user")
        elif options.group:
            holder = find(options.group, group_named, "group")
        changed = registries.change_rights(repo, holder, options.actions, actor(), allowed=allowed)
        if not changed and not allowed:
            raise Refused(f"{holder or 'Everybody'} had no such right in {repo}.")
        say(f"{repo}: {'changed' if changed else 'as it was'}.")

    def remove_repo(self, options: Options) -> None:
        repo = repo_of(options)
        ask_to_remove([repo], options.yes)
        with transaction.atomic():
            registries.remove_repo(repo, actor())
        say(f"Removed {repo}.")


def with_repo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registry", required=True, metavar="C", help="a client id or a name")
    parser.add_argument("name", metavar="NAME", help="family/app, or family/* for all below")


def domain_of(name: str, exact: bool) -> Domain:
    """The domain of that name, or unless `exact` the nearest parent that there is."""
    names = [name] if exact else names_upwards(addresses.domain_name(name))
    for candidate in names:
        if domain := addresses.find_domain(candidate):
            return domain
    raise Refused(f"There is no domain {name!r}: authserver domain create {name}")


def repo_of(options: Options) -> DockerRepo:
    registry = find(options.registry, registries.find_registry, "registry")
    repo = registries.find_repo(registry, options.name)
    if repo is None:
        raise Refused(f"There is no repository {options.name!r} in {registry}.")
    return repo


def group_named(name: str) -> Group | None:
    return Group.objects.filter(name=name).first()


def holder_name(right: object) -> str:
    user, group = getattr(right, "user", None), getattr(right, "group", None)
    if user:
        return f"user {user}"
    return f"group {group}" if group else "everybody"


def row_of(registry: DockerRegistry) -> Row:
    return {
        "name": registry.name,
        "client_id": registry.client_id,
        "domain": registry.domain.name,
        "id": registry.pk,
    }
