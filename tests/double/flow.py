"""flows/planner.py, flows/markers.py and flows/views/executor.py, a browser in front of them, and
all of it together.

An Authentik is an install with its default flows; a Browser walks through a flow as somebody would.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import recorder
from authentik.core.auth import INBUILT
from authentik.core.models import VERSION, User
from authentik.core.signals import login_failed
from blueprint import Applied, Importer
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db import close_old_connections
from django.http import Http404, HttpRequest
from evaluator import PolicyRequest, PolicyResult
from objects import Flow, FlowStageBinding, Policy, Stage, Store
from plan import SESSION_KEY_GET, SESSION_KEY_HISTORY, SESSION_KEY_PLAN, FlowPlan, Page, Session
from policies import Engine
from stages import PENDING_USER, VIEWS

DONE = "xak-flow-redirect"
DENIED = "ak-stage-access-denied"
ERROR = "ak-stage-flow-error"


class NotApplicableError(Exception):
    """The flow is not for this request: by its authentication setting, or by its policies."""


class Authentik:
    """An authentik of the version that authentik.core.models was imported for.

    `faults`: what is broken, see policies.Engine.
    `devices`: the code that the authenticator of a user of that name shows.
    `app_passwords`: token and primary key of its user.
    `grants`: access and refresh tokens that applications have, and the primary key of their user.
    `opened`: the browsers.
    `plan_at_prompt`: validation policies find the plan in request.context, else in the session
    only. Both exist.
    `plan_keeps_typed`: the plan gets what was typed, else what validation has left of it. Both must
    be safe.
    `trims_prompts`: stages/prompt/models.py: white space at both ends of an answer is lost.
    """

    def __init__(self, version: str = VERSION) -> None:
        if version != VERSION:
            raise ValueError(f"the models are those of {VERSION}: set AUTHENTIK_VERSION")
        self.version = version
        self.store = Store()
        self.devices: dict[str, str] = {}
        self.app_passwords: dict[str, int] = {}
        self.grants: dict[str, int] = {}
        self.opened: list[Browser] = []
        self.plan_at_prompt = False
        self.plan_keeps_typed = False
        self.trims_prompts = True
        self.signals: list[dict[str, str]] = []
        self.engine = Engine(self.store)
        self.events = recorder.EVENTS
        self.log = recorder.LOG
        login_failed.disconnect(dispatch_uid=__name__)  # the newest install listens alone
        login_failed.connect(self._on_login_failed, dispatch_uid=__name__)
        auth.user_logged_in.disconnect(dispatch_uid=__name__)
        auth.user_logged_in.connect(self._on_login, dispatch_uid=__name__)
        self.import_blueprint(Path(__file__).with_name("defaults.yaml").read_text())

    def import_blueprint(self, text: str, **context: object) -> Applied:
        return Importer(self.store, text, context).apply()

    @property
    def faults(self) -> set[str]:
        return self.engine.faults

    @faults.setter
    def faults(self, faults: set[str]) -> None:
        self.engine.faults = faults

    @property
    def flows(self) -> dict[str, Flow]:
        return {flow.slug: flow for flow in self.store.all(Flow)}

    @property
    def stages(self) -> dict[str, Stage]:
        return {stage.name: stage for stage in self.store.all(Stage)}

    @property
    def policies(self) -> dict[str, Policy]:
        return {policy.name: policy for policy in self.store.all(Policy)}

    def bindings(self, slug: str) -> list[FlowStageBinding]:
        """The stages of a flow, in their order."""
        flow = self.flows[slug]
        found = [each for each in self.store.all(FlowStageBinding) if each.target == flow.pk]
        return sorted(found, key=lambda binding: binding.order)

    def browser(self, ip: str = "192.0.2.7") -> "Browser":
        return Browser(self, ip)

    def _on_login_failed(
        self,
        credentials: dict[str, str],
        request: HttpRequest,
        stage: object = None,
        **keywords: object,
    ) -> None:
        """events/signals.py and policies/reputation/signals.py: `request` is required, `context` is
        refused."""
        if "context" in keywords:
            raise TypeError("got multiple values for keyword argument 'context'")
        self.signals.append(dict(credentials))
        self.engine.event("login_failed", **credentials, stage=stage)
        if "username" in credentials:
            self.engine.reputation.change(request, credentials["username"], -1)

    def _on_login(self, request: HttpRequest, user: User, **keywords: object) -> None:
        """policies/reputation/signals.py"""
        self.engine.reputation.change(request, user.username, 1)


class Executor:
    """flows/views/executor.py: one request to a flow's URL."""

    plan: FlowPlan
    binding: FlowStageBinding

    def __init__(
        self, authentik: Authentik, request: HttpRequest, slug: str, messages: list[str]
    ) -> None:
        if slug not in authentik.flows:
            raise Http404(slug)
        self.authentik = authentik
        self.request = request
        self.flow = authentik.flows[slug]
        self.messages = messages
        self.started = False

    def dispatch(self, data: Mapping[str, object] | None) -> Page | None:
        """A GET, or a POST of `data`. The policies of the stage at hand are asked again at each of
        them."""
        session = self.request.session
        plan = session.get(SESSION_KEY_PLAN)
        if plan is not None and plan.flow_pk != self.flow.pk.hex:
            self.cancel()
            plan = None
        session[SESSION_KEY_GET] = {}
        if plan is None:
            session[SESSION_KEY_HISTORY] = []
            try:
                plan = session[SESSION_KEY_PLAN] = self.make_plan({})
            except NotApplicableError as exc:
                if self.flow.designation == "authentication" and self.request.user.is_authenticated:
                    return self.done()
                return self.not_applicable(exc)
            if not plan.bindings:
                return self.done()
        self.plan = plan
        try:
            binding = self.next()
        except Exception as exc:  # noqa: BLE001  as authentik does
            recorder.LOG.append(f"warning invalidating run exc={exc!r}")
            return self.stage_invalid()
        if binding is None:
            return self.done()
        self.binding = binding
        self.started = True
        stage = self.authentik.store.one(Stage, binding.stage)
        view = VIEWS[type(stage)](self, stage)
        try:
            return view.get() if data is None else view.post(data)
        except Exception as exc:  # noqa: BLE001  as authentik does
            recorder.add_event("system_exception", exception=repr(exc))
            return Page(ERROR)

    def next(self) -> FlowStageBinding | None:
        """flows/markers.py:59-65: a stage whose policies say no is taken out of the plan.

        The policies get a copy of the plan's context, with the plan itself as `flow_plan`, and are
        asked about the pending user. Their messages are shown, the text of an exception too.
        """
        plan = self.plan
        while plan.bindings:
            if not plan.markers[0]:
                return plan.bindings[0]
            user = plan.context.get(PENDING_USER, self.request.user)
            context = {"flow_plan": plan, **plan.context}
            result = self.authentik.engine.ask(
                plan.bindings[0], PolicyRequest(user, self.request, context)
            )
            self.messages += result.messages
            if result.passing:
                return plan.bindings[0]
            plan.pop()
        return None

    def make_plan(self, context: dict[str, Any]) -> FlowPlan:
        """flows/planner.py. Raises NotApplicableError. Nothing is cached."""
        request, flow, ask = self.request, self.flow, self.authentik.engine.ask
        refused = {
            "require_authenticated": not request.user.is_authenticated,
            "require_unauthenticated": request.user.is_authenticated,
            "require_superuser": not getattr(request.user, "is_superuser", False),
            "require_redirect": "is_redirected" not in context,
            "require_outpost": True,
        }
        if refused.get(flow.authentication):
            raise NotApplicableError("Flow does not apply to current user.")
        user = cast(User, context.get(PENDING_USER, request.user))
        result = ask(flow, PolicyRequest(user, request, dict(context)))
        if not result.passing:
            raise NotApplicableError(
                "\n".join(result.messages) or "Flow does not apply to current user."
            )
        plan = FlowPlan(flow.pk.hex, context=context)
        for binding in self.authentik.bindings(flow.slug):
            result = PolicyResult(True)
            if binding.evaluate_on_plan:
                result = ask(binding, PolicyRequest(user, request, {"flow_plan": plan, **context}))
            if result.passing:
                plan.append(deepcopy(binding), binding.re_evaluate_policies)
        return plan

    def not_applicable(self, exc: NotApplicableError) -> Page | None:
        return Page(DONE) if self.flow.denied_action == "continue" else self.stage_invalid(str(exc))

    def restart(self, action: str) -> Page | None:
        """invalid_response_action: from the first stage on; with the context, what was typed is
        kept in it."""
        context = self.plan.context if action == "restart_with_context" else {}
        try:
            self.request.session[SESSION_KEY_PLAN] = self.make_plan(context)
        except NotApplicableError as exc:
            return self.not_applicable(exc)
        return None

    def stage_ok(self) -> Page | None:
        """flows/views/executor.py:408-415: a copy of the plan goes into the history, which outlives
        the login."""
        session = self.request.session
        session.get(SESSION_KEY_HISTORY, []).append(deepcopy(self.plan))
        self.plan.pop()
        session[SESSION_KEY_PLAN] = self.plan
        return None if self.plan.bindings else self.done()

    def stage_invalid(self, message: str = "") -> Page | None:
        """The end of the flow, or its restart; the history stays."""
        if self.started and self.binding.invalid_response_action != "retry":
            return self.restart(self.binding.invalid_response_action)
        self.cancel()
        return Page(DENIED, message=message or "Unknown error")

    def done(self) -> Page:
        self.cancel()
        return Page(DONE)

    def cancel(self) -> None:
        for key in (SESSION_KEY_PLAN, SESSION_KEY_GET):
            self.request.session.pop(key, None)


