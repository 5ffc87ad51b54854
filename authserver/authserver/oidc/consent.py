"""What users have agreed to give to applications."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from authserver import locks
from authserver.accounts.models import User
from authserver.audit.record import record
from authserver.oidc.models import Application, Consent, Grant


def is_given(user: User, application: Application, scope: Iterable[str]) -> bool:
    """Whether the user has agreed to all of these scopes before."""
    given = Consent.objects.filter(user=user, application=application).first()
    return given is not None and set(scope) <= set(given.scope.split())


@transaction.atomic
def give(user: User, application: Application, scope: Iterable[str]) -> None:
    """Remember that the user agrees to these scopes, beside those that he agreed to before."""
    locks.hold(f"consent {user.pk}")
    known = Consent.objects.filter(user=user, application=application).first()
    before = known.scope.split() if known else []
    text = " ".join(dict.fromkeys([*before, *scope]))
    Consent.objects.update_or_create(user=user, application=application, defaults={"scope": text})
    record("consent.given", actor=user, subject=user, application=application, scope=text)


@transaction.atomic
def take_back(user: User, application: Application, by: str) -> bool:
    """End what an application holds of a user, and ask him again next time; whether there was
    anything."""
    consents = Consent.objects.filter(user=user, application=application).delete()[0]
    grants = Grant.objects.filter(user=user, application=application).delete()[0]
    if consents or grants:
        record("consent.taken_back", actor=by, subject=user, application=application)
    return bool(consents or grants)


@dataclass(frozen=True)
class Access:
    """What an application holds of a user: which scopes, since when, when it was last used."""

    application: Application
    scope: list[str]
    since: datetime.datetime
    last_used: datetime.datetime | None


def accesses_of(user: User) -> list[Access]:
    """The applications that hold something of a user: tokens that count, or his consent."""
    now = timezone.now()
    consents = Consent.objects.filter(user=user).select_related("application")
    grants = Grant.objects.filter(user=user, expires_at__gt=now).exclude(
        code_digest__isnull=False, code_used_at=None
    )
    alive = [g for g in grants.select_related("application", "session") if g.is_alive(now)]
    applications = {each.application for each in consents} | {each.application for each in alive}
    found = []
    for application in sorted(applications, key=lambda each: each.name):
        given = [each for each in consents if each.application == application]
        held = [each for each in alive if each.application == application]
        texts = " ".join([each.scope for each in given] + [each.scope for each in held])
        found.append(
            Access(
                application,
                list(dict.fromkeys(texts.split())),
                min([each.given_at for each in given] + [each.created_at for each in held]),
                max((each.last_used for each in held), default=None),
            )
        )
    return found
