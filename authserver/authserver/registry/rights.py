"""What an account may do in a registry."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from authserver.accounts.models import User
from authserver.registry.models import ACTIONS, REPOSITORY, DockerRegistry, RepoRight
from authserver.registry.scopes import Scope, access_of

EVERYTHING = frozenset(ACTIONS)
NOTHING: frozenset[str] = frozenset()


def names_that_cover(name: str) -> list[str]:
    """The repo that has the name, and the namespaces above it."""
    parts = name.split("/")
    return [name, *("/".join(parts[:at]) + "/*" for at in range(1, len(parts)))]


def holders(user: User | None) -> Q:
    """The rights of everybody, and where there is a user, his own and those of his groups."""
    everybody = Q(user=None, group=None)
    if user is None:
        return everybody
    return everybody | Q(user=user) | Q(group__users=user)


def granted(
    registry: DockerRegistry, user: User | None, names: Iterable[str]
) -> dict[str, frozenset[str]]:
    """By the names of repos: the actions that were granted there."""
    rights = RepoRight.objects.filter(
        holders(user), repo__registry=registry, repo__name__in=set(names)
    )
    return by_name(rights)


def by_name(rights: "QuerySet[RepoRight]") -> dict[str, frozenset[str]]:
    """By the names of repos: the actions that those rights give together."""
    found: dict[str, frozenset[str]] = {}
    for right in rights.select_related("repo"):
        found[right.repo.name] = found.get(right.repo.name, NOTHING) | right.actions
    return found


def for_everybody(registry: DockerRegistry) -> frozenset[str]:
    """What anyone may do in every repository of a registry."""
    given = {
        "pull": registry.allow_unauthenticated_pull,
        "push": registry.allow_unauthenticated_push,
    }
    return frozenset(action for action, held in given.items() if held)


def owns(registry: DockerRegistry, user: User | None, name: str) -> bool:
    """Whether a repository lies below the user's own name."""
    if user is None or not registry.user_namespaces:
        return False
    return name.partition("/")[0] == user.identifier_key and "/" in name


def without_a_grant(
    scope: Scope, registry: DockerRegistry, user: User | None
) -> frozenset[str] | None:
    """The actions that an account may do with the resource of a scope whatever was granted; None
    where that depends on it."""
    administrator = user is not None and user.is_staff
    if scope.type == "registry":
        return frozenset("*") if administrator and scope.name == "catalog" else NOTHING
    if scope.type != "repository":
        return NOTHING
    if administrator or owns(registry, user, scope.name):
        return EVERYTHING
    return None


def access(
    registry: DockerRegistry, user: User | None, scopes: list[Scope]
) -> list[dict[str, Any]]:
    """The `access` of a token: what is asked for and is allowed; `user` is None for anybody."""
    sure = {scope: without_a_grant(scope, registry, user) for scope in scopes}
    open_ = [scope for scope in scopes if sure[scope] is None]
    names = [name for scope in open_ for name in names_that_cover(scope.name)]
    given = granted(registry, user, names) if names else {}
    for scope in open_:
        found = for_everybody(registry)
        for name in names_that_cover(scope.name):
            found |= given.get(name, NOTHING)
        sure[scope] = found
    entries = (access_of(scope, sure[scope] or NOTHING) for scope in scopes)
    return [entry for entry in entries if entry]


@dataclass(frozen=True)
class Place:
    """What a user may do in a registry: in the repositories of those names (`family/*`: in all
    below), and `everywhere`. `login` is the command line that logs him in."""

    registry: DockerRegistry
    login: str
    everywhere: list[str]
    repositories: list[tuple[str, list[str]]]


def places_of(user: User) -> list[Place]:
    """The registries in which a user may do something."""
    found = [place_of(registry, user) for registry in DockerRegistry.objects.all()]
    return [place for place in found if place.everywhere or place.repositories]


def place_of(registry: DockerRegistry, user: User) -> Place:
    everywhere = EVERYTHING if user.is_staff else for_everybody(registry)
    given = by_name(RepoRight.objects.filter(holders(user), repo__registry=registry))
    if registry.user_namespaces and REPOSITORY.fullmatch(user.identifier_key):
        given[f"{user.identifier_key}/*"] = EVERYTHING
    repositories = [
        (name, in_order(actions))
        for name, actions in sorted(given.items())
        if not actions <= everywhere
    ]
    login = f"docker login --username {shlex.quote(user.identifier)} {registry.client_id}"
    return Place(registry, login, in_order(everywhere), repositories)


def in_order(actions: frozenset[str]) -> list[str]:
    return [action for action in ACTIONS if action in actions]