class Browser:
    """Somebody at a browser, with one session. `messages` are the notices that the pages showed
    beside their forms."""

    def __init__(self, authentik: Authentik, ip: str) -> None:
        self.authentik = authentik
        self.ip = ip
        self.slug = ""
        self.messages: list[str] = []
        self.uuid = str(uuid4())  # of its session, in the API
        authentik.opened.append(self)
        self._key: str | None = None
        self._rows: dict[str, bytes] = {}

    @property
    def session(self) -> Session:
        """The session as it is stored; `.raw` is its bytes."""
        return Session(self._key, self._rows)

    @property
    def user(self) -> str | None:
        """The name of the user whose session this is, if the session's hash is that of the present
        password."""
        found = user_of(self._request())
        return found.username if isinstance(found, User) else None

    @property
    def owner(self) -> int | None:
        """The primary key of the user that logged in, whether or not the session counts still."""
        pk = self.session.get(auth.SESSION_KEY)
        return None if pk is None else int(pk)

    def end(self) -> None:
        """The session's row is deleted."""
        self._rows.clear()
        self._key = None

    def start(self, slug: str, user: User | None = None) -> Page:
        """Opens a flow, as `user` if one is given: somebody who logged in before. An open plan of
        it goes on."""
        if user is not None:
            request = self._request()
            auth.login(request, user, backend=INBUILT)
            self._save(request)
        self.slug = slug
        return self._follow(self._send(None))

    def submit(self, **data: object) -> Page:
        """Sends the form, and follows the executor's redirects to its own URL until there is a
        page."""
        return self._follow(self._send(data))

    def _follow(self, page: Page | None) -> Page:
        for _ in range(100):
            if page is not None:
                return page
            page = self._send(None)
        raise AssertionError("the flow redirects for ever")

    def _send(self, data: Mapping[str, object] | None) -> Page | None:
        """One request, through the session middleware: nothing is saved where an exception leaves
        the executor."""
        request = self._request()
        try:
            page = Executor(self.authentik, request, self.slug, self.messages).dispatch(data)
            self._save(request)
        finally:
            close_old_connections()
        return page

    def _request(self) -> HttpRequest:
        request = HttpRequest()
        request.META.update(REMOTE_ADDR=self.ip, SERVER_NAME="authentik.test", SERVER_PORT="443")
        request.path = f"/api/v3/flows/executor/{self.slug}/"
        request.session = self.session
        request.user = user_of(request)
        return request

    def _save(self, request: HttpRequest) -> None:
        if request.session.modified and not request.session.is_empty():
            request.session.save()
        self._key = request.session.session_key


def user_of(request: HttpRequest) -> User | AnonymousUser:
    """Django's get_user(). A session that names no possible user, as a pretended one's login
    leaves, has none."""
    try:
        return cast(User | AnonymousUser, auth.get_user(request))
    except ValidationError:
        return AnonymousUser()
