"""authentik/authentik-blueprint.yaml: what one import sets up, and the doors around the flow that
it closes."""

import re
import subprocess
import sys
from typing import Any

import pytest
from authentik.core.models import Group, User
from etc import right
from flow import DENIED, DONE, Authentik
from logins import BLUEPRINT, DEFAULT, POLICY, UGOS, Site, link, user
from objects import FlowStageBinding, PolicyBinding
from secrecy import keep_secret
from service import ROOT, Service

import main

CHANGE = "default-password-change"


def test_it_holds_the_policy_as_it_is(site: Site) -> None:
    policy: Any = site.policies["ugos-password-validation-policy"]
    assert policy.expression == POLICY
    checked = subprocess.run(
        [sys.executable, ROOT / "tools/write_blueprint.py", "--check"], check=False
    )
    assert checked.returncode == 0


def test_the_policy_has_the_version_of_the_service() -> None:
    assert re.findall('^VERSION = "(.*)"$', POLICY, re.MULTILINE) == [main.__version__]


def test_the_stages_stand_in_the_order_of_the_readme(site: Site) -> None:
    names = {stage.pk: stage.name for stage in site.stages.values()}
    assert [(each.order, names[each.stage]) for each in site.bindings(UGOS)] == [
        (10, "ugos-find-user-stage"),
        (20, "ugos-password-prompt-stage"),
        (25, "ugos-password-deny-stage"),
        (50, "ugos-second-factor-stage"),
        (100, "ugos-user-login-stage"),
    ]
    assert all(
        each.re_evaluate_policies and not each.evaluate_on_plan for each in site.bindings(UGOS)
    )
    assert set(Group.objects.values_list("name", flat=True)) >= {"UGOS Users", "admins", "family"}


def test_it_does_not_switch_the_default_flow(site: Site) -> None:
    assert "authentik_brands" not in BLUEPRINT


def test_importing_it_again_changes_nothing(site: Site) -> None:
    before = repr(site.store.rows)
    applied = site.import_blueprint(BLUEPRINT)
    assert (applied.created, applied.changed, applied.removed) == (0, 0, 0)
    assert repr(site.store.rows) == before


def test_importing_a_newer_one_replaces_the_policies_and_what_keeps_the_flow_closed(
    site: Site,
) -> None:
    for policy in site.policies.values():
        if policy.name.startswith("ugos-"):
            policy.expression = "return True"  # type: ignore[attr-defined]
    deny = next(each for each in site.store.all(PolicyBinding) if each.negate)
    deny.negate = deny.failure_result = False
    prompt: Any = site.stages["ugos-password-prompt-stage"]
    prompt.validation_policies = []
    for binding in site.store.all(FlowStageBinding):
        binding.evaluate_on_plan, binding.re_evaluate_policies = True, False
    site.import_blueprint(BLUEPRINT)
    fresh = Authentik()
    fresh.import_blueprint(BLUEPRINT)

    def told(authentik: Authentik) -> list[Any]:
        policies = {policy.pk: policy.name for policy in authentik.policies.values()}
        bound = authentik.store.all(PolicyBinding)
        rows = [
            (each.policy and policies[each.policy], each.negate, each.failure_result)
            for each in bound
        ]
        stages = [
            (each.order, each.evaluate_on_plan, each.re_evaluate_policies)
            for each in authentik.bindings(UGOS)
        ]
        texts = [getattr(policy, "expression", "") for policy in authentik.policies.values()]
        return [rows, stages, texts]

    assert told(site) == told(fresh)
    assert len(prompt.validation_policies) == 1


def test_importing_a_newer_one_keeps_what_the_administrator_made_of_it(site: Site) -> None:
    find: Any = site.stages["ugos-find-user-stage"]
    find.user_fields = ["username", "email"]
    site.flows[UGOS].title = "Willkommen"
    deny: Any = site.stages["ugos-password-deny-stage"]
    deny.deny_message = "Nein."
    Group.objects.filter(name="admins").update(attributes={"quota": 5})
    site.import_blueprint(BLUEPRINT)
    assert find.user_fields == ["username", "email"]
    assert site.flows[UGOS].title == "Willkommen"
    assert deny.deny_message == "Nein."
    assert Group.objects.get(name="admins").attributes == {"quota": 5}


def test_a_second_factor_that_was_moved_stays_there_alone_and_is_mended(site: Site) -> None:
    stage = site.stages["ugos-second-factor-stage"].pk
    moved = next(each for each in site.bindings(UGOS) if each.stage == stage)
    moved.order, moved.evaluate_on_plan, moved.re_evaluate_policies = 55, True, False
    site.import_blueprint(BLUEPRINT)
    found = [each for each in site.bindings(UGOS) if each.stage == stage]
    assert [each.order for each in found] == [55]
    assert (moved.evaluate_on_plan, moved.re_evaluate_policies) == (False, True)


