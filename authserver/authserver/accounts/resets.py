"""A forgotten password: who asks is sent a link, and learns nothing of whose names exist."""

import datetime

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from authserver import outbox
from authserver.accounts import throttle
from authserver.accounts.devices import address_of
from authserver.accounts.invitations import link_for
from authserver.accounts.login import find_account
from authserver.accounts.models import Refusal, User
from authserver.audit.record import record

MOST = 3  # mails to an account within FAILURE_WINDOW


@transaction.atomic
def ask_for_reset(name: str, client: str) -> None:
    """Send a link to the mailbox of the local account of that name, where there is one.

    Without a mail server it stands in the audit log, and an administrator hands on the link.
    """
    user = find_account(name)
    if not isinstance(user, User) or user.source != User.LOCAL or not user.is_active:
        return
    digest = throttle.name_digest(f"reset/{user.pk}")
    since = timezone.now() - datetime.timedelta(seconds=settings.ENV.failure_window)
    if Refusal.objects.filter(name=digest, at__gt=since).count() >= MOST:
        return
    Refusal.objects.create(name=digest, network="")
    record("password.reset_asked", subject=user, client=client)
    if address := address_of(user):
        outbox.send(
            address,
            f"A new password for {settings.BASE_URL}",
            f"""\
Somebody, probably you, has asked for a new password for {user.identifier} at {settings.BASE_URL}

Set it here, within 24 hours:

    {link_for(user)}

If you did not ask for it, there is nothing to do: the password stays as it is.
""",
        )
