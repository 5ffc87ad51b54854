"""What users have agreed to give to applications."""

from collections.abc import Iterable

from django.db import transaction

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
