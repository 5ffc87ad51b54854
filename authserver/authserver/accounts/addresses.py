"""Domains, addresses of users, and which of them is the delivery mailbox.

Each change is in the audit log: `by` is who made it.
"""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import ProtectedError

from authserver.accounts.models import Domain, EmailAlias, User
from authserver.audit.record import record
from authserver.names import name_key


def domain_name(text: str) -> str:
    """A domain as it is kept: lower case, without the dot of the root."""
    return text.strip().removesuffix(".").lower()


def find_domain(name: str) -> Domain | None:
    return Domain.objects.filter(name=domain_name(name)).first()


def create_domain(name: str, by: str, **values: Any) -> Domain:
    """`values`: fields of Domain. Raises ValidationError where one cannot be, or it is there."""
    domain = Domain(name=domain_name(name), **values)
    domain.full_clean()
    domain.save()
    record("domain.created", actor=by, subject=domain, **values)
    return domain


def edit_domain(domain: Domain, by: str, **values: Any) -> list[str]:
    """Change fields; which of them had another value. Raises ValidationError."""
    changed = {name: value for name, value in values.items() if getattr(domain, name) != value}
    for name, value in changed.items():
        setattr(domain, name, value)
    domain.full_clean()
    domain.save()
    if changed:
        record("domain.edited", actor=by, subject=domain, **changed)
    return list(changed)


def remove_domain(domain: Domain, by: str) -> None:
    """Raises ValidationError while there are addresses in it, or applications or registries."""
    if domain.aliases.exists():
        raise ValidationError(f"There are addresses in {domain}: remove them first.")
    try:
        domain.delete()
    except ProtectedError as error:
        users = ", ".join(sorted(str(each) for each in error.protected_objects))
        raise ValidationError(f"{domain} is used by {users}.") from None
    record("domain.removed", actor=by, subject=domain)


def split_address(address: str) -> tuple[str, str]:
    """The local part and the domain; raises ValidationError."""
    mailprefix, at, domain = address.strip().rpartition("@")
    if not at or not mailprefix or not domain:
        raise ValidationError(f"{address!r} is not an address: LOCAL@DOMAIN.")
    return mailprefix, domain


def find_alias(address: str) -> EmailAlias | None:
    found = EmailAlias.objects.filter(address_key=name_key(address.strip().removesuffix(".")))
    return found.select_related("user", "domain").first()


def create_alias(
    mailprefix: str, domain: Domain, user: User, by: str, blacklisted: bool = False
) -> EmailAlias:
    """Raises ValidationError where the address cannot be one, or is taken."""
    alias = EmailAlias(mailprefix=mailprefix, domain=domain, user=user, blacklisted=blacklisted)
    save_alias(alias)
    record("alias.created", actor=by, subject=user, address=alias.alias)
    return alias


def save_alias(alias: EmailAlias) -> None:
    alias.address_key = name_key(alias.alias)
    alias.full_clean()
    alias.save()


def edit_alias(
    alias: EmailAlias,
    by: str,
    *,
    mailprefix: str | None = None,
    domain: Domain | None = None,
    user: User | None = None,
    blacklisted: bool | None = None,
) -> bool:
    """Change what is given; whether that was anything. Another user's mailbox it is no more."""
    was = (alias.alias, alias.user, alias.blacklisted)
    alias.mailprefix = alias.mailprefix if mailprefix is None else mailprefix
    alias.domain = domain or alias.domain
    alias.user = user or alias.user
    alias.blacklisted = alias.blacklisted if blacklisted is None else blacklisted
    if (alias.alias, alias.user, alias.blacklisted) == was:
        return False
    save_alias(alias)
    if alias.user != was[1]:
        User.objects.filter(pk=was[1].pk, delivery_mailbox=alias).update(delivery_mailbox=None)
    record(
        "alias.edited",
        actor=by,
        subject=alias.user,
        address=alias.alias,
        was=was[0],
        blacklisted=alias.blacklisted,
    )
    return True


def remove_alias(alias: EmailAlias, by: str) -> None:
    record("alias.removed", actor=by, subject=alias.user, address=alias.alias)
    alias.delete()


def set_delivery_mailbox(user: User, alias: EmailAlias, by: str) -> bool:
    """Whether that was a change. Raises ValidationError where the address is another user's."""
    if alias.user_id != user.pk:
        raise ValidationError(f"{alias} is not an address of {user}.")
    if user.delivery_mailbox_id == alias.pk:
        return False
    user.delivery_mailbox = alias
    user.save(update_fields=["delivery_mailbox"])
    record("mailbox.set", actor=by, subject=user, address=alias.alias)
    return True
