"""Applications: made, changed, found. Each change is in the audit log: `by` is who made it."""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.crypto import constant_time_compare

from authserver.accounts.models import Permission, User
from authserver.accounts.sessions import digest_of
from authserver.audit.record import record
from authserver.oidc.models import Application
from authserver.oidc.redirects import origin_of
from authserver.oidc.scopes import held_by
from authserver.queries import one

# the grant types that an application can have, as commands call them, and their fields
GRANT_TYPES = {
    "authorization-code": "authorization_code",
    "client-credentials": "client_credentials",
    "device-code": "device_code",
}


class ApplicationExists(Exception):
    """There is one of that name; `same`: with the same values."""

    def __init__(self, application: Application, same: bool) -> None:
        self.application, self.same = application, same


def fields_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Model fields from what commands have: `grant_types` as names, URIs as lists."""
    fields = dict(values)
    if "grant_types" in fields:
        chosen = set(fields.pop("grant_types"))
        if unknown := chosen - set(GRANT_TYPES):
            raise ValidationError(f"There is no grant type {unknown.pop()!r}.")
        fields |= {field: name in chosen for name, field in GRANT_TYPES.items()}
    for name in ("redirect_uris", "post_logout_redirect_uris"):
        if name in fields and not isinstance(fields[name], str):
            if "" in fields[name]:
                raise ValidationError("A redirect URI is not empty.")
            fields[name] = "\n".join(dict.fromkeys(fields[name]))
    return fields


def create_application(name: str, by: str, **values: Any) -> tuple[Application, str]:
    """A new application and its secret, "" of a public one. Shown once: it is not kept.

    `values`: fields of Application, with `grant_types` and lists of URIs. Raises ValidationError,
    and ApplicationExists.
    """
    application = Application(name=name, **fields_of(values))
    known = Application.objects.filter(name=name).first()
    if known:
        raise ApplicationExists(known, not changes_of(known, fields_of(values)))
    secret = new_secret(application)
    application.full_clean(exclude=["secret_digest"])
    try:
        with transaction.atomic():
            application.save()
            record("application.created", actor=by, application=application)
    except IntegrityError:  # another was faster
        known = Application.objects.get(name=name)
        raise ApplicationExists(known, not changes_of(known, fields_of(values))) from None
    return application, secret


def new_secret(application: Application) -> str:
    """Set a new secret of 256 random bits, and return it; "" for a public application."""
    secret = "" if application.is_public else secrets.token_urlsafe(32)
    application.secret_digest = digest_of(secret) if secret else ""
    return secret


def changes_of(application: Application, fields: Mapping[str, Any]) -> list[str]:
    """The names of the fields that would be others."""
    return [name for name, value in fields.items() if getattr(application, name) != value]


@transaction.atomic
def edit_application(application: Application, by: str, **values: Any) -> list[str]:
    """Change what is given; the names of the fields that were other before.

    Raises ValidationError. One that becomes public has no secret any more; one that becomes
    confidential needs `reset_secret`.
    """
    fields = fields_of(values)
    changed = changes_of(application, fields)
    if not changed:
        return []
    for name in changed:
        setattr(application, name, fields[name])
    if application.is_public:
        application.secret_digest = ""
    application.full_clean(exclude=["secret_digest"])
    application.save()
    record("application.edited", actor=by, application=application, changed=changed)
    return changed


def reset_secret(application: Application, by: str) -> str:
    """A new secret; the old one counts no more. Raises ValidationError for a public one."""
    if application.is_public:
        raise ValidationError("A public application has no secret.")
    secret = new_secret(application)
    application.save(update_fields=["secret_digest"])
    record("application.secret_reset", actor=by, application=application)
    return secret


@transaction.atomic
def remove_application(application: Application, by: str) -> None:
    """Remove an application, and all that was granted to it."""
    record("application.removed", actor=by, application=application)
    application.delete()


def is_secret(application: Application, secret: str) -> bool:
    kept = application.secret_digest
    return bool(kept) and constant_time_compare(digest_of(secret), kept)


def by_client_id(client_id: str, rows: "QuerySet[Application] | None" = None) -> Application | None:
    """The application, among `rows` where they are given."""
    if not client_id.isascii() or not client_id.isalnum():
        return None
    among = Application.objects.all() if rows is None else rows
    return one(among.filter(client_id=client_id))


def find_application(client: str) -> Application | None:
    """By client id or name."""
    return by_client_id(client) or Application.objects.filter(name=client).first()


def usable_by(user: User) -> "QuerySet[Application]":
    """The applications that sign users in, and whose required permissions a user holds."""
    lacking = Permission.objects.exclude(pk__in=held_by(user).values("pk"))
    signing_in = Application.objects.filter(Q(authorization_code=True) | Q(device_code=True))
    return signing_in.exclude(required_permissions__in=lacking)


def link_of(application: Application) -> str:
    """Where it begins: its link, else the origin of its first redirect URI on the web."""
    if application.link:
        return application.link
    origins = (origin_of(uri) for uri in application.redirect_uri_list)
    return next((origin for origin in origins if origin), "")


def give(application: Application, permissions: Iterable[Permission], by: str) -> list[str]:
    """Grant permissions to the application itself; the names of those that are new."""
    return add(application, "permissions", permissions, by)


def take(application: Application, permissions: Iterable[Permission], by: str) -> list[str]:
    """The reverse of `give`; the names of those that it had."""
    return remove(application, "permissions", permissions, by)


def require(application: Application, permissions: Iterable[Permission], by: str) -> list[str]:
    """Let only users in who hold these; the names of those that are new."""
    return add(application, "required_permissions", permissions, by)


def drop(application: Application, permissions: Iterable[Permission], by: str) -> list[str]:
    """The reverse of `require`; the names of those that were required."""
    return remove(application, "required_permissions", permissions, by)


@transaction.atomic
def add(
    application: Application, field: str, permissions: Iterable[Permission], by: str
) -> list[str]:
    has = set(getattr(application, field).all())
    new = [permission for permission in permissions if permission not in has]
    getattr(application, field).add(*new)
    return told(application, f"application.{field}.added", new, by)


@transaction.atomic
def remove(
    application: Application, field: str, permissions: Iterable[Permission], by: str
) -> list[str]:
    has = set(getattr(application, field).all())
    gone = [permission for permission in permissions if permission in has]
    getattr(application, field).remove(*gone)
    return told(application, f"application.{field}.removed", gone, by)


def told(application: Application, kind: str, permissions: list[Permission], by: str) -> list[str]:
    names = [permission.permission_name for permission in permissions]
    if names:
        record(kind, actor=by, application=application, permissions=names)
    return names
