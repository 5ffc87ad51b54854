"""authserver oauth2: applications that sign users in by OAuth2 and OpenID Connect."""

import argparse
import json
from pathlib import Path
from typing import Any

from django.db import transaction

from authserver.accounts.addresses import find_domain
from authserver.commands import (
    Noun,
    Options,
    Refused,
    Row,
    Verbs,
    actor,
    find,
    find_all,
    give,
    misused,
    output,
    say,
    with_format,
    with_yes,
)
from authserver.oidc import applications, publishing
from authserver.oidc.applications import GRANT_TYPES, ApplicationExists, find_application
from authserver.oidc.models import Application

COLUMNS = (
    "name",
    "client_id",
    "client_type",
    "grant_types",
    "redirect_uris",
    "post_logout_redirect_uris",
    "skip_authorization",
    "skip_pkce",
    "allow_http",
    "resource_server",
    "domain",
    "required_permissions",
    "permissions",
)
LISTED = ("name", "client_id", "client_type", "grant_types")  # the table of `list`
# RFC 9700, 2.1.2 and 2.4
INSTEAD = {
    "implicit": "authorization-code, with PKCE",
    "password": "authorization-code; device-code where there is no browser; "
    "a service user at /checkpassword/ for a program that knows passwords only",
    "openid-hybrid": "authorization-code, with PKCE",
}
FLAGS = {
    "skip_authorization": "do not ask users whether they agree",
    "skip_pkce": "PKCE is not required, for a confidential one that cannot",
    "allow_http": "redirect URIs with http, in a network of one's own",
    "resource_server": "it may ask about the tokens of all applications",
}
EXISTS = 2  # the exit status of `create` for what exists, as scripts know it


class Command(Noun):
    help = "Applications that sign users in by OAuth2 and OpenID Connect."

    def add_verbs(self, verbs: Verbs) -> None:
        creating = verbs.add("create", self.create, "make an application, and print its secret")
        creating.add_argument("name", metavar="NAME")
        add_values(creating)
        for flag, text in FLAGS.items():
            creating.add_argument(f"--{flag.replace('_', '-')}", action="store_true", help=text)
        add_publishing(creating)
        editing = verbs.add("edit", self.edit, "change an application")
        add_client(editing)
        editing.add_argument("--name", metavar="NAME", help="its new name")
        add_values(editing)
        for flag, text in FLAGS.items():
            option = f"--{flag.replace('_', '-')}"
            editing.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        listing = verbs.add("list", self.list_all, "show the applications")
        listing.add_argument("clients", metavar="CLIENT", nargs="*", help="only these")
        listing.add_argument("--search-client-id", metavar="ID", help="the one with this id")
        listing.add_argument("--search-client-name", metavar="NAME", help="the one of this name")
        with_format(listing)
        showing = verbs.add("show", self.show, "show applications in full")
        showing.add_argument("clients", metavar="CLIENT", nargs="+", help="a client id or a name")
        with_format(showing)
        for name, run, text in (
            ("publish", self.publish, "make a new secret, and write it where you say"),
            ("reset-secret", self.reset_secret, "make a new secret, and print it"),
        ):
            verb = verbs.add(name, run, text)
            add_client(verb)
            add_publishing(verb)
        removing = verbs.add("remove", self.remove, "remove an application and its tokens")
        add_client(removing)
        with_yes(removing, asks=False)

    def create(self, options: Options) -> None:
        values = values_of(options)
        values.setdefault("grant_types", ["authorization-code"])
        try:
            with transaction.atomic():
                application, secret = applications.create_application(
                    options.name, actor(), **values
                )
                tell_secret(application, secret, options)
        except ApplicationExists as error:
            how = "with the same values" if error.same else "with other values"
            text = f"The application {options.name!r} exists already, {how}."
            raise Refused(text, status=EXISTS) from None
        say(f"Created the application {application}; its client id is {application.client_id}")

    @transaction.atomic
    def edit(self, options: Options) -> None:
        application = find(options.client, find_application, "application")
        values = values_of(options)
        if options.name is not None:
            values["name"] = options.name
        if not values:
            misused("Say what to change: --redirect-uri, --skip-authorization, ...")
        changed = applications.edit_application(application, actor(), **values)
        say(f"{application}: {'changed ' + ', '.join(changed) if changed else 'as it was'}.")
        if not application.is_public and not application.secret_digest:
            say(f"It needs a secret now: authserver oauth2 reset-secret {application.client_id}")

    def list_all(self, options: Options) -> None:
        found = Application.objects.select_related("domain")
        wanted = find_all(options.clients, find_application, "application")
        if options.search_client_id:
            wanted.append(find(options.search_client_id, applications.by_client_id, "client id"))
        if options.search_client_name:
            wanted.append(find(options.search_client_name, by_name, "application"))
        columns = COLUMNS if options.format == "json" else LISTED
        output(map(row_of, dict.fromkeys(wanted) or found), columns, options.format)

    def show(self, options: Options) -> None:
        found = [row_of(one) for one in find_all(options.clients, find_application, "application")]
        if options.format == "json":
            output(found, COLUMNS, options.format)
            return
        lines = [{"what": name, "value": row[name]} for row in found for name in COLUMNS]
        output(lines, ("what", "value"), options.format)

    @transaction.atomic
    def publish(self, options: Options) -> None:
        if not options.publish_to_stdout and not published_elsewhere(options):
            misused("Say where to: --publish-to-stdout, --publish-to-file, ...")
        self.new_secret(options)

    @transaction.atomic
    def reset_secret(self, options: Options) -> None:
        self.new_secret(options)

    def new_secret(self, options: Options) -> None:
        application = find(options.client, find_application, "application")
        tell_secret(application, applications.reset_secret(application, actor()), options)
        say(f"{application} has a new secret; the old one counts no more.")

    @transaction.atomic
    def remove(self, options: Options) -> None:
        application = find(options.client, find_application, "application")
        applications.remove_application(application, actor())
        say(f"Removed the application {application}.")


