"""How many refusals a name may collect before nobody looks at its passwords any more."""

import asyncio
import datetime
import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from weakref import WeakValueDictionary

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from authserver import locks
from authserver.accounts.models import KnownClient, Refusal, Session, User
from authserver.audit.record import record
from authserver.waits import Results, Wait, with_database

EVERYWHERE = 10  # times MAX_FAILURES: what a name may collect over all clients
KNOWN_DAYS = 30
PENDING_SECONDS = 30  # longer than any verdict takes
PATIENCE = 10  # seconds to wait for those that are being judged


class Throttled(Exception):
    """Too many refusals; `retry_after` in seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after


def name_digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def is_known(user: User | None, network: str) -> bool:
    """Whether a user has logged in from there within 30 days, or has a session there."""
    if user is None:
        return False
    since = timezone.now() - datetime.timedelta(days=KNOWN_DAYS)
    if KnownClient.objects.filter(user=user, network=network, last_login__gt=since).exists():
        return True
    sessions = Session.objects.filter(user=user, network=network, expires_at__gt=timezone.now())
    return sessions.exists()


def remember_client(user: User, network: str) -> None:
    KnownClient.objects.update_or_create(
        user=user, network=network, defaults={"last_login": timezone.now()}
    )


def measure(name: str, network: str, known: bool, since: datetime.datetime) -> int:
    """How many more refusals there may be, less those that are being judged; raises Throttled."""
    limit: int = settings.ENV.max_failures
    now = timezone.now()
    measures = [({"name": name, "network": network}, limit)]
    if not known:
        measures.append(({"name": name}, EVERYWHERE * limit))
    left: list[int] = []
    for where, most in measures:
        rows = Refusal.objects.filter(at__gt=since, **where)
        settled = rows.exclude(pending_until__gt=now)
        # in one statement: a row that is settled between two would be in neither of their counts
        found = rows.aggregate(
            all=Count("pk"), pending=Count("pk", filter=Q(pending_until__gt=now))
        )
        if found["all"] - found["pending"] >= most:
            times = list(settled.order_by("-at").values_list("at", flat=True)[:most])
            oldest = times[-1] if times else now
            raise Throttled(max(1, math.ceil((oldest - since).total_seconds())))
        left.append(most - found["all"])
    return min(left)


def begin_of_window() -> datetime.datetime:
    return timezone.now() - datetime.timedelta(seconds=settings.ENV.failure_window)


def check(name: str, network: str, known: bool) -> None:
    """Raises Throttled where a name has collected too many refusals. `name` is a digest."""
    if settings.ENV.max_failures:
        measure(name, network, known, begin_of_window())


class Turn(Wait):
    """The refusals of a name are being judged, and one more could be too many."""

    def __init__(self, name: str, network: str, known: bool) -> None:
        self.name, self.network, self.known = name, network, known
        self.key = ("turn", name, network)

    async def result(self) -> int | Throttled:
        """The key of its pending refusal, once it may be judged. In order of arrival."""
        line = LINES.setdefault(
            (self.name, self.network), asyncio.Lock()
        )  # one asks for all of this process
        try:
            async with asyncio.timeout(PATIENCE), line:
                while not (pending := await with_database(self.take)):
                    await asyncio.sleep(0.05)
                return pending
        except Throttled as throttled:
            return throttled
        except TimeoutError:
            return Throttled(1)

    def take(self) -> int | None:
        return place(self.name, self.network, self.known)


# who waits in this process for a turn of the same name and client
LINES: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()


def admit(name: str, network: str, known: bool, results: Results) -> int | None:
    """Let a login be judged: the key of its pending refusal, for `settle`; None without a limit.

    Raises Throttled, or a Wait where those at judgement could fill the measure. `name` is a digest.
    """
    if not settings.ENV.max_failures:
        return None
    turn = Turn(name, network, known)
    if turn.key not in results:
        if pending := place(name, network, known):
            return pending
        raise turn
    found: int | Throttled = results[turn.key]
    if isinstance(found, Throttled):
        raise found
    return found


def place(name: str, network: str, known: bool) -> int | None:
    """The key of a new pending refusal; None where those at judgement could fill the measure."""
    with transaction.atomic():
        locks.hold(f"throttle {name}")
        if measure(name, network, known, begin_of_window()) <= 0:
            return None
        until = timezone.now() + datetime.timedelta(seconds=PENDING_SECONDS)
        return Refusal.objects.create(name=name, network=network, pending_until=until).pk


def settle(pending: int | None, refused: bool) -> None:
    """Say what a login that was admitted came to."""
    if pending is None:
        return
    row = Refusal.objects.filter(pk=pending)
    if refused:
        row.update(pending_until=None, at=timezone.now())
    else:
        row.delete()


def clear(name: str) -> int:
    """Forget the refusals of a name; how many there were."""
    return Refusal.objects.filter(name=name).delete()[0]


def unlock(name: str, by: str, user: User | None = None) -> int:
    """Let a name try again, by whom; how many refusals were forgotten."""
    count = clear(name)
    if count:
        record("user.unlocked", actor=by, subject=user, failures=count)
    return count


@dataclass(frozen=True)
class RefusedName:
    """A name with refusals within the window: `number` is a key of one of them, `digest` what they
    are kept by, `user` whose it is, if anybody's; `locked`: from one network at least."""

    number: int
    digest: str
    user: User | None
    count: int
    networks: list[str]
    last: datetime.datetime
    locked: bool


def refused_names(most: int = 200) -> list[RefusedName]:
    """The names with refusals, the most refused first."""
    limit: int = settings.ENV.max_failures
    by_name: dict[str, list[Refusal]] = {}
    for refusal in counting().order_by("-at"):
        by_name.setdefault(refusal.name, []).append(refusal)
    users = users_named(set(by_name))
    found = []
    for digest, refusals in by_name.items():
        counts = Counter(refusal.network for refusal in refusals)
        locked = bool(limit) and (
            max(counts.values()) >= limit or len(refusals) >= EVERYWHERE * limit
        )
        found.append(
            RefusedName(
                refusals[0].pk,
                digest,
                users.get(digest),
                len(refusals),
                list(counts),
                refusals[0].at,
                locked,
            )
        )
    return sorted(found, key=lambda name: -name.count)[:most]


def refused_name(number: int) -> RefusedName | None:
    """The name that a refusal counts for."""
    refusal = Refusal.objects.filter(pk=number).first()
    same = (name for name in refused_names() if refusal and name.digest == refusal.name)
    return next(same, None)


def counting() -> "QuerySet[Refusal]":
    """The refusals that count now."""
    now = timezone.now()
    since = now - datetime.timedelta(seconds=settings.ENV.failure_window)
    return Refusal.objects.filter(at__gt=since).exclude(pending_until__gt=now)


def users_named(digests: set[str]) -> dict[str, User]:
    """The users whose names have these digests. They can only be found by making all."""
    if not digests:
        return {}
    keys = User.objects.values_list("identifier_key", flat=True)
    known = {name_digest(key): key for key in keys.iterator() if name_digest(key) in digests}
    users = User.objects.in_bulk(list(known.values()), field_name="identifier_key")
    return {digest: users[key] for digest, key in known.items()}


def clear_old(batch: int = 1000) -> int:
    before = timezone.now() - datetime.timedelta(seconds=settings.ENV.failure_window)
    old = Refusal.objects.filter(at__lt=before).values_list("pk", flat=True)[:batch]
    return Refusal.objects.filter(pk__in=list(old)).delete()[0]
