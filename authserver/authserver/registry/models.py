"""Docker registries, their keys, who may do what in their repositories, and refresh tokens."""

import re

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from authserver.accounts.models import Domain, Group, ServiceUser, User

# distribution's reference grammar: what a repository's name is made of
COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"{COMPONENT}(/{COMPONENT})*")
ACTIONS = ("pull", "push", "delete")


def check_repo_name(name: str) -> None:
    if len(name) > 255 or not REPOSITORY.fullmatch(name.removesuffix("/*")):
        raise ValidationError(
            "A repository is named as family/app, and a namespace as family/*, in lower case."
        )


def check_client_id(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._:/-]{1,150}", text):
        raise ValidationError("A client id has 1 to 150 letters, digits or . _ : / -")


class DockerRegistry(models.Model):
    """A registry that takes tokens from here. Its `client_id` is what it calls its service."""

    name = models.CharField(max_length=150, unique=True)
    client_id = models.CharField(max_length=150, unique=True, validators=[check_client_id])
    domain = models.ForeignKey(
        Domain, on_delete=models.PROTECT, related_name="registries", help_text="The issuer."
    )
    allow_unauthenticated_pull = models.BooleanField(
        default=False, help_text="Anyone may pull from all repositories."
    )
    allow_unauthenticated_push = models.BooleanField(
        default=False, help_text="Anyone may push to all repositories."
    )
    user_namespaces = models.BooleanField(
        default=False, help_text="Each user may do everything below his own name."
    )

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "docker registries"

    def __str__(self) -> str:
        return self.name


class RegistryKey(models.Model):
    """A key of a registry and its certificate; the newest signs, one that `ended_at` did before.

    `bridge`: a certificate of the key by the one before, which leads who trusts only that to it.
    """

    registry = models.ForeignKey(DockerRegistry, on_delete=models.CASCADE, related_name="keys")
    private_key = models.TextField(editable=False)
    certificate = models.TextField(editable=False)
    bridge = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["registry"], condition=Q(ended_at=None), name="registry_signing_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.registry}, {self.created_at:%Y-%m-%d}"


class DockerRepo(models.Model):
    """A repository, or with `/*` all below a namespace, in which somebody has rights."""

    registry = models.ForeignKey(DockerRegistry, on_delete=models.CASCADE, related_name="repos")
    name = models.CharField(max_length=255, validators=[check_repo_name])

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=["registry", "name"], name="repo_name")]

    def __str__(self) -> str:
        return self.name


class RepoRight(models.Model):
    """What one user, one group, or everybody (neither) may do in a repository."""

    repo = models.ForeignKey(DockerRepo, on_delete=models.CASCADE, related_name="rights")
    user = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.CASCADE, related_name="repo_rights"
    )
    group = models.ForeignKey(
        Group, null=True, blank=True, on_delete=models.CASCADE, related_name="repo_rights"
    )
    may_pull = models.BooleanField(default=False)
    may_push = models.BooleanField(default=False)
    may_delete = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user=None) | Q(group=None), name="repo_right_one_holder"
            ),
            models.UniqueConstraint(
                fields=["repo", "user"], condition=Q(group=None), name="repo_right_user"
            ),
            models.UniqueConstraint(
                fields=["repo", "group"], condition=Q(user=None), name="repo_right_group"
            ),
            models.UniqueConstraint(
                fields=["repo"], condition=Q(user=None, group=None), name="repo_right_everybody"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.group or 'everybody'}: {', '.join(sorted(self.actions))}"

    @property
    def actions(self) -> frozenset[str]:
        given = (self.may_pull, self.may_push, self.may_delete)
        return frozenset(action for action, held in zip(ACTIONS, given, strict=True) if held)


class RegistryRefreshToken(models.Model):
    """What `docker login` keeps instead of the password. `digest` is its SHA-256."""

    digest = models.CharField(max_length=64, unique=True, editable=False)
    registry = models.ForeignKey(
        DockerRegistry, on_delete=models.CASCADE, related_name="refresh_tokens"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="registry_tokens")
    service_user = models.ForeignKey(
        ServiceUser, null=True, on_delete=models.CASCADE, related_name="registry_tokens"
    )
    client_id = models.CharField(
        max_length=100, blank=True, help_text="What the program calls itself."
    )
    client = models.CharField(max_length=45, blank=True, help_text="Its address at the login.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used = models.DateTimeField(default=timezone.now, editable=False, db_index=True)

    def __str__(self) -> str:
        return f"{self.user} at {self.registry}"
