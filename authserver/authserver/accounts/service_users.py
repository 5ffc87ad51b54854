"""Service users: a name and a random password of a user's, for a program. `by` is who made it."""

import base64
import hashlib
import secrets

import bcrypt
from django.db import transaction

from authserver.accounts.models import ServiceUser, User
from authserver.accounts.names import claim
from authserver.audit.record import record
from authserver.names import name_key

RANDOM_BYTES = 20  # 160 bits
CRYPT_ROUNDS = 4  # the least there is: nobody guesses 160 bits


def new_password() -> str:
    """32 letters and digits that no font confuses, in groups of four."""
    letters = base64.b32encode(secrets.token_bytes(RANDOM_BYTES)).decode().lower()
    return "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def free_name(user: User) -> str:
    """A name that nobody has: the user's own with a number."""
    number = 1
    while True:
        name = f"{user.identifier[:140]}-{number}"
        key = name_key(name)
        users = User.objects.filter(identifier_key=key)
        if not users.exists() and not ServiceUser.objects.filter(username_key=key).exists():
            return name
        number += 1


@transaction.atomic
def create_service_user(
    user: User, username: str, description: str, by: str
) -> tuple[ServiceUser, str]:
    """The service user and its password, which is kept nowhere.

    Raises ValidationError where the name cannot be one, or is taken.
    """
    password = new_password()
    service = ServiceUser(user=user, username=username or free_name(user), description=description)
    service.digest = hashlib.sha256(password.encode()).hexdigest()
    service.crypt = bcrypt.hashpw(password.encode(), bcrypt.gensalt(CRYPT_ROUNDS)).decode()
    save_named(service)
    record("serviceuser.created", actor=by, subject=user, service_user=service.username)
    return service, password


def save_named(service: ServiceUser) -> None:
    service.clean_fields(exclude=["username_key"])
    claim(service.username, service)
    service.save()


@transaction.atomic
def edit_service_user(
    service: ServiceUser, by: str, *, username: str | None = None, description: str | None = None
) -> bool:
    """Change what is given; whether that was anything."""
    was = (service.username, service.description)
    service.username = was[0] if username is None else username
    service.description = was[1] if description is None else description
    if (service.username, service.description) == was:
        return False
    save_named(service)
    record(
        "serviceuser.edited",
        actor=by,
        subject=service.user,
        service_user=service.username,
        was=was[0],
    )
    return True


def remove_service_user(service: ServiceUser, by: str) -> None:
    record("serviceuser.removed", actor=by, subject=service.user, service_user=service.username)
    service.delete()
