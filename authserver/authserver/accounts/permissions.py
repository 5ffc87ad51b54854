"""Which permissions does it hold."""

from django.db.models import Q

from authserver.accounts.models import Permission, User


def permissions_of(user: User) -> frozenset[str]:
    """The names of the permissions that a user was granted, himself or by a group.

    An administrator has no others: what he may do here needs none.
    """
    granted = Permission.objects.filter(Q(users=user) | Q(groups__users=user))
    return frozenset(granted.values_list("permission_name", flat=True))
