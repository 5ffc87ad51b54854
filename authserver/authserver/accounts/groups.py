"""Groups, permissions, and who has them. Each change is in the audit log: `by` is who made it."""

from collections.abc import Iterable

from django.core.exceptions import ValidationError

from authserver.accounts.models import Group, Permission, User
from authserver.audit.record import record


def create_group(name: str, by: str) -> Group:
    """Raises ValidationError where the name cannot be one, or is taken."""
    group = Group(name=name)
    group.full_clean()
    if not name.isprintable() or name != name.strip():
        raise ValidationError("A group's name has no control characters, and no blanks around it.")
    group.save()
    record("group.created", actor=by, subject=group)
    return group


def remove_group(group: Group, by: str) -> None:
    record("group.removed", actor=by, subject=group)
    group.delete()


def create_permission(permission_name: str, label: str, by: str) -> Permission:
    """Raises ValidationError where the name cannot be a scope, or is taken."""
    permission = Permission(permission_name=permission_name, name=label)
    permission.full_clean()
    permission.save()
    record("permission.created", actor=by, subject=permission)
    return permission


def remove_permission(permission: Permission, by: str) -> None:
    record("permission.removed", actor=by, subject=permission)
    permission.delete()


def grant(holder: User | Group, permissions: Iterable[Permission], by: str) -> list[Permission]:
    """Give permissions; those that the holder had not yet."""
    has = set(holder.permissions.all())
    new = [permission for permission in permissions if permission not in has]
    holder.permissions.add(*new)
    if new:
        record("permission.granted", actor=by, subject=holder, permissions=list(map(str, new)))
    return new


def revoke(holder: User | Group, permissions: Iterable[Permission], by: str) -> list[Permission]:
    """Take permissions away; those that the holder had."""
    has = set(holder.permissions.all())
    lost = [permission for permission in permissions if permission in has]
    holder.permissions.remove(*lost)
    if lost:
        record("permission.revoked", actor=by, subject=holder, permissions=list(map(str, lost)))
    return lost


def join(user: User, groups: Iterable[Group], by: str) -> list[Group]:
    """Make a user a member; of which groups it is new."""
    has = set(user.groups.all())
    new = [group for group in groups if group not in has]
    user.groups.add(*new)
    if new:
        record("membership.granted", actor=by, subject=user, groups=list(map(str, new)))
    return new


def leave(user: User, groups: Iterable[Group], by: str) -> list[Group]:
    """End memberships; which there were."""
    has = set(user.groups.all())
    lost = [group for group in groups if group in has]
    user.groups.remove(*lost)
    if lost:
        record("membership.revoked", actor=by, subject=user, groups=list(map(str, lost)))
    return lost
