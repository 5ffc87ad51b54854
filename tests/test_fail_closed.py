"""An exception at every line of the policies in turn, and the engine's own faults: nobody is ever
logged in wrongly.

The same sweep over the flow as it was first described, a deny stage with `negate` and nothing else,
logs people in: it is what shows that the sweep would see a hole.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

import pytest
from authentik.core.models import User
from etc import right
from evaluator import FILENAME
from flow import DENIED
from logins import POLICY, UGOS, Site, link, user
from objects import PolicyBinding, PromptStage
from secrecy import WRONG
from service import Service


class Sabotage:
    """While it lasts, raises `error` where a policy comes to the line `at`, once; and notes the
    lines that it reaches, in the thread that asks the proxy too."""

    def __init__(self, at: int = 0, error: type[BaseException] = RuntimeError) -> None:
        self.at, self.error = at, error
        self.reached: set[int] = set()

    def __enter__(self) -> Self:
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        sys.settrace(None)
        threading.settrace(None)
        return (
            kind is self.error
        )  # SystemExit passes through the engine, and through a server's request

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename != FILENAME:
            return None
        if event == "line" and frame.f_lineno not in self.reached:
            self.reached.add(frame.f_lineno)
            if frame.f_lineno == self.at:
                raise self.error("injected")
        return self.trace


def deny_binding(site: Site) -> PolicyBinding:
    return next(each for each in site.store.all(PolicyBinding) if each.negate)


def prompt_of(site: Site) -> PromptStage:
    prompt = site.stages["ugos-password-prompt-stage"]
    assert isinstance(prompt, PromptStage)
    return prompt


def by_hand(site: Site) -> None:
    """The flow without the prompt's validation policy: the deny stage asks the proxy."""
    prompt_of(site).validation_policies.clear()


def bare(site: Site) -> None:
    """The flow as the first description has it."""
    by_hand(site)
    deny_binding(site).failure_result = False
    guard = site.policies["ugos-login-guard-policy"].pk
    for binding in [each for each in site.store.all(PolicyBinding) if each.policy == guard]:
        site.store.rows.remove(binding)


def shipped(site: Site) -> None:
    """The flow as it is imported."""


ARRANGEMENTS: dict[str, Callable[[Site], None]] = {"shipped": shipped, "by hand": by_hand}
Attempt = Callable[[], str | None]


