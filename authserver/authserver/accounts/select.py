"""Which account a selector names, for commands and wherever somebody types one."""

import uuid

from django.db.models import Q, QuerySet

from authserver.accounts.addresses import find_alias
from authserver.accounts.models import ServiceUser, User
from authserver.names import name_key


def find_user(selector: str) -> User | None:
    """A user by uuid, identifier or address."""
    if "@" in selector:
        alias = find_alias(selector)
        return alias.user if alias else None
    found = User.objects.filter(identifier_key=name_key(selector)).first()
    if found:
        return found
    try:
        return User.objects.filter(pk=uuid.UUID(selector)).first()
    except ValueError:
        return None


def users_containing(text: str) -> "QuerySet[User]":
    """Users in whose identifier, full name or addresses a text occurs."""
    key = name_key(text)
    where = Q(identifier_key__contains=key) | Q(fullname__icontains=text)
    return User.objects.filter(where | Q(aliases__address_key__contains=key)).distinct()


def find_service_user(selector: str) -> ServiceUser | None:
    """A service user by its name, else by its id."""
    found = ServiceUser.objects.filter(username_key=name_key(selector))
    if found.exists() or not (selector.isascii() and selector.isdigit() and len(selector) < 19):
        return found.select_related("user").first()
    return ServiceUser.objects.filter(pk=int(selector)).select_related("user").first()
