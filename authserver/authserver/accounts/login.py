"""May this login in? Every door that takes a name and a password asks `check_login`."""

import dataclasses
import hashlib
import logging
import unicodedata
from dataclasses import dataclass

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from authserver.accounts import nas, standing, throttle
from authserver.accounts.models import (
    EmailAlias,
    Group,
    ServiceUser,
    User,
    check_identifier,
)
from authserver.accounts.names import claim
from authserver.accounts.passwords import PasswordCheck
from authserver.audit.record import record
from authserver.http import network_of
from authserver.names import name_key
from authserver.queries import one
from authserver.waits import Results, Wait

log = logging.getLogger(__name__)

WRONG = "Wrong name or password."
UNREACHABLE = "The NAS cannot be reached. Try again later."
BUSY = "Too many logins at once. Try again in a minute."
# what the NAS says of a right password whose account may not come in
SENTENCES = {
    "Password expired": "Your password has expired: set a new one on the NAS, then sign in again.",
    "Account expired": "Your account on the NAS has expired. Ask who administers the NAS.",
}


class LoginRefused(Exception):
    """A login that is not let in: the HTTP `status` (401: the name or the password is wrong),
    the `text` for people, `retry_after` in seconds with 429 and 503."""

    def __init__(self, status: int, text: str, retry_after: int = 0) -> None:
        self.status, self.text, self.retry_after = status, text, retry_after


@dataclass(frozen=True)
class Credentials:
    """What came in: at which `door` (for the audit log), from which client address."""

    name: str
    password: str
    client: str
    door: str


def find_account(name: str) -> User | ServiceUser | None:
    """Whose name that is: a user's identifier or address, or a service user's."""
    key = name_key(name)
    if "\0" in key or any(unicodedata.category(character) == "Cs" for character in key):
        return None  # no database takes it
    if "@" in key:
        alias = one(EmailAlias.objects.filter(address_key=key).select_related("user"))
        return alias.user if alias else None
    # first who logs in often, and without a slow hash
    service = one(ServiceUser.objects.filter(username_key=key).select_related("user"))
    return service or one(User.objects.filter(identifier_key=key))


def check_login(given: Credentials, results: Results, *, service_users: bool = False) -> User:
    """The user who may come in; raises LoginRefused, or a Wait where something is to be awaited.

    `service_users`: whether this door takes service users, whose owner is returned. Where it does
    not, their names are like any that nobody has.
    """
    account = find_account(given.name)
    if isinstance(account, ServiceUser):
        if service_users:
            return check_service_user(given, account, results)
        account = None
    pending = admitted(given, account, results)
    try:
        if account and account.source == User.LOCAL:
            user, why = check_local(given, account, results)
        else:
            user, why = check_nas(given, account, results)
    except LoginRefused:  # no verdict on the password
        throttle.settle(pending, refused=False)
        raise
    throttle.settle(pending, refused=user is None)
    if user is None:
        raise refused(given, account, why)
    record("login", subject=user, client=given.client, door=given.door)
    return user


def refused(given: Credentials, account: User | None, why: str) -> LoginRefused:
    """The refusal that all wrong logins get. The typed name is kept only where it is one."""
    record("login.refused", subject=account, client=given.client, door=given.door, why=why)
    return LoginRefused(401, WRONG)


def admitted(given: Credentials, account: User | None, results: Results) -> int | None:
    """Its pending refusal, made once for a request; LoginRefused where there are too many."""
    key = account.identifier_key if account else name_key(given.name)
    name, network = throttle.name_digest(key), network_of(given.client)
    if ("pending", name, network) not in results:
        known = throttle.is_known(account, network)
        try:
            results["pending", name, network] = throttle.admit(name, network, known, results)
            results["known", given.name] = known
        except throttle.Throttled as error:
            raise throttled(account, given.client, given.door, error.retry_after) from None
    pending: int | None = results["pending", name, network]
    return pending


def check_service_user(given: Credentials, account: ServiceUser, results: Results) -> User:
    digest = hashlib.sha256(given.password.encode("utf-8", "surrogatepass")).hexdigest()
    if digest != account.digest:  # of 160 random bits: nothing is learned from the time
        raise refused(given, account.user, "a service user's password")
    try:
        good = standing.still_good(account.user, results)
    except standing.NasUnreachable:
        raise LoginRefused(503, UNREACHABLE, 10) from None
    if not good:
        raise refused(given, account.user, "the account is not active")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    if account.last_used != hour:
        ServiceUser.objects.filter(pk=account.pk).update(last_used=hour)
    record(
        "login",
        subject=account.user,
        client=given.client,
        door=given.door,
        service_user=account.username,
    )
    return account.user


def check_local(given: Credentials, user: User, results: Results) -> tuple[User | None, str]:
    if not is_right(given, user.password, results):
        return None, "password"
    if not user.is_active:
        return None, "not active"
    return user, ""


def is_right(given: Credentials, encoded: str, results: Results) -> bool:
    """Whether it is the password of `encoded`, "" for an account that has none."""
    check = PasswordCheck(given.password, encoded, results.get(("known", given.name), False))
    if check.key not in results:
        raise check
    right: bool | None = results[check.key]
    if right is None:
        raise LoginRefused(503, BUSY, 10)
    return right


