"""policies/engine.py and policies/process.py: asks the policies of a target, and puts their answers
together.

All run inline, in the caller's thread: a binding's timeout is not enforced.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from evaluator import PolicyException, PolicyRequest, PolicyResult, client_ip, evaluate
from objects import (
    ExpressionPolicy,
    Mode,
    PasswordPolicy,
    Policy,
    PolicyBinding,
    PolicyBindingModel,
    ReputationPolicy,
    Store,
)
from recorder import add_event


class FaultError(Exception):
    """What the engine meets when the cache or the event table cannot be written."""


class Reputation:
    """policies/reputation: a score per address and name, between -5 and 5. A login raises it by
    one; login_failed lowers it by one, and so does a name that the identification stage does not
    know.
    """

    def __init__(self) -> None:
        self.scores: dict[tuple[str, str], int] = {}

    def change(self, request: HttpRequest, username: str, amount: int) -> None:
        row = str(client_ip(request)), username
        self.scores[row] = min(5, max(-5, self.scores.get(row, 0) + amount))

    def passes(self, policy: ReputationPolicy, request: PolicyRequest) -> bool:
        """Passes at the threshold and below it: the policy is bound to what is to happen to bad
        guests."""
        address = str(client_ip(request.http_request)) if request.http_request else ""
        rows = [
            score
            for (ip, username), score in self.scores.items()
            if (policy.check_ip and ip == address)
            or (policy.check_username and username == request.user.username)
        ]
        return sum(rows) <= policy.threshold


class Engine:
    """Asks policies.

    `faults` breaks what the engine needs: "cache", or "cache:NAME" for the runs of one policy only,
    is a cache that cannot be written, "events" an event table that cannot.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.faults: set[str] = set()
        self.reputation = Reputation()

    def ask(self, target: PolicyBindingModel, request: PolicyRequest) -> PolicyResult:
        """The answer of all that is bound to the target, in order. Nothing bound passes."""
        bindings = [
            each
            for each in self.store.all(PolicyBinding)
            if each.target == target.pbm_uuid and each.enabled
        ]
        request.obj = target
        return self._together(bindings, target.policy_engine_mode, request)

    def ask_list(self, policies: Iterable[UUID], request: PolicyRequest) -> PolicyResult:
        """stages/prompt/stage.py: validation policies, as if bound to a bare PolicyBindingModel;
        all must pass."""
        request.obj = target = PolicyBindingModel()
        bindings = [
            PolicyBinding(policy=policy, target=target.pbm_uuid, order=0) for policy in policies
        ]
        return self._together(bindings, "all", request)

    def _together(
        self, bindings: list[PolicyBinding], mode: Mode, request: PolicyRequest
    ) -> PolicyResult:
        if not bindings:
            return PolicyResult(True)
        results = [
            self._run(each, request) for each in sorted(bindings, key=lambda binding: binding.order)
        ]
        passing = [each.passing for each in results]
        return PolicyResult(
            all(passing) if mode == "all" else any(passing),
            *(text for each in results for text in each.messages),
        )

    def _run(self, binding: PolicyBinding, request: PolicyRequest) -> PolicyResult:
        """policies/process.py:133-143: a failure around the policy is False, whatever the policy
        said."""
        try:
            return self._execute(binding, request)
        except Exception as exc:  # noqa: BLE001  as authentik does
            return PolicyResult(False, str(exc))

    def _execute(self, binding: PolicyBinding, request: PolicyRequest) -> PolicyResult:
        """policies/process.py:84-105: negate is not applied to failure_result."""
        policy = self.store.get(Policy, binding.policy)
        try:
            result = self._passes(binding, policy, request)
            if binding.negate:
                result.passing = not result.passing
            if policy and policy.execution_logging:
                self.event("policy_execution", policy=policy.name, result=result)
        except PolicyException as exc:
            self.event(
                "policy_exception",
                policy=policy.name if policy else "",
                exception=repr(exc.__cause__),
            )
            result = PolicyResult(binding.failure_result, str(exc))
        if self.faults & {"cache", f"cache:{policy.name if policy else ''}"}:
            raise FaultError("the cache cannot be written")
        return result

    def event(self, action: str, **context: object) -> None:
        if "events" in self.faults:
            raise FaultError("the event table cannot be written")
        add_event(action, **context)

    def _passes(
        self, binding: PolicyBinding, policy: Policy | None, request: PolicyRequest
    ) -> PolicyResult:
        if isinstance(policy, ExpressionPolicy):
            return evaluate(policy.name, policy.expression, request, self._call)
        if isinstance(policy, ReputationPolicy):
            return PolicyResult(self.reputation.passes(policy, request))
        if isinstance(policy, PasswordPolicy):
            return strong(policy, request)
        if binding.group is not None:
            return PolicyResult(
                bool(request.user.pk)
                and request.user.all_groups().filter(pk=binding.group).exists()
            )
        return PolicyResult(binding.user is not None and request.user.pk == binding.user)

    def _call(self, name: str, request: PolicyRequest) -> PolicyResult:
        """ak_call_policy. Raises ValueError for an unknown name."""
        policy = next((each for each in self.store.all(Policy) if each.name == name), None)
        if policy is None:
            raise ValueError(f"Policy '{name}' not found.")
        return self._execute(PolicyBinding(policy=policy.pk, target=policy.pk, order=0), request)


def strong(policy: PasswordPolicy, request: PolicyRequest) -> PolicyResult:
    """policies/password: the static rules. zxcvbn and Have I Been Pwned are not asked."""
    data: dict[str, Any] = request.context.get("prompt_data", request.context)
    if policy.password_field not in data:
        return PolicyResult(False, "Password not set in context")
    password = str(data[policy.password_field])
    counts = (
        (len(password), policy.length_min),
        (sum("0" <= letter <= "9" for letter in password), policy.amount_digits),
        (sum("A" <= letter <= "Z" for letter in password), policy.amount_uppercase),
        (sum("a" <= letter <= "z" for letter in password), policy.amount_lowercase),
        (sum(letter in policy.symbol_charset for letter in password), policy.amount_symbols),
    )
    if policy.check_static_rules and any(count < least for count, least in counts):
        return PolicyResult(False, policy.error_message)
    return PolicyResult(True)
