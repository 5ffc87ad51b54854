"""Scopes: the standard ones, and application permissions by their names."""

import re
from collections.abc import Iterable

from django.db.models import Q, QuerySet

from authserver.accounts.models import STANDARD_SCOPES, Permission, User
from authserver.oidc.errors import OAuthError
from authserver.oidc.models import Application

SENTENCES = {
    "openid": "who you are",
    "profile": "your name",
    "email": "your e-mail address",
    "groups": "your groups",
    "offline_access": "all of this also while you are signed out",
}


def read_scope(text: str) -> list[str]:
    """The scopes in a parameter, each once; raises OAuthError where it is none."""
    asked = [scope for scope in dict.fromkeys(text.split(" ")) if scope]
    if not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in asked):  # RFC 6749, 3.3
        raise OAuthError("invalid_scope", "The scope has characters that none has.")
    return asked


def split(asked: Iterable[str]) -> tuple[list[str], list[str]]:
    """The standard scopes among those asked, and the others."""
    asked = list(asked)
    standard = [scope for scope in asked if scope in STANDARD_SCOPES]
    return standard, [scope for scope in asked if scope not in STANDARD_SCOPES]


def keep(asked: list[str], permissions: "QuerySet[Permission]") -> list[str]:
    """Of those asked the standard ones, and the others that stand among `permissions`."""
    standard, others = split(asked)
    if not others:
        return standard
    found = permissions.filter(permission_name__in=others)
    held = set(found.values_list("permission_name", flat=True))
    return [scope for scope in asked if scope in standard or scope in held]


def held_by(user: User) -> "QuerySet[Permission]":
    """The permissions of a user, himself or by a group."""
    return Permission.objects.filter(Q(users=user) | Q(groups__users=user))


def scope_asked(application: Application, text: str) -> list[str]:
    """What a request is about: the scopes of it that exist, or the required permissions.

    Raises OAuthError where nothing is left.
    """
    if text:
        asked = keep(read_scope(text), Permission.objects.all())
    else:
        required = application.required_permissions.values_list("permission_name", flat=True)
        asked = list(required)
    return some(asked)


def some(scopes: list[str]) -> list[str]:
    """`scopes`, of which there must be one; raises OAuthError."""
    if not scopes:
        raise OAuthError("invalid_scope", "None of these scopes can be granted.")
    return scopes


def scope_of_user(asked: list[str], user: User) -> list[str]:
    """Of those asked what a user can be granted now: the standard ones and what he holds."""
    standard, others = split(asked)
    return keep(asked, held_by(user)) if others else standard


def scope_of_application(application: Application, text: str) -> list[str]:
    """What client credentials bring: of the permissions granted to it those asked, or all."""
    held = set(application.permissions.values_list("permission_name", flat=True))
    asked = read_scope(text) if text else sorted(held)
    return some([scope for scope in asked if scope in held])


def missing_permissions(application: Application, user: User) -> list[Permission]:
    """What an application requires and the user does not hold."""
    # by the table between: most require nothing, and the other questions are not asked
    if not Application.required_permissions.through.objects.filter(
        application_id=application.pk
    ).exists():
        return []
    required = list(application.required_permissions.all())
    held = set(held_by(user).values_list("pk", flat=True))
    return [permission for permission in required if permission.pk not in held]


def named(permission: Permission) -> str:
    """A permission for people: its label, and its name where that is another."""
    label, name = permission.name, permission.permission_name
    return f"{label} ({name})" if label and label != name else name


def sentences(scopes: Iterable[str]) -> list[str]:
    """Scopes in words, for people."""
    standard, others = split(scopes)
    labels = dict(
        Permission.objects.filter(permission_name__in=others).values_list("permission_name", "name")
    )
    return [SENTENCES[scope] for scope in standard] + [labels.get(s) or s for s in others]
