"""Names of users and service users, unique among each other."""

from django.core.exceptions import ValidationError

from authserver import locks
from authserver.accounts.models import ServiceUser, User
from authserver.names import name_key


def claim(name: str, but: User | ServiceUser | None = None) -> None:
    """Make sure, until the transaction ends, that nobody but `but` has `name`.

    Raises ValidationError where somebody has.
    """
    locks.hold("names")
    key = name_key(name)
    users, services = User.objects.filter(identifier_key=key), ServiceUser.objects.all()
    services = services.filter(username_key=key)
    if isinstance(but, User):
        users = users.exclude(pk=but.pk)
    elif but is not None:
        services = services.exclude(pk=but.pk)
    if users.exists():
        raise ValidationError(f"A user with the name {name!r} exists already.")
    if services.exists():
        raise ValidationError(f"A service user with the name {name!r} exists already.")