def test_each_import_lets_unknown_names_go_on_to_the_password(site: Site, nas: Service) -> None:
    find: Any = site.stages["ugos-find-user-stage"]
    find.user_fields, find.sources, find.pretend_user_exists = ["email"], ["a-source"], False
    assert site.try_login("des", right("des"))[0] is None
    site.import_blueprint(BLUEPRINT)
    assert (find.user_fields, find.sources) == (["email"], ["a-source"])
    assert site.lets_in("des", right("des")) == "des"


def test_it_mends_a_flow_that_was_built_by_hand(site: Site) -> None:
    """With the names of the first description: its deny stage bound with `negate` alone."""
    other = Authentik()
    end = BLUEPRINT.index("  # who passes")
    bare = BLUEPRINT[:end].replace(
        "      validation_policies:\n        - !KeyOf password-policy\n", ""
    )
    bare += """
  - model: authentik_policies.policybinding
    identifiers: {target: !KeyOf password-deny-binding, policy: !KeyOf password-policy, order: 0}
    attrs: {negate: true}
"""
    other.import_blueprint(bare)
    assert not any(each.failure_result for each in other.store.all(PolicyBinding) if each.negate)
    other.import_blueprint(BLUEPRINT)
    assert all(each.failure_result for each in other.store.all(PolicyBinding) if each.negate)
    assert len([each for each in other.store.all(PolicyBinding) if each.negate]) == 1


@pytest.mark.parametrize("missing", [[DEFAULT], [CHANGE], [DEFAULT, CHANGE]])
def test_where_a_default_flow_is_missing_the_rest_is_set_up(missing: list[str]) -> None:
    authentik = Authentik()
    for slug in missing:
        flow = authentik.flows[slug]
        gone = {flow.pbm_uuid} | {binding.pbm_uuid for binding in authentik.bindings(slug)}
        for binding in authentik.bindings(slug):
            authentik.store.rows.remove(binding)
        authentik.store.rows.remove(flow)
        for bound in [each for each in authentik.store.all(PolicyBinding) if each.target in gone]:
            authentik.store.rows.remove(bound)
    authentik.import_blueprint(BLUEPRINT)
    applied = authentik.import_blueprint(BLUEPRINT)
    assert (applied.created, applied.changed) == (0, 0)
    assert UGOS in authentik.flows


# --- Second doors --------------------------------------------------------------------------------


def test_a_nas_user_cannot_set_a_password_in_authentik(site: Site) -> None:
    jane = link("jane.doe")
    browser = site.browser()
    page = browser.start(CHANGE, jane)
    assert page.component == DENIED
    assert page.message == "Your password is the one of your NAS account. Change it in UGOS."
    assert not user("jane.doe").has_usable_password()


@pytest.mark.parametrize("strong", [True, False])
def test_an_open_form_of_a_nas_user_writes_nothing(site: Site, strong: bool) -> None:
    """The form was opened before the user was linked, or the deny stage was skipped by a fault."""
    jane = User.objects.create_user("jane.doe", "jane@example.com", None)
    browser = site.browser()
    assert browser.start(CHANGE, jane).component == "ak-stage-prompt"
    link_now = {"ugos_user": True}
    User.objects.filter(pk=jane.pk).update(attributes=link_now)
    password = keep_secret("Second-Door-2026" if strong else "short12")
    browser.submit(password=password, password_repeat=password)
    assert not user("jane.doe").has_usable_password()
    site.browsers.clear()  # authentik's own flow leaves what was typed in the session


def test_a_form_that_was_opened_before_the_user_was_linked_does_not_undo_the_link(
    site: Site,
) -> None:
    """The settings page puts the user into the plan as it is then."""
    jane = User.objects.create_user("jane.doe", "jane@example.com", None)
    browser = site.browser()
    browser.start(CHANGE, jane)
    session = browser.session
    plan = session["authentik/flows/plan"]
    plan.context["pending_user"] = jane
    session["authentik/flows/plan"] = plan
    session.save()
    User.objects.filter(pk=jane.pk).update(attributes={"ugos_user": True})
    password = keep_secret("Second-Door-2026")
    browser.submit(password=password, password_repeat=password)
    assert user("jane.doe").attributes == {"ugos_user": True}
    assert not user("jane.doe").has_usable_password()
    site.browsers.clear()  # authentik's own flow leaves what was typed in the session


