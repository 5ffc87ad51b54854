"""authentik-sync.py: whatever is answered, in whatever order, nobody is touched whom it must
not."""

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logins import AKADMINS
from syncing import load

program = load()
Answer, PassError = program.Answer, program.PassError
DATA = st.data()
NAMES = st.sampled_from([*AKADMINS, "alice", "bob", "Ünï cödé", "a/b", "akadmin2", "admin"])
MARKS = st.sampled_from([True, True, True, False, None, "true", 1])
ATTRIBUTES = st.fixed_dictionaries(
    {"theme": st.just("dark")},
    optional={
        "ugos_user": MARKS,
        "ugos_locked": MARKS,
        "ugos_uid": st.sampled_from([1000, "1000", 1001, None]),
    },
)
USER = st.fixed_dictionaries(
    {"username": NAMES, "is_active": st.booleans(), "attributes": ATTRIBUTES}
)
ACCOUNT = {"exists": True, "uid": 1000, "active": True}
VERDICTS = st.sampled_from(
    [
        (200, ACCOUNT),
        (200, {**ACCOUNT, "active": False}),
        (200, {**ACCOUNT, "uid": 1001}),
        (200, {"exists": False}),
        (200, {**ACCOUNT, "active": None}),
        (200, {"exists": "false"}),
        (503, {"exists": False}),
        (401, {}),
    ]
)
FAULTS = st.sampled_from([0, 404, 429, 500, 403])


class Fake:
    """A service; `answer` says what it answers, status 0 for no answer at all."""

    def __init__(self, name: str, answer: Callable[[str, str, Any], tuple[int, Any]]) -> None:
        self.name, self.until, self.answer = name, 0.0, answer

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        status, found = self.answer(method, path, content)
        if status in {0, 401, 403}:
            raise PassError(self.name)
        return Answer(status, None, found if isinstance(found, dict) else {})

    def stop(self, reason: str, wait: int | None = None) -> Exception:
        error: Exception = PassError(reason, wait)
        return error

    def close(self) -> None:
        pass


class World:
    """authentik's users and the NAS, which answer what `draw` draws."""

    def __init__(self, users: list[dict[str, Any]], draw: Callable[[Any], Any]) -> None:
        self.users = {pk: {"pk": pk, **user} for pk, user in enumerate(users, 1)}
        self.draw = draw
        self.verdicts: dict[str, tuple[int, Any]] = {}
        self.questions = 0
        self.fault_at = 0
        self.sessions = dict(zip(map(str, itertools.count()), self.users, strict=False))
        self.changes = 0

    def next_pass(self) -> None:
        """Some answers of it may be other ones, and one question may have none, or a bad one."""
        self.fault_at = self.questions + self.draw(st.integers(1, 60))
        for name in {user["username"] for user in self.users.values()}:
            if name not in self.verdicts or self.draw(st.booleans()):
                self.verdicts[name] = self.draw(VERDICTS)

    def status(self) -> int:
        self.questions += 1
        fault: int = self.draw(FAULTS) if self.questions == self.fault_at else 200
        return fault

    def may_be_changed(self, user: dict[str, Any]) -> bool:
        """What must hold of whom it touches, told without its own code."""
        attributes = user["attributes"]
        return (
            attributes.get("ugos_user") is True
            and user["username"] not in AKADMINS
            and (user["is_active"] or attributes.get("ugos_locked") is True)
        )

    def nas(self, method: str, path: str, content: Any) -> tuple[int, Any]:
        url = urlsplit(path)
        if url.path == "/ready":
            return self.status(), {"status": "ready"}
        name = parse_qs(url.query)["username"][0]
        if self.status() != 200:  # another answer than at the first look
            self.verdicts[name] = self.draw(VERDICTS)
        status, account = self.verdicts[name]
        return status, {"username": name, **account}

    def authentik(self, method: str, path: str, content: Any) -> tuple[int, Any]:
        url = urlsplit(path)
        kind, _, key = url.path.removeprefix("/api/v3/core/").rstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        status = self.status()
        if status != 200:
            return status, {}
        if kind == "users":
            return self.change(method, int(key), content) if key else self.page(query)
        if kind == "tokens":
            return 200, {"results": []}
        if not key:
            rows = [
                {"uuid": uuid, "user": pk}
                for uuid, pk in self.sessions.items()
                if self.users[pk]["username"] == query["user__username"]
            ]
            return 200, {"results": rows}
        assert method == "DELETE"
        assert self.may_be_changed(self.users[self.sessions.pop(unquote(key))])
        self.changes += 1
        return 204, None

    def page(self, query: dict[str, str]) -> tuple[int, Any]:
        """Three a page, and, where it is drawn so, without regard to the filter."""
        wanted = json.loads(query["attributes"])
        ignored = self.fault_at % 2 == 1
        rows = [
            user
            for user in self.users.values()
            if ignored or wanted.items() <= user["attributes"].items()
        ]
        number = int(query["page"])
        shown = copy.deepcopy(rows[3 * number - 3 : 3 * number])
        following = number + 1 if len(rows) > 3 * number else 0
        return 200, {"results": shown, "pagination": {"next": following}}

    def change(self, method: str, pk: int, content: Any) -> tuple[int, Any]:
        user = self.users[pk]
        if method == "PATCH":
            self.changes += 1
            assert self.may_be_changed(user)
            told, verdict = self.verdicts[user["username"]]
            assert told == 200
            kept = [
                {key: value for key, value in attributes.items() if key != "ugos_locked"}
                for attributes in (user["attributes"], content["attributes"])
            ]
            assert kept[0] == kept[1]
            uid = user["attributes"].get("ugos_uid")
            same = verdict.get("uid") == 1000 and (uid is None or str(uid) == "1000")
            other = verdict.get("uid") == 1001 and (uid is None or str(uid) == "1001")
            good = verdict.get("active") is True and (same or other)
            assert content["is_active"] is good
            assert content["attributes"].get("ugos_locked") is (None if good else True)
            user |= copy.deepcopy(content)
        return 200, copy.deepcopy(user)


