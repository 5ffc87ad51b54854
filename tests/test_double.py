"""The double of authentik has the traps that authentik has; what holds in it is worth believing."""

import pickle
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import indent

import pytest
import settings
from authentik.core.models import OLD, Group, Role, User
from blueprint import BlueprintError
from evaluator import PolicyException, PolicyRequest, PolicyResult, evaluate, wrap
from flow import DENIED, DONE, ERROR, Authentik, Browser
from objects import IdentificationStage, PolicyBinding

FLOW = """
version: 1
entries:
  - model: authentik_flows.flow
    id: flow
    identifiers: {slug: login}
    attrs: {name: Login, title: Login, designation: authentication}
  - model: authentik_stages_identification.identificationstage
    id: find
    identifiers: {name: find}
    attrs: {user_fields: [username]}
  - model: authentik_stages_prompt.prompt
    id: field
    identifiers: {name: field}
    attrs: {field_key: password, label: Password, type: password}
  - model: authentik_stages_prompt.promptstage
    id: prompt
    identifiers: {name: prompt}
    attrs: {fields: [!KeyOf field]}
  - model: authentik_stages_deny.denystage
    id: deny
    identifiers: {name: deny}
    attrs: {deny_message: !Context [deny_message, ""]}
  - model: authentik_stages_authenticator_validate.authenticatorvalidatestage
    id: mfa
    identifiers: {name: mfa}
  - model: authentik_stages_user_login.userloginstage
    id: login
    identifiers: {name: login}
  - model: authentik_flows.flowstagebinding
    identifiers: {target: !KeyOf flow, stage: !KeyOf find, order: 10}
  - model: authentik_flows.flowstagebinding
    identifiers: {target: !KeyOf flow, stage: !KeyOf prompt, order: 20}
    attrs: {invalid_response_action: !Context [invalid, retry]}
  - model: authentik_flows.flowstagebinding
    id: deny-binding
    identifiers: {target: !KeyOf flow, stage: !KeyOf deny, order: 30}
  - model: authentik_flows.flowstagebinding
    identifiers: {target: !KeyOf flow, stage: !KeyOf mfa, order: 40}
  - model: authentik_flows.flowstagebinding
    id: login-binding
    identifiers: {target: !KeyOf flow, stage: !KeyOf login, order: 100}
"""
POLICY = """
  - model: authentik_policies_expression.expressionpolicy
    id: {name}
    identifiers: {{name: {name}}}
    attrs:
      expression: |
{text}
"""
BINDING = """
  - model: authentik_policies.policybinding
    identifiers: {{target: {target}, policy: !KeyOf {policy}, order: 0}}
    attrs: {{negate: {negate}, failure_result: {failure_result}}}
"""
RIGHT = """
if request.context["prompt_data"]["password"] == "right":
    request.context["flow_plan"].context["mark"] = request.user.pk
    return True
"""
GUARD = """
context = request.context["flow_plan"].context
return context.get("mark") is not None and context["mark"] == context["pending_user"].pk
"""


def login_flow(
    authentik: Authentik,
    text: str,
    failure_result: bool = False,
    guarded: bool = False,
    **context: object,
) -> None:
    """The flow `login`: whoever fails the policy meets the deny stage; `guarded` puts one on the
    login stage."""
    blueprint = FLOW + POLICY.format(name="password", text=indent(text, " " * 8))
    blueprint += POLICY.format(name="guard", text=indent(GUARD, " " * 8))
    blueprint += BINDING.format(
        target="!KeyOf deny-binding",
        policy="password",
        negate="true",
        failure_result=str(failure_result).lower(),
    )
    if guarded:
        blueprint += BINDING.format(
            target="!KeyOf login-binding", policy="guard", negate="false", failure_result="false"
        )
    authentik.import_blueprint(blueprint, **context)


def validated_by(authentik: Authentik, text: str) -> None:
    """Makes the text the validation policy of the flow's prompt."""
    blueprint = "version: 1\nentries:" + POLICY.format(
        name="validation", text=indent(text, " " * 8)
    )
    blueprint += """
  - model: authentik_stages_prompt.promptstage
    identifiers: {name: prompt}
    attrs: {validation_policies: [!KeyOf validation]}
"""
    authentik.import_blueprint(blueprint)


