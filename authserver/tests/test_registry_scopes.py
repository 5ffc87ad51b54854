"""Scopes of the registry protocol: what is granted is never more than asked nor than allowed."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authserver.registry.scopes import Scope, access_of, meet, parse_scopes


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("repository:app:pull", Scope("repository", "", "app", ("pull",))),
        ("repository:a/b-c/d__e.f:push", Scope("repository", "", "a/b-c/d__e.f", ("push",))),
        ("repository(plugin):a/b:pull", Scope("repository", "plugin", "a/b", ("pull",))),
        ("repository:host.io:5000/a:pull", Scope("repository", "", "host.io:5000/a", ("pull",))),
        ("registry:catalog:*", Scope("registry", "", "catalog", ("*",))),
        ("repository:x:*", Scope("repository", "", "x", ("*",))),
    ],
)  # fmt: skip
def test_a_scope_is_read_by_the_grammar(text: str, scope: Scope) -> None:
    assert parse_scopes([text]) == [scope]


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "repository", "repository:app", "repository::pull", "repository:app:",
        "repository:App:pull", "repository:a//b:pull", "repository:/a:pull", "repository:a/:pull",
        "repository:a/*:pull", "repository:..:pull", "repository:a/../b:pull", "repository:a:PULL",
        "repository:a:pull,", "repository:a:,pull", "repository:a:pull,,push", "REPOSITORY:a:pull",
        "repository(:a:pull", "repository():a:pull", "repository:a:pull\n", "repository:é:pull",
        "repository:a:pull;push", f"repository:{'a' * 600}:pull",
    ],
)  # fmt: skip
def test_a_malformed_scope_is_left_out(text: str) -> None:
    assert parse_scopes([text, "repository:app:pull"]) == [
        Scope("repository", "", "app", ("pull",))
    ]


def test_scopes_may_be_repeated_or_have_blanks_between() -> None:
    names = ["a", "b", "c"]
    texts = [f"repository:{name}:pull" for name in names]
    assert (
        parse_scopes(texts)
        == parse_scopes([" ".join(texts)])
        == parse_scopes([texts[0], "  ".join(texts[1:])])
    )


def test_scopes_of_one_resource_are_joined() -> None:
    found = parse_scopes(["repository:a:pull", "repository:a:push,pull"])
    assert found == [Scope("repository", "", "a", ("pull", "push"))]


def test_a_request_has_a_bounded_number_of_scopes() -> None:
    assert len(parse_scopes([f"repository:a{n}:pull" for n in range(10_000)])) == 64


def test_the_class_of_a_resource_comes_back() -> None:
    entry = access_of(Scope("repository", "plugin", "a", ("pull",)), frozenset({"pull"}))
    assert entry == {"type": "repository", "class": "plugin", "name": "a", "actions": ["pull"]}


# nothing depends on the machine being fast
AT_LEISURE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ACTIONS = st.sampled_from(["pull", "push", "delete", "*", "write", "x"])


@given(
    st.sampled_from(["repository", "registry", "other"]),
    st.lists(ACTIONS, min_size=1),
    st.frozensets(ACTIONS),
)
@AT_LEISURE
def test_no_more_than_asked_and_no_more_than_allowed(
    kind: str, asked: list[str], allowed: frozenset[str]
) -> None:
    found = meet(Scope(kind, "", "a", tuple(asked)), allowed)
    assert set(found) <= allowed
    everything = {"pull", "push", "delete"} if kind == "repository" and "*" in asked else set()
    assert set(found) <= set(asked) | everything
    assert len(found) == len(set(found))


@given(st.lists(st.text(max_size=80), max_size=5))
@AT_LEISURE
def test_no_text_is_read_as_something_else(texts: list[str]) -> None:
    for scope in parse_scopes(texts):
        kind = f"{scope.type}({scope.class_})" if scope.class_ else scope.type
        joined = " ".join(texts)
        assert f"{kind}:{scope.name}:" in joined
        assert all(action in joined for action in scope.actions)