@pytest.mark.parametrize("value", ["false", "yes", 1, None])
def test_who_is_no_nas_user_for_the_policy_is_none_for_the_default_flow(
    site: Site, value: object
) -> None:
    local = User.objects.create_user("boss", "boss@example.com", keep_secret("local-password"))
    User.objects.filter(pk=local.pk).update(attributes={"ugos_user": value})
    assert site.lets_in("boss", "local-password", DEFAULT) == "boss"


@pytest.mark.parametrize("name", ["akadmin", "boss"])
@pytest.mark.parametrize("marked", [False, True])
def test_everybody_else_changes_the_password_as_before(site: Site, name: str, marked: bool) -> None:
    if name == "boss":
        User.objects.create_user("boss", "boss@example.com", keep_secret("old-password"))
    elif marked:  # by mistake: it must not lock the administrator out
        User.objects.filter(username="akadmin").update(attributes={"ugos_user": True})
    browser = site.browser()
    assert browser.start(CHANGE, user(name)).component == "ak-stage-prompt"
    password = keep_secret("New-Password-2026")
    assert browser.submit(password=password, password_repeat=password).component == DONE
    assert user(name).check_password(password)
    site.browsers.clear()  # authentik's own flow leaves what was typed in the session
    assert site.lets_in(name, password, DEFAULT) == name


def test_a_nas_user_with_a_password_of_authentik_does_not_come_in_by_the_default_flow(
    site: Site,
) -> None:
    jane = link("jane.doe")
    jane.set_password(keep_secret("second-door"))
    jane.save()
    logged_in, page = site.try_login("jane.doe", "second-door", DEFAULT)
    assert logged_in is None
    assert page.component == DENIED
    assert page.message
    assert "/if/flow/ugos-authentication/" in page.message


def test_an_app_password_of_a_nas_user_does_not_open_the_default_flow(site: Site) -> None:
    site.app_passwords[keep_secret("app-password")] = link("jane.doe").pk
    assert site.lets_in("jane.doe", "app-password", DEFAULT) is None
    site.app_passwords[keep_secret("admin-password")] = site.admin.pk
    assert site.lets_in("akadmin", "admin-password", DEFAULT) == "akadmin"


@pytest.mark.parametrize("which", ["deny stage", "guard"])
def test_either_lock_of_the_default_flow_holds_alone(site: Site, which: str) -> None:
    jane = link("jane.doe")
    jane.set_password(keep_secret("second-door"))
    jane.save()
    policy = site.policies[
        "ugos-is-ugos-user-policy" if which == "guard" else "ugos-is-not-ugos-user-policy"
    ].pk
    targets = {each.pbm_uuid for each in site.bindings(DEFAULT)}
    for bound in [
        each
        for each in site.store.all(PolicyBinding)
        if each.policy == policy and each.target in targets
    ]:
        site.store.rows.remove(bound)
        if which == "guard":  # its stage would deny everybody
            stage = next(each for each in site.bindings(DEFAULT) if each.pbm_uuid == bound.target)
            site.store.rows.remove(stage)
    assert site.lets_in("jane.doe", "second-door", DEFAULT) is None
    assert site.lets_in("akadmin", "password-of-akadmin", DEFAULT) == "akadmin"


def test_another_policy_on_the_login_stage_does_not_replace_the_guard(
    site: Site, nas: Service
) -> None:
    link("jane.doe")
    for slug in (UGOS, DEFAULT):
        site.import_blueprint(f"""
version: 1
entries:
  - model: authentik_policies_expression.expressionpolicy
    id: always
    identifiers: {{name: always}}
    attrs: {{expression: return True}}
  - model: authentik_policies.policybinding
    identifiers:
      target: !Find
        - authentik_policies.policybindingmodel
        - [flowstagebinding__target__slug, {slug}]
        - [flowstagebinding__order, 100]
      policy: !KeyOf always
      order: 5
""")
    site.faults = {"cache:ugos-password-validation-policy", "cache:ugos-is-ugos-user-policy"}
    assert site.lets_in("jane.doe", "wrong-password") is None
    jane = user("jane.doe")
    jane.set_password(keep_secret("second-door"))
    jane.save()
    assert site.lets_in("jane.doe", "second-door", DEFAULT) is None


def test_initial_setup_stays_closed(site: Site, nas: Service) -> None:
    nas.etc.add_user("akadmin", "right-akadmin")
    for _ in range(2):
        site.lets_in("akadmin", "right-akadmin")
        assert site.browser().start("initial-setup").component == DENIED