@pytest.fixture
def lined(site: Site, nas: Service) -> Iterator[Site]:
    link("jane.doe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda _: None)  # the injected ones
        yield site


def sweep(
    site: Site, attempt: Attempt, error: type[BaseException] = RuntimeError
) -> dict[int, str | None]:
    """Who is logged in after an exception at each line that the attempt reaches."""
    with Sabotage() as undisturbed:
        attempt()
    assert len(undisturbed.reached) > 100
    found: dict[int, str | None] = {}
    for line in sorted(undisturbed.reached):
        with Sabotage(line, error) as sabotage:
            found[line] = None
            # in a generator: else CPython 3.11 may leave an exception behind as handled, which all
            # later ones name
            found[line] = next(attempt() for _ in "1")
        assert line in sabotage.reached
    if not prompt_of(site).validation_policies:
        # there the password is stored before the policy is asked, and an exception in its first
        site.browsers.clear()
    return found  # lines leaves it; in the shipped flow it never is


@pytest.mark.parametrize("name", ["jane.doe", "akadmin", "des"])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_no_line_lets_a_wrong_password_in(lined: Site, arrangement: str, name: str) -> None:
    ARRANGEMENTS[arrangement](lined)
    found = sweep(lined, lambda: lined.try_login(name, WRONG)[0])
    assert set(found.values()) == {None}
    assert not User.objects.filter(username="des").exists()


def test_the_log_names_the_line_of_an_exception(lined: Site) -> None:
    line = 1 + next(
        at
        for at, text in enumerate(POLICY.splitlines(), 1)
        if text.startswith("    nas_name = validate(")
    )
    with Sabotage(line):
        lined.try_login("jane.doe", WRONG)
    assert any(f"RuntimeError in line {line - 1}" in logged for logged in lined.log)


def test_no_line_lets_a_wrong_password_in_where_the_policy_is_ended(lined: Site) -> None:
    assert set(
        sweep(lined, lambda: lined.try_login("jane.doe", WRONG)[0], SystemExit).values()
    ) == {None}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_no_line_makes_a_right_login_that_of_another(lined: Site, arrangement: str) -> None:
    ARRANGEMENTS[arrangement](lined)

    def first_login() -> str | None:
        User.objects.filter(username="des").delete()
        return lined.try_login("des", right("des"))[0]

    found = sweep(lined, first_login)
    assert set(found.values()) <= {None, "des"}
    assert first_login() == "des"
    assert not user("des").has_usable_password()


@pytest.mark.parametrize("name", ["jane.doe", "akadmin"])
def test_the_bare_flow_is_open(lined: Site, name: str) -> None:
    bare(lined)
    assert lined.try_login(name, WRONG)[0] is None  # undisturbed, it looks right
    found = sweep(lined, lambda: lined.try_login(name, WRONG)[0])
    assert name in found.values()


SPOILED = {
    "a syntax error": "return True if",
    "an import that fails": "from authentik.core import no_such_name\nreturn True",
    "an exception": "raise ValueError('spoiled')",
    "nothing": "pass",
    "always yes": "return True",
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("name", ["jane.doe", "akadmin"])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_a_spoiled_password_policy_lets_nobody_in(
    lined: Site, arrangement: str, name: str, how: str
) -> None:
    """Even one that says yes to all: without the mark the guard does not pass."""
    ARRANGEMENTS[arrangement](lined)
    policy: Any = lined.policies["ugos-password-validation-policy"]
    policy.expression = SPOILED[how]
    assert lined.try_login(name, WRONG)[0] is None
    lined.browsers.clear()  # this policy does not take the password out of the session


@pytest.mark.parametrize(
    "how", ["a syntax error", "an import that fails", "an exception", "nothing"]
)
def test_a_spoiled_guard_lets_nobody_in(lined: Site, how: str) -> None:
    policy: Any = lined.policies["ugos-login-guard-policy"]
    policy.expression = SPOILED[how]
    for password in (WRONG, right("jane.doe")):
        assert lined.try_login("jane.doe", password)[0] is None


@pytest.mark.parametrize(
    "faults",
    [{"cache"}, {"events"}, {"cache", "events"}, {"cache:ugos-password-validation-policy"}],
    ids=lambda faults: "+".join(sorted(faults)),
)
@pytest.mark.parametrize("name", ["jane.doe", "akadmin"])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_the_engine_s_own_faults_let_nobody_in(
    lined: Site, arrangement: str, name: str, faults: set[str]
) -> None:
    ARRANGEMENTS[arrangement](lined)
    lined.faults = faults
    assert lined.try_login(name, WRONG)[0] is None
    assert lined.try_login(name, right("jane.doe"))[0] in {None, "jane.doe"}
    lined.faults = set()
    assert lined.try_login("jane.doe", right("jane.doe"))[0] == "jane.doe"


def test_a_bare_flow_is_opened_by_an_engine_s_fault(lined: Site) -> None:
    bare(lined)
    lined.faults = {"cache"}
    assert lined.try_login("akadmin", WRONG)[0] == "akadmin"


@pytest.mark.parametrize("slug", [UGOS, "default-authentication-flow"])
def test_with_a_broken_cache_nobody_gets_in_without_a_password(lined: Site, slug: str) -> None:
    """authentik's own default flow would let anybody in then."""
    lined.faults = {"cache"}
    for name in ("jane.doe", "akadmin", "des"):
        assert lined.try_login(name, WRONG, slug)[0] is None


# --- The mark ------------------------------------------------------------------------------------


def at_second_factor(site: Site) -> Any:
    """A browser that has given the right password of jane.doe, and is asked for the second
    factor."""
    site.devices["jane.doe"] = "123456"
    _, page = site.try_login("jane.doe", right("jane.doe"))
    assert page.component == "ak-stage-authenticator-validate"
    return site.browsers[-1]


def change_plan(browser: Any, **changed: object) -> None:
    session = browser.session
    plan = session["authentik/flows/plan"]
    plan.context.update(changed)
    session["authentik/flows/plan"] = plan
    session.save()


@pytest.mark.parametrize("other", ["akadmin", "des", "pretended"])
def test_a_mark_is_worth_nothing_after_the_pending_user_has_changed(
    lined: Site, other: str
) -> None:
    browser = at_second_factor(lined)
    link("des")
    pending = User.objects.filter(username=other).first() or User(username="jane.doe")
    change_plan(browser, pending_user=pending)
    browser.submit(code="123456")
    browser.submit(code="123456")
    assert browser.user is None


@pytest.mark.parametrize("mark", [None, 0, "", True, "jane.doe"])
def test_a_mark_that_is_missing_or_not_the_user_s_key_passes_nobody(
    lined: Site, mark: object
) -> None:
    for pending in (user("jane.doe"), User(username="jane.doe")):
        browser = at_second_factor(lined)
        change_plan(browser, ugos_auth_proxy_user=mark, pending_user=pending)
        browser.submit(code="123456")
        assert browser.user is None


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("name", ["akadmin", "des"])
def test_the_deny_stage_does_not_take_the_mark_of_another(
    lined: Site, name: str, asked: bool
) -> None:
    link("des")
    browser = lined.browser()
    browser.start(UGOS)
    browser.submit(uid_field=name)
    session = browser.session
    plan = session["authentik/flows/plan"]
    plan.pop()  # as if the prompt had let jane.doe pass, before another user was identified
    marked = {"ugos_auth_proxy_user": user("jane.doe").pk, "ugos_auth_proxy_asked": asked}
    plan.context.update(marked, prompt_data={"password": WRONG})
    session["authentik/flows/plan"] = plan
    session.save()
    assert browser.submit().component == DENIED
    assert browser.user is None


def test_the_deny_stage_does_not_take_a_missing_mark_for_that_of_a_user_without_a_key(
    lined: Site,
) -> None:
    browser = lined.browser()
    browser.start(UGOS)
    browser.submit(uid_field="nobody.here")
    session = browser.session
    plan = session["authentik/flows/plan"]
    plan.pop()  # as if the prompt had asked for nothing
    plan.context.update(ugos_auth_proxy_user=None, ugos_auth_proxy_asked=True)
    session["authentik/flows/plan"] = plan
    session.save()
    browser.submit()
    assert browser.user is None
    assert any(
        "'nobody.here' from 192.0.2.7 is refused: no password was typed" in line
        for line in lined.log
    )


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("name", ["jane.doe", "akadmin"])
def test_after_a_restart_with_context_the_password_is_asked_for_anew(
    lined: Site, arrangement: str, name: str
) -> None:
    ARRANGEMENTS[arrangement](lined)
    for binding in lined.bindings(UGOS):
        binding.invalid_response_action = "restart_with_context"
    browser = at_second_factor(lined)
    page = browser.submit(code="000000")
    assert page.component == "ak-stage-identification"
    browser.submit(uid_field=name)
    browser.submit(password=WRONG)
    browser.submit(code="123456")
    assert browser.user is None
