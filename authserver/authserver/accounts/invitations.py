"""The link by which somebody sets a password of a local account: an invitation, or a reset.

It holds until it is used, until the account signs in, or for PASSWORD_RESET_TIMEOUT.
"""

from uuid import UUID

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.db import transaction

from authserver import locks, outbox
from authserver.accounts.devices import address_of
from authserver.accounts.models import User
from authserver.accounts.users import NAS_PASSWORD, set_password
from authserver.audit.record import record


def invite(user: User, by: str) -> str:
    """The link for `user`, who gets it by mail as well.

    Raises ValidationError where the account cannot have a password.
    """
    if user.source == User.NAS:
        raise ValidationError(NAS_PASSWORD)
    if not user.is_active:
        raise ValidationError(f"{user} is not active.")
    record("user.invited", actor=by, subject=user)
    link = link_for(user)
    if address := address_of(user):
        outbox.send(address, f"Your account at {settings.BASE_URL}", INVITATION.format(user, link))
    return link


INVITATION = """\
You have an account here, with the name {0}. Set your password within 24 hours:

    {1}

Afterwards you sign in with that name and password.
"""


def link_for(user: User) -> str:
    token = default_token_generator.make_token(user)
    return f"{settings.BASE_URL}/account/password/set/{user.pk}/{token}/"


def invited(user_id: UUID, token: str) -> User | None:
    """Whose link that is, while it holds."""
    user = User.objects.filter(pk=user_id, is_active=True, source=User.LOCAL).first()
    return user if user and default_token_generator.check_token(user, token) else None


@transaction.atomic
def accept(user_id: UUID, token: str, password: str) -> bool:
    """Set the password by a link; whether it still held. Raises ValidationError."""
    locks.hold(f"user {user_id}")  # of two at once, one finds the link used
    user = invited(user_id, token)
    if user is None:
        return False
    set_password(user, password, by=user.identifier)
    return True
