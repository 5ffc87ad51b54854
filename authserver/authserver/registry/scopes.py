"""The scopes of the registry protocol: parsed, and met with what an account may do.

The grammar is distribution's (`docs/spec/auth/scope.md`): TYPE[(CLASS)]:NAME:ACTION[,ACTION]...
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from authserver.registry.models import ACTIONS, COMPONENT

HOST = r"[a-zA-Z0-9]+(?:[.-][a-zA-Z0-9]+)*(?::[0-9]+)?"
NAME = rf"(?:{HOST}/)?{COMPONENT}(?:/{COMPONENT})*"
SCOPE = re.compile(
    rf"(?P<type>[a-z0-9]+)(?:\((?P<class>[a-z0-9]+)\))?:(?P<name>{NAME}):"
    r"(?P<actions>(?:[a-z]+|\*)(?:,(?:[a-z]+|\*))*)"
)
LONGEST, MOST = 512, 64  # characters of a scope, and scopes of a request


@dataclass(frozen=True)
class Scope:
    """What is asked for: `actions` of the resource `name`."""

    type: str
    class_: str
    name: str
    actions: tuple[str, ...]


def parse_scopes(texts: Iterable[str]) -> list[Scope]:
    """The scopes of a request, blanks between or repeated; a malformed one is left out.

    Those of one resource are joined, each action once, in the order asked.
    """
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    for text in " ".join(texts).split(" ")[:MOST]:
        match = SCOPE.fullmatch(text) if len(text) <= LONGEST else None
        if match:
            resource = match["type"], match["class"] or "", match["name"]
            found.setdefault(resource, {}).update(dict.fromkeys(match["actions"].split(",")))
    return [Scope(*resource, tuple(actions)) for resource, actions in found.items()]


def meet(scope: Scope, allowed: frozenset[str]) -> list[str]:
    """The actions that are asked for and allowed. `*` asks for all there are of a repository."""
    asked = list(scope.actions)
    if "*" in asked and scope.type == "repository":
        asked = [*(action for action in asked if action != "*"), *ACTIONS]
    return [action for action in dict.fromkeys(asked) if action in allowed]


def access_of(scope: Scope, allowed: frozenset[str]) -> dict[str, Any] | None:
    """The entry of a token's `access` for a scope; None where nothing of it is allowed."""
    actions = meet(scope, allowed)
    if not actions:
        return None
    entry: dict[str, Any] = {"type": scope.type, "name": scope.name, "actions": actions}
    if scope.class_:
        entry["class"] = scope.class_
    return entry
