"""What a token grants is what was asked and is allowed, for arbitrary scopes and rights."""

from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from authserver.accounts.models import Domain, Group, User
from authserver.registry import rights
from authserver.registry.models import ACTIONS, DockerRegistry, DockerRepo, RepoRight
from authserver.registry.scopes import parse_scopes

pytestmark = pytest.mark.django_db

PARTS = st.sampled_from(["a", "maria"])  # few, so that they meet
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
REPOS = st.one_of(NAMES, NAMES.map("{}/*".format))
HOLDERS = st.sampled_from(["maria", "paul", "family", "others", "everybody"])
SCOPE_ACTIONS = st.lists(st.sampled_from([*ACTIONS, "*", "write"]), min_size=1).map(",".join)
TYPES = st.sampled_from([*["repository"] * 5, "repository(plugin)", "registry", "other"])
SCOPE_NAMES = st.one_of(NAMES, NAMES, NAMES, st.just("catalog"))
WELL_FORMED = st.tuples(TYPES, SCOPE_NAMES, SCOPE_ACTIONS).map(":".join)
SCOPES = st.one_of(WELL_FORMED, WELL_FORMED, WELL_FORMED, st.text(max_size=20))


@dataclass(frozen=True)
class Right:
    repo: str
    holder: str
    actions: frozenset[str]


RIGHTS = st.builds(
    Right, REPOS, HOLDERS, st.sets(st.sampled_from(ACTIONS), min_size=1).map(frozenset)
)
NAMESPACE = Right("a/*", "everybody", frozenset(["pull"]))
CLOSED = dict.fromkeys(
    ("allow_unauthenticated_pull", "allow_unauthenticated_push", "user_namespaces"), False
)
FLAGS = st.fixed_dictionaries(dict.fromkeys(CLOSED, st.booleans()))


def covers(repo: str, name: str) -> bool:
    if repo.endswith("/*"):
        return name.startswith(repo[:-1])
    return repo == name


def may(who: str, name: str, action: str, held: list[Right], flags: dict[str, bool]) -> bool:
    """What section 8 of the contract says, said once more: maria is in family, ada administers."""
    if who == "ada":
        return True
    if who and flags["user_namespaces"] and name.startswith(f"{who}/"):
        return True
    if action in ("pull", "push") and flags[f"allow_unauthenticated_{action}"]:
        return True
    mine = {"everybody", who} | ({"family"} if who == "maria" else set())
    return any(
        right.holder in mine and action in right.actions and covers(right.repo, name)
        for right in held
    )


def expected(
    who: str, texts: list[str], held: list[Right], flags: dict[str, bool]
) -> dict[tuple[str, str, str], set[str]]:
    found: dict[tuple[str, str, str], set[str]] = {}
    for scope in parse_scopes(texts):
        if scope.type == "repository":
            asked = set(ACTIONS) if "*" in scope.actions else set(scope.actions) & set(ACTIONS)
            granted = {each for each in asked if may(who, scope.name, each, held, flags)}
        else:
            catalogue = (scope.type, scope.name) == ("registry", "catalog") and who == "ada"
            granted = {"*"} if catalogue and "*" in scope.actions else set()
        if granted:
            found[scope.type, scope.class_, scope.name] = granted
    return found


def make(held: list[Right], flags: dict[str, bool]) -> DockerRegistry:
    """The rights as rows; those of one holder in one repository are joined."""
    domain = Domain.objects.create(name="example.org")
    registry = DockerRegistry.objects.create(name="R", client_id="r", domain=domain, **flags)
    other = DockerRegistry.objects.create(name="Other", client_id="o", domain=domain)
    for right in held:
        repo, _ = DockerRepo.objects.get_or_create(registry=registry, name=right.repo)
        who: dict[str, Any] = {"user": None, "group": None}
        if right.holder in ("maria", "paul"):
            who["user"] = User.objects.get(identifier=right.holder)
        elif right.holder != "everybody":
            who["group"] = Group.objects.get(name=right.holder)
        row, _ = RepoRight.objects.get_or_create(repo=repo, **who)
        for action in right.actions:
            setattr(row, f"may_{action}", True)
        row.save()
    everything = DockerRepo.objects.create(registry=other, name="a/*")  # elsewhere
    RepoRight.objects.create(repo=everything, may_pull=True, may_push=True, may_delete=True)
    return registry


def test_no_more_than_asked_no_more_than_allowed_and_no_less() -> None:
    family = Group.objects.create(name="family")
    Group.objects.create(name="others")
    for name in ("maria", "paul", "ada"):
        user = User.objects.create(identifier=name, is_staff=name == "ada")
        if name == "maria":
            user.groups.add(family)

    @given(
        st.sampled_from(["", "maria", "paul", "ada"]),
        st.lists(SCOPES, min_size=1, max_size=10),
        st.lists(RIGHTS, max_size=5),
        FLAGS,
    )
    @example("maria", ["repository:a:pull"], [NAMESPACE], CLOSED)  # it is not below itself
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(who: str, texts: list[str], held: list[Right], flags: dict[str, bool]) -> None:
        with transaction.atomic():
            registry = make(held, flags)
            user = User.objects.get(identifier=who) if who else None
            entries = rights.access(registry, user, parse_scopes(texts))
            transaction.set_rollback(True)
        found = {
            (each["type"], each.get("class", ""), each["name"]): set(each["actions"])
            for each in entries
        }
        assert len(found) == len(entries)
        assert found == expected(who, texts, held, flags)

    check()
