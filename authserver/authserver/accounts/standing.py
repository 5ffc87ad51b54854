"""Is this account still good? Every door asks `still_good`, at every use."""

import asyncio
import datetime
import logging
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone

from authserver.accounts import nas
from authserver.accounts.models import NasStanding, Session, User
from authserver.accounts.signals import ended
from authserver.audit.record import record
from authserver.waits import Results, Wait, with_database

FAILURE_SECONDS = 10  # after an ask that failed, for which nobody asks again
log = logging.getLogger(__name__)


class NasUnreachable(Exception):
    """The NAS could not be reached, and its last answer is too old to count."""


def still_good(user: User, results: Results) -> bool:
    """Whether what is open in the name of `user` counts.

    Of a NAS user by what the NAS has said within NAS_RECHECK seconds, and while it cannot be
    reached within NAS_GRACE. Raises a Wait where it has to be asked, and NasUnreachable.
    """
    if not user.is_active:
        return False
    if user.source != User.NAS:
        return True
    standing = NasStanding.objects.filter(user=user).first()
    age = age_of(standing)
    if standing and age <= settings.ENV.nas_recheck:
        return standing.good
    question = NasQuestion(user)
    if question.key not in results:
        raise question
    if standing and age <= max(settings.ENV.nas_grace, settings.ENV.nas_recheck):
        return standing.good
    raise NasUnreachable


def age_of(standing: NasStanding | None) -> float:
    """Seconds since the NAS has answered."""
    if not standing or not standing.answered_at:
        return float("inf")
    return (timezone.now() - standing.answered_at).total_seconds()


def is_good(user: User, account: nas.Account | None) -> bool:
    """Whether an account of the NAS is the one of `user`, and not locked.

    Whose uid is not known yet has nothing open: the first login stores it.
    """
    if account is None or not account.active or account.username != user.identifier:
        return False
    return account.uid == user.nas_uid


@transaction.atomic
def confirm(user: User, good: bool) -> None:
    """Keep what the NAS has said; where it is a no, everything that is open ends at once."""
    NasStanding.objects.update_or_create(
        user=user,
        defaults={
            "good": good,
            "answered_at": timezone.now(),
            "asking_until": None,
            "failed_at": None,
        },
    )
    if not good:
        end_everything(user, "the NAS says so")


def end_everything(user: User, why: str, keep: Session | None = None) -> None:
    """End the sessions of a user, all but the one to `keep`, and his tokens of all kinds."""
    sessions = user.sessions.exclude(pk=keep.pk) if keep else user.sessions.all()
    had = sessions.exists()
    sessions.delete()  # first: what a session grants meanwhile waits for it, and ends below
    ended.send(sender=User, user=user)
    if had:
        record("sessions.ended", subject=user, why=why)


class NasQuestion(Wait):
    """Ask the NAS about an account, once over all processes; the others wait for that answer."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.key = ("standing", user.pk)

    async def result(self) -> bool:
        """Whether it has answered, however many ask in this process."""
        task = ASKING.get(self.user.pk)
        if task is None:
            task = ASKING[self.user.pk] = asyncio.create_task(self.settle())
            task.add_done_callback(lambda _: ASKING.pop(self.user.pk, None))
        # its own task: a client that goes away does not end what others wait for
        return await asyncio.shield(task)

    async def settle(self) -> bool:
        """Ask, or wait until the process that asks has the answer. Raises nothing."""
        try:
            if await with_database(self.take):
                return await self.ask()
            for _ in range((nas.ANSWER_SECONDS + 1) * 10):
                if not await with_database(self.is_being_asked):
                    return True
                await asyncio.sleep(0.1)
        except DatabaseError:  # the request that waits will find out by itself
            log.exception("nas.question")
        return False

    def take(self) -> bool:
        """Whether it is ours to ask: nobody does, and no ask has failed just now."""
        now = timezone.now()
        NasStanding.objects.get_or_create(user=self.user)
        recent = now - datetime.timedelta(seconds=FAILURE_SECONDS)
        fresh = now - datetime.timedelta(seconds=settings.ENV.nas_recheck)
        free = NasStanding.objects.filter(
            Q(asking_until=None) | Q(asking_until__lt=now),
            Q(failed_at=None) | Q(failed_at__lt=recent),
            Q(answered_at=None) | Q(answered_at__lt=fresh),
            user=self.user,
        )
        until = now + datetime.timedelta(seconds=nas.ANSWER_SECONDS + 1)
        return free.update(asking_until=until) == 1

    def is_being_asked(self) -> bool:
        asked = NasStanding.objects.filter(user=self.user, asking_until__gt=timezone.now())
        return asked.exists()

    async def ask(self) -> bool:
        try:
            account = await nas.user_info(self.user.identifier)
        except nas.Unreachable as error:
            log.warning("nas.unreachable", extra={"fields": {"reason": str(error)}})
            await with_database(self.fail)
            return False
        await with_database(lambda: confirm(self.user, is_good(self.user, account)))
        return True

    def fail(self) -> None:
        NasStanding.objects.filter(user=self.user).update(
            asking_until=None, failed_at=timezone.now()
        )


# the questions that this process has open
ASKING: dict[UUID, asyncio.Task[bool]] = {}


def unconfirmed_owners(batch: int) -> list[User]:
    """NAS users with service users whom the NAS has not confirmed within the last hour.

    What cannot ask (the stored procedures) lets in whose owner was confirmed within 24 hours.
    """
    before = timezone.now() - datetime.timedelta(hours=1)
    fresh = NasStanding.objects.filter(answered_at__gt=before).values("user")
    owners = User.objects.filter(source=User.NAS, is_active=True, service_users__isnull=False)
    return list(owners.exclude(pk__in=fresh).distinct()[:batch])


async def confirm_owners(batch: int = 100) -> None:
    """Ask the NAS about the owners of service users, so that mail goes on, or ends."""
    for user in await with_database(lambda: unconfirmed_owners(batch)):
        if not await NasQuestion(user).result():
            return  # the next round tries again