def add_client(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("client", metavar="CLIENT", help="a client id or a name")


def add_values(parser: argparse.ArgumentParser) -> None:
    for name, text in (
        ("redirect-uri", "where users are sent back to"),
        ("post-logout-redirect-uri", "where they may be sent after signing out"),
    ):
        parser.add_argument(
            f"--{name}", metavar="U", action="append", dest=f"{name.replace('-', '_')}s", help=text
        )
    parser.add_argument("--client-type", choices=("public", "confidential"))
    parser.add_argument(
        "--grant-type",
        action="append",
        dest="grant_types",
        choices=(*GRANT_TYPES, *INSTEAD),
        metavar="TYPE",
        help=", ".join(GRANT_TYPES),
    )
    parser.add_argument("--domain", metavar="D", help="the domain that it belongs to")


def add_publishing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--publish-to-stdout", action="store_true", help="name, id and secret as JSON"
    )
    parser.add_argument(
        "--publish-to-file", metavar="F", type=Path, help="the same, for its owner only (0600)"
    )
    parser.add_argument(
        "--publish-to-vault", metavar="PATH", help="the three, as a secret of VAULT_ADDR's KV"
    )
    parser.add_argument(
        "--publish-to-consulkv", metavar="PATH", help="the same JSON, at a key of CONSUL_HTTP_ADDR"
    )


def values_of(options: Options) -> dict[str, Any]:
    """What was given of an application's values, as `applications` takes them."""
    for grant_type in options.grant_types or ():
        if grant_type in INSTEAD:
            raise Refused(f"{grant_type} is not offered (RFC 9700): use {INSTEAD[grant_type]}.")
    names = ("redirect_uris", "post_logout_redirect_uris", "client_type", "grant_types", *FLAGS)
    values = {name: getattr(options, name) for name in names}
    if options.domain:
        values["domain"] = find(options.domain, find_domain, "domain")
    return {name: value for name, value in values.items() if value is not None}


def published_elsewhere(options: Options) -> bool:
    """Whether the secret goes to another place than stdout."""
    return any(
        (options.publish_to_file, options.publish_to_vault, options.publish_to_consulkv),
    )


def tell_secret(application: Application, secret: str, options: Options) -> None:
    """Write the secret where it was asked for, else alone on stdout: it is shown only once."""
    values = publishing.published(application, secret)
    if options.publish_to_vault:
        publishing.to_vault(values, options.publish_to_vault)
    if options.publish_to_consulkv:
        publishing.to_consul(values, options.publish_to_consulkv)
    if options.publish_to_file:
        publishing.to_file(values, options.publish_to_file)
    if options.publish_to_stdout:
        give(json.dumps(values))
    elif secret and not published_elsewhere(options):
        give(secret)


def by_name(name: str) -> Application | None:
    return Application.objects.filter(name=name).first()


def row_of(application: Application) -> Row:
    names = {field: name for name, field in GRANT_TYPES.items()}
    row: dict[str, Any] = {name: getattr(application, name) for name in (*FLAGS, "client_id")}
    return row | {
        "name": application.name,
        "client_type": application.client_type,
        "grant_types": [name for field, name in names.items() if getattr(application, field)],
        "redirect_uris": application.redirect_uri_list,
        "post_logout_redirect_uris": application.post_logout_redirect_uri_list,
        "domain": application.domain.name if application.domain else None,
        "required_permissions": list(map(str, application.required_permissions.all())),
        "permissions": list(map(str, application.permissions.all())),
    }
