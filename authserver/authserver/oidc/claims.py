"""What applications learn about a user: the claims of OpenID Connect Core, 5.1, and our own."""

from typing import Any

from authserver.accounts.models import EmailAlias, User
from authserver.oidc.scopes import split


def claims_of(user: User, scope: list[str]) -> dict[str, Any]:
    """The claims that the scopes `scope`, which the user holds, give.

    `permissions` are the application permissions among them.
    """
    standard, permissions = split(scope)
    claims: dict[str, Any] = {"sub": str(user.pk)}
    if "profile" in standard:
        claims["name"] = user.fullname or user.identifier
        claims["preferred_username"] = user.identifier
        claims["updated_at"] = int(user.updated_at.timestamp())
    if "email" in standard:
        claims |= email_of(user)
    if "groups" in standard:
        claims["groups"] = list(user.groups.values_list("name", flat=True))
    if permissions:
        claims["permissions"] = sorted(permissions)
    return claims


def email_of(user: User) -> dict[str, Any]:
    """The delivery mailbox, which is verified; else the contact address, which is not."""
    if user.delivery_mailbox_id is not None:
        box = EmailAlias.objects.select_related("domain").get(pk=user.delivery_mailbox_id)
        return {"email": box.alias, "email_verified": True}
    if user.contact_email:
        return {"email": user.contact_email, "email_verified": False}
    return {}