def run_passes(data: Any, users: list[dict[str, Any]], forced: bool) -> World:
    unique = list({user["username"]: user for user in users}.values())
    world = World(copy.deepcopy(unique), data.draw)
    environ = {"AUTHENTIK_URL": "http://127.0.0.1:9", "AUTHENTIK_TOKEN": "x" * 16}
    sync = program.Sync(program.Settings(environ))
    sync.proxy, sync.authentik = Fake("nas", world.nas), Fake("authentik", world.authentik)
    for _ in range(4):
        world.next_pass()
        try:
            sync.run(forced)
        except PassError:
            pass
        if users and data.draw(st.booleans()):  # an administrator changes somebody meanwhile
            user = world.users[data.draw(st.sampled_from(sorted(world.users)))]
            user["is_active"] = data.draw(st.booleans())
            user["attributes"] = data.draw(ATTRIBUTES)
    return world


SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "log", lambda *_, **__: None)
    monkeypatch.setattr(program, "told_to_end", lambda _: False)


@given(data=DATA, users=st.lists(USER, max_size=8), forced=st.booleans())
@SETTINGS
def test_no_sequence_of_answers_touches_whom_it_must_not(
    data: Any, users: list[dict[str, Any]], forced: bool
) -> None:
    """A user without the attribute, `akadmin`, one that an administrator deactivated: the worlds
    above fail at a change of such a one, and at one that no verdict asks for."""
    run_passes(data, users, forced)


def test_the_worlds_see_changes() -> None:
    """Without this the property above would show nothing."""
    changed: list[int] = []

    @given(data=DATA, users=st.lists(USER, min_size=3, max_size=8))
    @SETTINGS
    def count(data: Any, users: list[dict[str, Any]]) -> None:
        changed.append(run_passes(data, users, True).changes)

    count()
    assert sum(changes > 0 for changes in changed) >= 5  # of 200; by chance 13 to 32


@given(locks=st.integers(0, 50), more=st.integers(0, 100))
def test_the_brake_lets_through_few_locks_only(locks: int, more: int) -> None:
    users = locks + more
    braked = (users >= 2 and more == 0) or (locks > 3 and locks > users / 3)
    try:
        program.need_no_brake(locks, users)
    except PassError:
        assert braked
    else:
        assert not braked
