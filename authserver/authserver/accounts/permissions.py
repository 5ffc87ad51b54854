"""Which permissions does it hold."""

from django.db.models import Q, QuerySet

from authserver.accounts.models import Permission, User


def permissions_of(user: User) -> frozenset[str]:
    """The names of the permissions that a user was granted, himself or by a group.

    An administrator has no others: what he may do here needs none.
    """
    return frozenset(granted_to(user).values_list("permission_name", flat=True))


def permission_labels(user: User) -> list[str]:
    """The same, as people read them."""
    return [
        label or name for label, name in granted_to(user).values_list("name", "permission_name")
    ]


def granted_to(user: User) -> QuerySet[Permission]:
    return Permission.objects.filter(Q(users=user) | Q(groups__users=user)).distinct()
