"""authentik/core/models.py: users, groups and roles, as the version in AUTHENTIK_VERSION has
them."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID, uuid4

import recorder
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import Group as DjangoGroup
from django.db import DataError, models

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import ManyRelatedManager

VERSION = os.environ.get("AUTHENTIK_VERSION", "2026.5")
if VERSION not in {"2025.10", "2026.5"}:
    raise ValueError(f"AUTHENTIK_VERSION is 2025.10 or 2026.5, not {VERSION}")
OLD = VERSION == "2025.10"


class Role(models.Model):
    """A role, which users have through their groups; `permissions` as a blueprint names them."""

    uuid: "models.UUIDField[UUID, UUID]" = models.UUIDField(primary_key=True, default=uuid4)
    name: "models.TextField[str, str]" = models.TextField(unique=True)
    permissions: "models.JSONField[list[str], list[str]]" = models.JSONField(default=list)

    objects: ClassVar[models.Manager["Role"]] = models.Manager()


class GroupQuerySet(models.QuerySet["Group"]):
    """The groups, and the walk to their ancestors: the same, under another name in each version."""

    def _upwards(self) -> models.QuerySet["Group"]:
        found: set[UUID] = set()
        level = set(self.values_list("pk", flat=True))
        while level - found:
            found |= level
            if OLD:
                rows = Group.objects.filter(pk__in=level, parent__isnull=False)
                level = set(rows.values_list("parent", flat=True))
            else:
                level = set(Group.objects.filter(children__in=level).values_list("pk", flat=True))
        return Group.objects.filter(pk__in=found)

    if OLD:

        def with_children_recursive(self) -> models.QuerySet["Group"]:
            """2025.10: despite its name, these groups and their ancestors."""
            return self._upwards()

    else:

        def with_ancestors(self) -> models.QuerySet["Group"]:
            """2026.5: these groups and their ancestors."""
            return self._upwards()


class Group(models.Model):
    """A group; a child of a superuser group makes superusers. 2025.10: one parent, and names unique
    below it only."""

    group_uuid: "models.UUIDField[UUID, UUID]" = models.UUIDField(primary_key=True, default=uuid4)
    name: "models.TextField[str, str]" = models.TextField(unique=not OLD)
    is_superuser: "models.BooleanField[bool, bool]" = models.BooleanField(default=False)
    attributes: "models.JSONField[dict[str, Any], dict[str, Any]]" = models.JSONField(default=dict)
    roles: "models.ManyToManyField[Role, models.Model]" = models.ManyToManyField(
        Role, related_name="groups"
    )

    if OLD:
        parent: "models.ForeignKey[Group | None, Group | None]" = models.ForeignKey(
            "self", null=True, default=None, on_delete=models.SET_NULL, related_name="children"
        )
    else:
        parents: "models.ManyToManyField[Group, models.Model]" = models.ManyToManyField(
            "self", symmetrical=False, related_name="children"
        )

    if TYPE_CHECKING:
        users: ManyRelatedManager["User", models.Model]

    objects: ClassVar[models.Manager["Group"]] = models.Manager.from_queryset(GroupQuerySet)()

    class Meta:
        unique_together = (("name", "parent"),) if OLD else ()

    def __str__(self) -> str:
        return f"Group {self.name}"


class UserManager(BaseUserManager["User"]):
    """Users; create_user hashes the password, and None makes it unusable."""

    def create_user(
        self, username: str, email: str | None = None, password: str | None = None, **extra: object
    ) -> "User":
        user = self.model(
            username=self.model.normalize_username(username),
            email=self.normalize_email(email),
            **extra,
        )
        user.set_password(password)
        user.save(using=self._db)
        return user


class User(AbstractBaseUser):
    """authentik's user. `ak_groups` is the relation to groups in 2025.10 and a deprecated property
    in 2026.5."""

    username: "models.CharField[str, str]" = models.CharField(max_length=150, unique=True)
    uuid: "models.UUIDField[UUID, UUID]" = models.UUIDField(default=uuid4, unique=True)
    name: "models.TextField[str, str]" = models.TextField(blank=True)
    email: "models.EmailField[str, str]" = models.EmailField(blank=True)
    path: "models.TextField[str, str]" = models.TextField(default="users")
    type: "models.TextField[str, str]" = models.TextField(default="internal")
    is_active: "models.BooleanField[bool, bool]" = models.BooleanField(default=True)
    attributes: "models.JSONField[dict[str, Any], dict[str, Any]]" = models.JSONField(
        default=dict, blank=True
    )

    if TYPE_CHECKING or OLD:
        ak_groups: "models.ManyToManyField[Group, models.Model]" = models.ManyToManyField(
            Group, related_name="users"
        )
        groups: "models.ManyToManyField[DjangoGroup, models.Model]" = models.ManyToManyField(
            DjangoGroup
        )
    else:
        groups = models.ManyToManyField(Group, related_name="users")

        @property
        def ak_groups(self):
            """2026.5: deprecated, and says so in the event table."""
            recorder.add_event(
                "configuration_warning", message="User.ak_groups is deprecated, use User.groups"
            )
            return self.groups

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"

    objects: ClassVar[UserManager] = UserManager()

    def save(
        self,
        force_insert: bool | tuple[models.base.ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """PostgreSQL refuses text that is longer than its column; SQLite would not."""
        if len(self.username) > 150 or len(self.email) > 254:
            raise DataError("value too long for type character varying")
        super().save(
            force_insert=force_insert,
            force_update=force_update,
            using=using,
            update_fields=update_fields,
        )

    def __str__(self) -> str:
        return self.username

    def _member_of(self) -> GroupQuerySet:
        return GroupQuerySet(Group).filter(users=self)

    def all_groups(self) -> models.QuerySet[Group]:
        """The groups of the user and all ancestors of them."""
        return self._member_of()._upwards()

    def all_roles(self) -> models.QuerySet[Role]:
        """2026.5: roles come from ancestors as well; 2025.10: from the user's own groups."""
        groups = self._member_of() if OLD else self.all_groups()
        return Role.objects.filter(groups__in=groups).distinct()

    @property
    def is_superuser(self) -> bool:
        """Derived: one of the groups or of their ancestors is a superuser group."""
        return self.all_groups().filter(is_superuser=True).exists()