class NasLogin(Wait):
    """What the NAS says of a login: (answer, account), or the reason why it says nothing."""

    def __init__(self, given: Credentials) -> None:
        self.given = given
        password = hashlib.sha256(given.password.encode("utf-8", "surrogatepass")).digest()
        self.key = ("nas", given.name, password)

    async def result(self) -> tuple[nas.Answer, nas.Account | None] | str:
        name, password = self.given.name, self.given.password
        try:
            answer = await nas.validate(name, password, self.given.client)
            if not answer.username:
                return answer, None
            return answer, await nas.user_info(answer.username)
        except nas.Unreachable as error:
            return str(error)


def check_nas(given: Credentials, user: User | None, results: Results) -> tuple[User | None, str]:
    """The user of the NAS whose password this is, made at the first login."""
    if user and (user.nas_uid is not None or "@" in given.name):
        # the NAS knows neither addresses nor other spellings
        given = dataclasses.replace(given, name=user.identifier)
    if not nas.is_set_up() or not nas.can_ask(given.name, given.password):
        is_right(given, "", results)  # takes as long as for a name that is known
        return None, "unknown"
    login = NasLogin(given)
    if login.key not in results:
        raise login
    found = results[login.key]
    if isinstance(found, str):
        log.warning("nas.unreachable", extra={"fields": {"reason": found}})
        raise LoginRefused(503, UNREACHABLE, 10)
    answer, account = found
    if user and not user.is_active:
        return None, "not active"
    if answer.retry_after:
        minutes = max(1, -(-answer.retry_after // 60))
        unit = "minute" if minutes == 1 else "minutes"
        text = f"Too many failed logins on the NAS. Try again in {minutes} {unit}."
        raise LoginRefused(429, text, answer.retry_after)
    if answer.error in SENTENCES:
        record(
            "login.refused", subject=user, client=given.client, door=given.door, why=answer.error
        )
        raise LoginRefused(403, SENTENCES[answer.error])
    if answer.error:
        return None, "the NAS says no"
    if account is None or account.username != answer.username:
        log.warning("nas.unreachable", extra={"fields": {"reason": "/user-info contradicts"}})
        raise LoginRefused(503, UNREACHABLE, 10)
    return admit_nas_user(user, account)


def admit_nas_user(user: User | None, account: nas.Account) -> tuple[User | None, str]:
    """The user of an account whose password is right; None, and why, where he may not come in."""
    if user is None and not account.active:
        return None, "locked on the NAS"
    user = user or nas_user_of(account)
    if user is None:
        return None, "the name is taken here"
    if user.source != User.NAS or user.identifier_key != name_key(account.username):
        return None, "another account's name"
    if user.nas_uid is not None and user.nas_uid != account.uid:
        log.error(
            "nas.other_uid",
            extra={"fields": {"user": user.identifier, "stored": user.nas_uid, "now": account.uid}},
        )
        standing.confirm(user, good=False)
        return None, "another uid on the NAS"
    if not account.active:
        standing.confirm(user, good=False)
        return None, "locked on the NAS"
    if not user.is_active:
        return None, "not active"
    keep_in_step(user, account)
    standing.confirm(user, good=True)
    return user, ""


def nas_user_of(account: nas.Account) -> User | None:
    """The user of a NAS account, made where there is none; None where the name is taken."""
    try:
        check_identifier(account.username)
        with transaction.atomic():
            claim(account.username)
            user = User(identifier=account.username, source=User.NAS, nas_uid=account.uid)
            user.set_unusable_password()
            user.save()
        record("user.created", subject=user, by="first login with the NAS's password")
        return user
    except (ValidationError, IntegrityError):  # taken, or another first login was faster
        return User.objects.filter(
            identifier_key=name_key(account.username), source=User.NAS
        ).first()


def keep_in_step(user: User, account: nas.Account) -> None:
    """The name's spelling, full name, contact address and the groups named in GROUP_MAP follow the
    NAS, both ways."""
    values = {
        "identifier": account.username,
        "fullname": account.full_name[:200],
        "contact_email": account.email[:254],
        "nas_uid": account.uid,
    }
    changed = [name for name, value in values.items() if getattr(user, name) != value]
    for name in changed:
        setattr(user, name, values[name])
    if changed:
        user.save(update_fields=changed)
    group_map: dict[str, str] = settings.ENV.group_map
    wanted = {group_map[name] for name in account.groups if name in group_map}
    has = set(user.groups.filter(name__in=group_map.values()).values_list("name", flat=True))
    for name in wanted - has:
        user.groups.add(Group.objects.get_or_create(name=name)[0])
    if has - wanted:
        user.groups.remove(*user.groups.filter(name__in=has - wanted))


def owner_of(name: str) -> User | None:
    """The user whose name, address or service user's name that is; the NAS is not asked."""
    account = find_account(name)
    return account.user if isinstance(account, ServiceUser) else account


def check_throttle(name: str, client: str, door: str) -> None:
    """LoginRefused (429) where that name has collected too many refusals there."""
    account = find_account(name)
    if isinstance(account, ServiceUser):
        return
    key, network = account.identifier_key if account else name_key(name), network_of(client)
    try:
        throttle.check(throttle.name_digest(key), network, throttle.is_known(account, network))
    except throttle.Throttled as error:
        raise throttled(account, client, door, error.retry_after) from None


def throttled(account: User | None, client: str, door: str, retry_after: int) -> LoginRefused:
    record("login.throttled", subject=account, client=client, door=door)
    minutes = max(1, -(-retry_after // 60))
    unit = "minute" if minutes == 1 else "minutes"
    return LoginRefused(429, f"Too many failed logins. Try again in {minutes} {unit}.", retry_after)
