"""Registries, their repositories, and who has which rights there: made, changed and found.

Each change is in the audit log: `by` is who made it.
"""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import Q

from authserver.accounts.models import Group, User
from authserver.audit.record import record
from authserver.registry import keys
from authserver.registry.models import ACTIONS, DockerRegistry, DockerRepo, RepoRight


def find_registry(selector: str) -> DockerRegistry | None:
    """By its client id or its name."""
    found = DockerRegistry.objects.filter(Q(client_id=selector) | Q(name=selector))
    return found.select_related("domain").first()


@transaction.atomic
def create_registry(by: str, **values: Any) -> DockerRegistry:
    """`values`: fields of DockerRegistry. Raises ValidationError."""
    registry = DockerRegistry(**values)
    registry.full_clean()
    registry.save()
    keys.make_key(registry)
    record("registry.created", actor=by, application=registry)
    return registry


@transaction.atomic
def rotate_key(registry: DockerRegistry, by: str) -> None:
    """A new key signs from now on; both are in the bundle until the old one's tokens have ended."""
    keys.make_key(registry)
    record("registry.key.rotated", actor=by, application=registry)


def remove_registry(registry: DockerRegistry, by: str) -> None:
    record("registry.removed", actor=by, application=registry)
    registry.delete()


def find_repo(registry: DockerRegistry, name: str) -> DockerRepo | None:
    return DockerRepo.objects.filter(registry=registry, name=name).first()


def create_repo(registry: DockerRegistry, name: str, by: str) -> DockerRepo:
    """Raises ValidationError where the name cannot be one, or is taken."""
    repo = DockerRepo(registry=registry, name=name)
    repo.full_clean()
    repo.save()
    record("registry.repo.created", actor=by, application=registry, repo=name)
    return repo


def remove_repo(repo: DockerRepo, by: str) -> None:
    record("registry.repo.removed", actor=by, application=repo.registry, repo=repo.name)
    repo.delete()


@transaction.atomic
def change_rights(
    repo: DockerRepo,
    holder: User | Group | None,
    actions: Iterable[str],
    by: str,
    *,
    allowed: bool,
) -> bool:
    """Grant or revoke actions; `holder` is None for everybody. Whether that was a change."""
    who: dict[str, Any] = {"user": None, "group": None}
    if isinstance(holder, User):
        who["user"] = holder
    elif holder is not None:
        who["group"] = holder
    right, _ = RepoRight.objects.select_for_update().get_or_create(repo=repo, **who)
    before = right.actions
    for action in set(actions) & set(ACTIONS):
        setattr(right, f"may_{action}", allowed)
    if right.actions:
        right.save()
    else:
        right.delete()
    if right.actions == before:
        return False
    kind = "registry.right.granted" if allowed else "registry.right.revoked"
    record(
        kind,
        actor=by,
        subject=holder,
        application=repo.registry,
        repo=repo.name,
        actions=sorted(actions),
    )
    return True


def config_of(registry: DockerRegistry, base_url: str, bundle: str) -> str:
    """The `auth` block of the registry's configuration (distribution, `configuration.md`)."""
    return (
        "auth:\n"
        "  token:\n"
        f"    realm: {base_url}/docker/token/\n"
        f"    service: {registry.client_id}\n"
        f"    issuer: {registry.domain.name}\n"
        f"    rootcertbundle: {bundle}"
    )


def compose_of(registry: DockerRegistry, base_url: str, bundle: str) -> str:
    """The same for a registry in a container: a service of docker-compose.yml."""
    return (
        "services:\n"
        "  registry:\n"
        "    image: registry:2\n"
        "    restart: unless-stopped\n"
        "    ports:\n"
        '      - "127.0.0.1:5000:5000"\n'
        "    environment:\n"
        f"      REGISTRY_AUTH_TOKEN_REALM: {base_url}/docker/token/\n"
        f"      REGISTRY_AUTH_TOKEN_SERVICE: {registry.client_id}\n"
        f"      REGISTRY_AUTH_TOKEN_ISSUER: {registry.domain.name}\n"
        f"      REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE: {bundle}\n"
        "    volumes:\n"
        f"      - ./registry.pem:{bundle}:ro\n"
        "      - ./registry:/var/lib/registry"
    )
