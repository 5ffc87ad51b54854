"""Making, changing and ending accounts. Each change is in the audit log: `by` is who made it.

All raise ValidationError where a value cannot be. What ends an account's right to be open
(another password, another source, deactivation, removal) ends what is open.
"""

from django.core.exceptions import ValidationError
from django.db import transaction

from authserver.accounts.models import NasStanding, Session, User
from authserver.accounts.names import claim
from authserver.accounts.passwords import check_password_form
from authserver.accounts.standing import end_everything
from authserver.audit.record import record

NAS_PASSWORD = "The password of this account is the NAS's: change it there."  # noqa: S105


@transaction.atomic
def create_user(
    identifier: str,
    fullname: str,
    by: str,
    *,
    password: str | None = None,
    staff: bool = False,
    source: str = User.LOCAL,
) -> User:
    """A user; without a password he can sign in after an invitation, or with the NAS's."""
    user = User(identifier=identifier, fullname=fullname, is_staff=staff, source=source)
    if password is not None and source == User.NAS:
        raise ValidationError(NAS_PASSWORD)
    if password is None:
        user.set_unusable_password()
    else:
        check_password_form(password)
        user.set_password(password)
    save_named(user)
    record("user.created", actor=by, subject=user, source=source, staff=staff)
    return user


def save_named(user: User) -> None:
    """Save a user whose name is his own until the transaction ends."""
    user.clean_fields(exclude=["password", "identifier_key"])
    claim(user.identifier, user)
    user.save()


@transaction.atomic
def set_password(user: User, password: str, by: str, keep: Session | None = None) -> None:
    """A new local password. Everything else that is open ends, except the session to `keep`."""
    if user.source == User.NAS:
        raise ValidationError(NAS_PASSWORD)
    check_password_form(password)
    user.set_password(password)
    user.save(update_fields=["password"])
    record("password.set", actor=by, subject=user)
    end_everything(user, "the password was changed", keep)


@transaction.atomic
def edit_user(
    user: User,
    by: str,
    *,
    identifier: str | None = None,
    fullname: str | None = None,
    staff: bool | None = None,
    source: str | None = None,
) -> list[str]:
    """Change what is given; the names of the fields that were other before."""
    wanted = {"identifier": identifier, "fullname": fullname, "is_staff": staff, "source": source}
    changed = [
        name for name, value in wanted.items() if value is not None and value != getattr(user, name)
    ]
    if not changed:
        return []
    for name in changed:
        setattr(user, name, wanted[name])
    if "source" in changed:
        user.set_unusable_password()
        user.nas_uid = None  # the first login with the NAS's password stores it
        NasStanding.objects.filter(user=user).delete()
    save_named(user)
    record("user.edited", actor=by, subject=user, changes={n: wanted[n] for n in changed})
    if "source" in changed:
        end_everything(user, "the account's source was changed")
    return changed


@transaction.atomic
def set_active(user: User, active: bool, by: str) -> bool:
    """Activate or deactivate; whether that was a change."""
    if user.is_active == active:
        return False
    user.is_active = active
    user.save(update_fields=["is_active"])
    record("user.activated" if active else "user.deactivated", actor=by, subject=user)
    if not active:
        end_everything(user, "the account was deactivated")
    return True


def sign_out(user: User, by: str) -> None:
    """End all sessions and tokens of a user."""
    record("user.signed_out", actor=by, subject=user)
    end_everything(user, f"by {by}")


@transaction.atomic
def remove_user(user: User, by: str) -> None:
    end_everything(user, "the account was removed")
    record("user.removed", actor=by, subject=user)
    user.delete()