def log_in(browser: Browser, name: str, password: str) -> str | None:
    browser.start("login")
    browser.submit(uid_field=name)
    browser.submit(password=password)
    return browser.user


@pytest.fixture(scope="module", autouse=True)
def django(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings.setup(tmp_path_factory.mktemp("authentik"))


@pytest.fixture
def authentik() -> Iterator[Authentik]:
    """An install with the user alice, and akadmin, a superuser."""
    settings.reset()
    install = Authentik()
    User.objects.create_user("alice", "alice@example.org", "alice's own")
    admins = Group.objects.create(name="authentik Admins", is_superuser=True)
    admins.users.add(User.objects.create_user("akadmin", password="akadmin's own"))
    yield install
    settings.reset()


BROKEN = {
    "an exception": "raise ValueError('of the policy')",
    "a syntax error": "return (",
    "a missing module": "import no_such_module",
}


class TestTheDenyStage:
    def test_lets_the_right_password_in_and_denies_the_wrong_one(
        self, authentik: Authentik
    ) -> None:
        login_flow(authentik, RIGHT, deny_message="Not you")
        assert log_in(authentik.browser(), "alice", "right") == "alice"
        browser = authentik.browser()
        browser.start("login")
        browser.submit(uid_field="alice")
        page = browser.submit(password="wrong")
        assert (page.component, page.message) == (DENIED, "Not you")
        assert browser.user is None
        assert authentik.signals == []

    def test_says_unknown_error_without_a_message(self, authentik: Authentik) -> None:
        login_flow(authentik, "return False")
        browser = authentik.browser()
        browser.start("login")
        browser.submit(uid_field="alice")
        assert browser.submit(password="wrong").message == "Unknown error"

    def test_denies_everybody_without_a_policy(self, authentik: Authentik) -> None:
        authentik.import_blueprint(FLOW)
        assert log_in(authentik.browser(), "alice", "right") is None

    @pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
    def test_negated_alone_lets_anybody_in_as_akadmin_when_the_policy_breaks(
        self, authentik: Authentik, text: str
    ) -> None:
        login_flow(authentik, text)
        assert log_in(authentik.browser(), "akadmin", "wrong") == "akadmin"
        assert [event.action for event in authentik.events] == ["policy_exception", "login"]

    @pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
    def test_with_failure_result_denies_when_the_policy_breaks_and_shows_why(
        self, authentik: Authentik, text: str
    ) -> None:
        login_flow(authentik, text, failure_result=True)
        browser = authentik.browser()
        assert log_in(browser, "akadmin", "wrong") is None
        assert any(
            text in message
            for message in browser.messages
            for text in ("of the", "never closed", "no_such")
        )

    @pytest.mark.parametrize("fault", ["cache", "cache:password"])
    @pytest.mark.parametrize("failure_result", [False, True])
    def test_lets_anybody_in_as_akadmin_when_the_cache_cannot_be_written(
        self, authentik: Authentik, fault: str, failure_result: bool
    ) -> None:
        login_flow(authentik, RIGHT, failure_result)
        authentik.faults = {fault}
        assert log_in(authentik.browser(), "akadmin", "wrong") == "akadmin"

    def test_lets_anybody_in_when_an_exception_cannot_be_recorded(
        self, authentik: Authentik
    ) -> None:
        login_flow(authentik, "raise ValueError", failure_result=True)
        authentik.faults = {"events"}
        browser = authentik.browser()
        assert log_in(browser, "akadmin", "wrong") == "akadmin"

    @pytest.mark.parametrize("text", [*BROKEN.values(), RIGHT])
    @pytest.mark.parametrize("fault", ["", "cache", "cache:password", "cache:guard", "events"])
    @pytest.mark.parametrize("failure_result", [False, True])
    def test_with_a_guard_on_the_login_stage_lets_no_wrong_person_in(
        self, authentik: Authentik, text: str, fault: str, failure_result: bool
    ) -> None:
        login_flow(authentik, text, failure_result, guarded=True)
        authentik.faults = {fault}
        for name in ("akadmin", "alice", "nobody"):
            assert log_in(authentik.browser(), name, "wrong") is None

    def test_lets_system_exit_through(self, authentik: Authentik) -> None:
        login_flow(authentik, "raise SystemExit")
        with pytest.raises(SystemExit):
            log_in(authentik.browser(), "alice", "right")


class TestThePlan:
    def test_loses_what_is_set_in_the_context_of_the_request(self, authentik: Authentik) -> None:
        login_flow(
            authentik,
            'request.context["pending_user"] = ak_user_by(username="akadmin")\nreturn True',
        )
        assert log_in(authentik.browser(), "alice", "any") == "alice"

    def test_keeps_what_is_set_in_the_context_of_the_plan(self, authentik: Authentik) -> None:
        login_flow(
            authentik,
            'plan = context["flow_plan"]\n'
            'plan.context["pending_user"] = ak_user_by(username="akadmin")\nreturn True',
        )
        assert log_in(authentik.browser(), "alice", "any") == "akadmin"

    def test_holds_an_unsaved_user_of_an_unknown_name_whose_login_is_an_error(
        self, authentik: Authentik
    ) -> None:
        login_flow(authentik, "return request.user.pk is None and request.user.email == 'nobody'")
        browser = authentik.browser()
        browser.start("login")
        browser.submit(uid_field=" nobody ")
        assert browser.submit(password="any").component == ERROR
        assert browser.user is None

    def test_finds_a_user_in_any_case_and_without_the_dot(self, authentik: Authentik) -> None:
        login_flow(authentik, RIGHT)
        assert log_in(authentik.browser(), "AL\u0131CE", "right") == "alice"

    def test_leaves_the_password_in_the_session_after_login_and_after_denial(
        self, authentik: Authentik
    ) -> None:
        login_flow(authentik, "return request.context['prompt_data']['password'] == 'pass-word-1'")
        for password in ("pass-word-1", "pass-word-2"):
            browser = authentik.browser()
            log_in(browser, "alice", password)
            assert password.encode() in browser.session.raw
            assert "authentik/flows/plan" not in browser.session

    def test_is_pickled_between_requests(self, authentik: Authentik) -> None:
        login_flow(authentik, RIGHT)
        browser = authentik.browser()
        browser.start("login")
        browser.submit(uid_field="alice")
        assert (
            browser.session["authentik/flows/plan"] is not browser.session["authentik/flows/plan"]
        )
        assert browser.session["authentik/flows/plan"].context["pending_user"].username == "alice"
        stored = pickle.loads(browser.session.raw)  # noqa: S301  its own
        assert stored["authentik/flows/history"][0].bindings

    def test_asks_for_the_code_of_a_user_with_a_device_only(self, authentik: Authentik) -> None:
        login_flow(authentik, "return True")
        authentik.devices["alice"] = "123456"
        assert log_in(authentik.browser(), "akadmin", "any") == "akadmin"
        browser = authentik.browser()
        assert log_in(browser, "alice", "any") is None
        assert browser.submit(code="000000").errors
        assert browser.submit(code="123456").component == DONE
        assert browser.user == "alice"

    def test_is_not_for_a_deactivated_user(self, authentik: Authentik) -> None:
        login_flow(authentik, "return True")
        browser = authentik.browser()
        assert log_in(browser, "alice", "any") == "alice"
        User.objects.update(is_active=False)
        assert browser.user is None
        assert log_in(authentik.browser(), "alice", "any") is None


class TestThePrompt:
    @pytest.mark.parametrize("at_prompt", [False, True])
    def test_finds_the_plan_in_the_context_or_in_the_session(
        self, authentik: Authentik, at_prompt: bool
    ) -> None:
        login_flow(authentik, "return True")
        validated_by(
            authentik,
            f"""
            assert ("flow_plan" in request.context) is {at_prompt}
            plan = request.context.get("flow_plan") or http_request.session["authentik/flows/plan"]
            plan.context["pending_user"] = ak_user_by(username="akadmin")
            return "prompt_data" not in plan.context
            """,
        )
        authentik.plan_at_prompt = at_prompt
        assert log_in(authentik.browser(), "alice", "any") == "akadmin"

    def test_shows_a_refusal_at_the_form_and_takes_another_answer(
        self, authentik: Authentik
    ) -> None:
        login_flow(authentik, "return True")
        validated_by(
            authentik, "ak_message('Wrong')\nreturn context['prompt_data']['password'] == 'right'"
        )
        browser = authentik.browser()
        browser.start("login")
        browser.submit(uid_field="alice")
        assert browser.submit(password="wrong").errors == ["Wrong"]
        assert browser.submit(password="  ").errors == ["This field may not be blank."]
        assert browser.submit().errors == ["This field is required."]
        assert browser.submit(password=" right ").component == DONE
        assert "Wrong" in browser.messages

    @pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
    @pytest.mark.parametrize("fault", ["", "cache", "events"])
    def test_fails_closed(self, authentik: Authentik, text: str, fault: str) -> None:
        login_flow(authentik, "return True")
        validated_by(authentik, text)
        authentik.faults = {fault}
        assert log_in(authentik.browser(), "alice", "any") is None

    @pytest.mark.parametrize(("keeps_typed", "stored"), [(False, False), (True, True)])
    def test_stores_what_validation_has_left_or_what_was_typed(
        self, authentik: Authentik, keeps_typed: bool, stored: bool
    ) -> None:
        login_flow(authentik, f"return ('password' in context['prompt_data']) is {stored}")
        validated_by(authentik, "return context['prompt_data'].pop('password') == 'right'")
        authentik.plan_keeps_typed = keeps_typed
        assert log_in(authentik.browser(), "alice", "right") == "alice"

    def test_does_not_trim_when_told_so(self, authentik: Authentik) -> None:
        login_flow(authentik, "return context['prompt_data']['password'] == ' right '")
        assert log_in(authentik.browser(), "alice", " right ") is None
        authentik.trims_prompts = False
        assert log_in(authentik.browser(), "alice", " right ") == "alice"

    def test_echoes_the_old_password_after_a_restart_with_context(
        self, authentik: Authentik
    ) -> None:
        login_flow(authentik, "return False", invalid="restart_with_context")
        validated_by(
            authentik,
            """
            plan = http_request.session["authentik/flows/plan"]
            plan.context["prompt_data"] = dict(context["prompt_data"])
            """,
        )
        browser = authentik.browser()
        browser.start("login")
        browser.submit(uid_field="alice")
        assert browser.submit(password="secret").component == "ak-stage-identification"
        assert browser.submit(uid_field="alice").initial == {"password": "secret"}


class TestTheDoorsBeside:
    @pytest.mark.parametrize(("usable", "user"), [(True, None), (False, "akadmin")])
    def test_initial_setup_gives_akadmin_away_when_its_password_is_unusable(
        self, authentik: Authentik, usable: bool, user: str | None
    ) -> None:
        akadmin = User.objects.get(username="akadmin")
        akadmin.set_password("akadmin's own" if usable else None)
        akadmin.save()
        browser = authentik.browser()
        assert (browser.start("initial-setup").component == DENIED) is usable
        if not usable:
            browser.submit(password="mine now", password_repeat="mine now")
            assert User.objects.get(username="akadmin").check_password("mine now")
        assert browser.user == user

    def test_initial_setup_makes_akadmin_where_there_is_none(self, authentik: Authentik) -> None:
        User.objects.filter(username="akadmin").delete()
        browser = authentik.browser()
        browser.start("initial-setup")
        browser.submit(password="mine now", password_repeat="mine now")
        assert browser.user == "akadmin"
        assert User.objects.get(username="akadmin").is_superuser

    def test_the_default_flow_takes_passwords_and_app_passwords_and_signals_failures(
        self, authentik: Authentik
    ) -> None:
        alice = User.objects.get(username="alice")
        authentik.app_passwords["a token"] = alice.pk
        alice.set_unusable_password()
        alice.save()
        browser = authentik.browser()
        browser.start("default-authentication-flow")
        browser.submit(uid_field="alice@example.org")
        assert browser.submit(password="alice's own").errors == ["Invalid password"]
        assert authentik.signals == [{"username": "alice"}]
        browser.submit(password="a token")
        assert browser.user == "alice"

    def test_the_default_flow_asks_for_no_password_when_the_cache_cannot_be_written(
        self, authentik: Authentik
    ) -> None:
        authentik.faults = {"cache"}
        browser = authentik.browser()
        browser.start("default-authentication-flow")
        browser.submit(uid_field="akadmin")
        assert browser.user == "akadmin"

    def test_the_password_change_needs_a_session_and_not_the_old_password(
        self, authentik: Authentik
    ) -> None:
        assert authentik.browser().start("default-password-change").component == DENIED
        browser, other = authentik.browser(), authentik.browser()
        alice = User.objects.get(username="alice")
        other.start("default-password-change", alice)
        browser.start("default-password-change", alice)
        assert browser.submit(password="new one 1", password_repeat="new one 2").errors == [
            "Passwords don't match."
        ]
        browser.submit(password="new one 1", password_repeat="new one 1")
        assert User.objects.get(username="alice").check_password("new one 1")
        assert browser.user == "alice"
        assert other.user is None

    def test_a_reputation_policy_counts_failures_and_logins_of_an_address(
        self, authentik: Authentik
    ) -> None:
        self.reputation(authentik)
        assert log_in(authentik.browser(), "alice", "any") == "alice"
        self.guess(authentik, 7)
        assert authentik.engine.reputation.scores == {
            ("192.0.2.7", "alice"): 1,
            ("192.0.2.7", "akadmin"): -5,
        }
        # one login there, and however many guesses at another name are never refused
        assert log_in(authentik.browser(), "alice", "any") == "alice"
        self.guess(authentik, 5, "192.0.2.8")
        assert log_in(authentik.browser("192.0.2.8"), "alice", "any") is None
        assert log_in(authentik.browser("192.0.2.9"), "alice", "any") == "alice"

    def test_a_reputation_policy_counts_names_that_nobody_has_without_a_password(
        self, authentik: Authentik
    ) -> None:
        self.reputation(authentik)
        for number in range(5):
            browser = authentik.browser()
            browser.start("login")
            browser.submit(uid_field=f"nobody-{number}")
        assert log_in(authentik.browser(), "alice", "any") is None

    def reputation(self, authentik: Authentik) -> None:
        """Refuses, in the place of the password, an address with a score of -5 or less."""
        login_flow(authentik, "return False")
        authentik.import_blueprint("""
version: 1
entries:
  - model: authentik_policies_reputation.reputationpolicy
    id: reputation
    identifiers: {name: reputation}
    attrs: {check_username: false, threshold: -5}
  - model: authentik_policies.policybinding
    identifiers:
      target: !Find [authentik_policies.policybindingmodel, [flowstagebinding__stage__name, deny]]
      policy: !KeyOf reputation
      order: 1
  - model: authentik_policies.policybinding
    state: absent
    identifiers:
      policy: !Find [authentik_policies_expression.expressionpolicy, [name, password]]
""")

    def guess(self, authentik: Authentik, times: int, ip: str = "192.0.2.7") -> None:
        for _ in range(times):
            browser = authentik.browser(ip)
            browser.start("default-authentication-flow")
            browser.submit(uid_field="akadmin")
            browser.submit(password="wrong")


class TestUsersAndGroups:
    def test_the_child_of_a_superuser_group_makes_superusers(self, authentik: Authentik) -> None:
        top = Group.objects.get(name="authentik Admins")
        top.roles.add(Role.objects.create(name="role"))
        child = Group.objects.create(name="child", **{"parent": top} if OLD else {})
        if not OLD:
            child.parents.add(top)
        alice = User.objects.get(username="alice")
        child.users.add(alice)
        assert alice.is_superuser
        assert alice.all_roles().count() == (0 if OLD else 1)
        rows = Group.objects.filter(pk=child.pk)
        present, absent = ("with_children_recursive", "with_ancestors")[:: 1 if OLD else -1]
        assert {group.name for group in getattr(rows, present)()} == {"child", "authentik Admins"}
        assert not hasattr(rows, absent)
        assert {group.name for group in getattr(Group.objects.filter(pk=top.pk), present)()} == {
            "authentik Admins"
        }

    def test_ak_groups_are_deprecated_in_2026_5(self, authentik: Authentik) -> None:
        akadmin = User.objects.get(username="akadmin")
        assert [group.name for group in akadmin.ak_groups.all()] == ["authentik Admins"]
        assert akadmin.groups.count() == (0 if OLD else 1)
        assert [event.action for event in authentik.events] == (
            [] if OLD else ["configuration_warning"]
        )

    def test_four_threads_make_one_user(self, authentik: Authentik) -> None:
        login_flow(
            authentik,
            """
            from django.db import IntegrityError
            from authentik.core.models import User
            try:
                user = User.objects.create_user("new")
            except IntegrityError:
                user = User.objects.get(username="new")
            request.context["flow_plan"].context["pending_user"] = user
            return True
            """,
        )
        with ThreadPoolExecutor(4) as pool:
            users = list(pool.map(lambda _: log_in(authentik.browser(), "new", "any"), range(4)))
        assert users == ["new"] * 4
        assert User.objects.filter(username="new").count() == 1


class TestTheEvaluator:
    def ask(self, text: str) -> PolicyResult:
        return evaluate(
            "policy", text, PolicyRequest(User(username="alice")), lambda *_: PolicyResult(True)
        )

    def test_has_a_session_under_the_name_requests_that_sends_nothing(
        self, authentik: Authentik
    ) -> None:
        assert not self.ask("return hasattr(requests, 'exceptions')").passing
        with pytest.raises(PolicyException, match="authentik's own session"):
            self.ask("requests.get('http://192.0.2.1/')")

    def test_takes_the_answer_by_truth_with_its_messages(self, authentik: Authentik) -> None:
        result = self.ask("ak_message('one')\nak_message('two')\nreturn 'yes'")
        assert (result.passing, result.messages) == (True, ("one", "two"))
        assert not self.ask("context is request.context").passing
        assert self.ask("return context is request.context").passing

    def test_counts_lines_one_higher_than_the_file_of_the_policy(
        self, authentik: Authentik
    ) -> None:
        with pytest.raises(PolicyException) as caught:
            self.ask("one = 1\ntwo = 2\nthree = 1 / 0")
        assert caught.value.__cause__ is not None
        frame = traceback.extract_tb(caught.value.__cause__.__traceback__)[-1]
        assert (frame.filename, frame.lineno) == ("authentik-policy.py", 3 + 1)

    def test_logs_and_records_as_text(self, authentik: Authentik) -> None:
        self.ask(
            "ak_logger.debug('said', who=request.user.username)\nak_create_event('custom', value=1)"
        )
        assert authentik.log[-1] == "debug said logger='policy' who='alice'"
        assert authentik.events[-1].context == {"app": "policy", "value": "1"}

    def test_wraps_a_policy_into_a_module_that_compiles(self, authentik: Authentik) -> None:
        compile(
            wrap((Path(__file__).parents[1] / "authentik-policy.py").read_text()),
            "wrapped.py",
            "exec",
        )


class TestBlueprints:
    def test_change_nothing_the_second_time(self, authentik: Authentik) -> None:
        assert authentik.import_blueprint(FLOW).created == 12
        second = authentik.import_blueprint(FLOW)
        assert (second.created, second.changed, second.removed) == (0, 0, 0)

    @pytest.mark.parametrize(
        "target",
        [
            "!Find [authentik_flows.flow, [slug, login]]",
            "!Find [authentik_flows.flowstagebinding, [target__slug, login], [stage__name, login]]",
        ],
    )
    def test_with_the_wrong_target_of_a_policy_binding_fail_the_second_time_only(
        self, authentik: Authentik, target: str
    ) -> None:
        blueprint = FLOW + POLICY.format(name="guard", text=indent(GUARD, " " * 8))
        blueprint += BINDING.format(
            target=f"{target}", policy="guard", negate="false", failure_result="false"
        )
        authentik.import_blueprint(blueprint)
        with pytest.raises(BlueprintError, match="policy, target, order must make a unique set"):
            authentik.import_blueprint(blueprint)

    @pytest.mark.parametrize(
        "target",
        [
            "!KeyOf login-binding",
            "!Find [authentik_policies.policybindingmodel, [flow__slug, login]]",
            "!Find [authentik_policies.policybindingmodel, "
            "[flowstagebinding__target__slug, login], [flowstagebinding__stage__name, login]]",
        ],
    )
    def test_with_the_right_target_of_a_policy_binding_work_twice(
        self, authentik: Authentik, target: str
    ) -> None:
        blueprint = FLOW + POLICY.format(name="guard", text=indent(GUARD, " " * 8))
        blueprint += BINDING.format(
            target=f"{target}", policy="guard", negate="false", failure_result="false"
        )
        count = len(authentik.store.all(PolicyBinding))
        for _ in range(2):
            authentik.import_blueprint(blueprint)
            assert len(authentik.store.all(PolicyBinding)) == count + 1

    @pytest.mark.parametrize(
        ("entry", "complaint"),
        [
            ("{model: authentik_core.no, identifiers: {name: x}}", "unknown model"),
            (
                "{model: authentik_core.group, identifiers: {name: x}, attrs: {superuser: true}}",
                "unknown attribute",
            ),
            (
                "{model: authentik_stages_deny.denystage, identifiers: {nam: x}}",
                "unknown attribute nam",
            ),
            (
                "{model: authentik_stages_deny.denystage, identifiers: {name: x}, attr: {}}",
                "unknown .*attr",
            ),
            (
                "{model: authentik_flows.flow, identifiers: {slug: x}}",
                "required: designation, name, title",
            ),
            (
                "{model: authentik_stages_prompt.promptstage, identifiers: {name: x}, "
                "attrs: {fields: [a]}}",
                "fields|hexadecimal",
            ),
            (
                "{model: authentik_policies_expression.expressionpolicy, identifiers: {name: x}, "
                "attrs: {expression: !File /no/such/file}}",
                "expression: None does not fit",
            ),
            (
                "{model: authentik_flows.flowstagebinding, identifiers: {order: 1, "
                "target: !Find [authentik_flows.flow, [slug, no]], "
                "stage: !Find [authentik_stages_deny.denystage, [name, no]]}}",
                "target: None does not fit",
            ),
        ],
    )
    def test_that_are_wrong_say_so_and_leave_nothing(
        self, authentik: Authentik, entry: str, complaint: str
    ) -> None:
        rows = len(authentik.store.rows)
        good = "{model: authentik_stages_deny.denystage, identifiers: {name: good}}"
        group = "{model: authentik_core.group, identifiers: {name: good}}"
        with pytest.raises(BlueprintError, match=complaint):
            authentik.import_blueprint(
                f"version: 1\nentries:\n  - {good}\n  - {group}\n  - {entry}\n"
            )
        assert len(authentik.store.rows) == rows
        assert not Group.objects.filter(name="good").exists()

    def test_of_an_identification_stage_name_its_fields_at_each_change(
        self, authentik: Authentik
    ) -> None:
        authentik.import_blueprint(FLOW)
        found = authentik.stages["find"]
        assert isinstance(found, IdentificationStage)
        found.user_fields, found.pretend_user_exists = ["email"], False
        text = """
version: 1
entries:
  - model: authentik_stages_identification.identificationstage
    identifiers: {{name: find}}
    attrs: {{pretend_user_exists: true{more}}}
"""
        with pytest.raises(BlueprintError, match="no user fields are selected"):
            authentik.import_blueprint(text.format(more=""))
        same = ", user_fields: !AtIndex [!FindObject [{}, [name, find]], user_fields]"
        model = "authentik_stages_identification.identificationstage"
        authentik.import_blueprint(text.format(more=same.format(model)))
        assert (found.user_fields, found.pretend_user_exists) == (["email"], True)

    def test_skip_an_entry_by_its_conditions_before_its_tags(self, authentik: Authentik) -> None:
        authentik.import_blueprint("""
version: 1
entries:
  - model: authentik_flows.flowstagebinding
    conditions:
      - !Find [authentik_flows.flow, [slug, no]]
    identifiers: {target: !KeyOf nothing, stage: !KeyOf nothing, order: 1}
""")

    def test_leave_what_is_created_to_the_administrator(self, authentik: Authentik) -> None:
        text = """
version: 1
entries:
  - model: authentik_stages_deny.denystage
    state: {state}
    identifiers: {{name: deny}}
    attrs: {{deny_message: {message}}}
"""
        authentik.import_blueprint(text.format(state="created", message="one"))
        authentik.import_blueprint(text.format(state="created", message="two"))
        assert getattr(authentik.stages["deny"], "deny_message") == "one"  # noqa: B009
        assert authentik.import_blueprint(text.format(state="present", message="two")).changed == 1
        with pytest.raises(BlueprintError, match="exists"):
            authentik.import_blueprint(text.format(state="must_created", message="two"))
        assert authentik.import_blueprint(text.format(state="absent", message="two")).removed == 1
        assert "deny" not in authentik.stages
