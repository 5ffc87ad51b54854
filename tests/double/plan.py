"""flows/planner.py and the session: what a login in progress is, and where it is kept."""

import pickle
from dataclasses import dataclass, field
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.utils.crypto import get_random_string
from objects import FlowStageBinding

SESSION_KEY_PLAN = "authentik/flows/plan"
SESSION_KEY_GET = "authentik/flows/get"
SESSION_KEY_HISTORY = "authentik/flows/history"


@dataclass
class FlowPlan:
    """The stages that are left. `markers` says of each whether its policies are asked again when
    its turn comes."""

    flow_pk: str
    bindings: list[FlowStageBinding] = field(default_factory=list)
    context: dict[str, Any] = field(default_factory=dict)
    markers: list[bool] = field(default_factory=list)

    def append(self, binding: FlowStageBinding, marker: bool) -> None:
        self.bindings.append(binding)
        self.markers.append(marker)

    def pop(self) -> None:
        if self.bindings:
            self.bindings.pop(0)
            self.markers.pop(0)


@dataclass(frozen=True)
class Page:
    """What the browser shows: the component, the errors of the form, the text of a denial, the
    form's defaults."""

    component: str
    errors: list[str] = field(default_factory=list)
    message: str | None = None
    initial: dict[str, str] = field(default_factory=dict)


class Session(SessionBase):
    """Django's database session, pickled as authentik's is: a row per key, written only when it
    counts as modified."""

    def __init__(self, session_key: str | None, rows: dict[str, bytes]) -> None:
        super().__init__(session_key)
        self.rows = rows

    @property
    def raw(self) -> bytes:
        """All stored rows, to be searched for what should not be there."""
        return b"".join(self.rows.values())

    def load(self) -> dict[str, Any]:
        row = self.rows.get(self.session_key or "")
        found: dict[str, Any] = pickle.loads(row) if row else {}  # noqa: S301  its own
        return found

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
            return
        self.rows[self.session_key] = pickle.dumps(dict(self.items()))

    def create(self) -> None:
        self._session_key = get_random_string(32)
        self.save(must_create=True)
        self.modified = True

    def exists(self, session_key: str) -> bool:
        return session_key in self.rows

    def delete(self, session_key: str | None = None) -> None:
        self.rows.pop(session_key or self.session_key or "", None)
