"""The stages of a flow, each as authentik/stages/<name>/stage.py behaves.

A stage answers a GET or a POST with a page, or with None: a redirect to the executor's own URL,
where the next request finds what is next.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from authentik.core.auth import INBUILT, TOKEN, InbuiltBackend
from authentik.core.models import User
from authentik.core.signals import login_failed
from django.contrib import auth
from django.db import IntegrityError, transaction
from django.db.models import Q
from evaluator import PolicyRequest
from objects import (
    AuthenticatorValidateStage,
    DenyStage,
    IdentificationStage,
    PasswordStage,
    Prompt,
    PromptStage,
    Stage,
    UserLoginStage,
    UserWriteStage,
)
from plan import Page

if TYPE_CHECKING:
    from flow import Executor

PENDING_USER = "pending_user"
PROMPT_DATA = "prompt_data"
BACKEND = "user_backend"
READ_ONLY = {"hidden", "static", "text_read_only", "text_area_read_only"}

S = TypeVar("S", bound=Stage)


class InvalidError(Exception):
    """A response that the form refuses; what is shown at it."""

    def __init__(self, *errors: str) -> None:
        super().__init__(*errors)
        self.errors = list(errors)


def read_text(given: object, required: bool = False, trim: bool = True) -> str:
    """rest_framework.fields.CharField: white space at both ends is trimmed. Raises InvalidError."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise InvalidError("Not a valid string.")
    text = str(given)
    if "\0" in text:
        raise InvalidError("Null characters are not allowed.")
    if re.search("[\ud800-\udfff]", text):
        raise InvalidError("Surrogate characters are not allowed.")
    if required and not text.strip():
        raise InvalidError("This field may not be blank.")
    return text.strip() if trim else text


class View(Generic[S]):
    """flows/stage.py: a stage that shows a form. `component` is the name of its page."""

    component = ""

    def __init__(self, executor: "Executor", stage: S) -> None:
        self.executor = executor
        self.authentik = executor.authentik
        self.request = executor.request
        self.plan = executor.plan
        self.stage = stage

    def pending_user(self) -> User:
        """flows/stage.py: the user of the plan, or else of the request."""
        user: User = self.plan.context.get(PENDING_USER, self.request.user)
        return user

    def get(self) -> Page | None:
        return Page(self.component)

    def post(self, data: Mapping[str, object]) -> Page | None:
        try:
            attrs = self.validate(data)
        except InvalidError as exc:
            action = self.executor.binding.invalid_response_action
            return self.executor.restart(action) if action != "retry" else self.invalid(exc)
        return self.valid(attrs)

    def validate(self, data: Mapping[str, object]) -> dict[str, Any]:
        return dict(data)

    def valid(self, attrs: dict[str, Any]) -> Page | None:
        return self.executor.stage_ok()

    def invalid(self, exc: InvalidError) -> Page | None:
        return Page(self.component, exc.errors)


class IdentificationView(View[IdentificationStage]):
    """stages/identification/stage.py: finds the user, or leaves an unsaved one of the typed name in
    the plan."""

    component = "ak-stage-identification"

    def validate(self, data: Mapping[str, object]) -> dict[str, Any]:
        name = read_text(data.get("uid_field", ""))
        if not name:
            raise InvalidError("No identification data provided.")
        user = self.find(name)
        if user is None:
            # the signal identification_failed, which the reputation alone listens to
            self.authentik.engine.reputation.change(self.request, name, -1)
            user = self.plan.context[PENDING_USER] = User(username=name, email=name)
            if not self.stage.show_matched_user:
                self.plan.context["pending_user_identifier"] = name
            if self.stage.pretend_user_exists and not self.stage.password_stage:
                return {"user": user}
            raise InvalidError("Failed to authenticate.")
        if self.stage.password_stage:
            password_stage = self.authentik.store.one(PasswordStage, self.stage.password_stage)
            password = read_text(data.get("password", ""), trim=False)
            user = authenticate(self, password_stage, user.username, password)
            if user is None:
                raise InvalidError("Failed to authenticate.")
        return {"user": user}

    def find(self, name: str) -> User | None:
        how = "iexact" if self.stage.case_insensitive_matching else "exact"
        columns = {"username": "username", "email": "email", "upn": "attributes__upn"}
        query = Q()
        for each in self.stage.user_fields:
            query |= Q(**{f"{columns[each]}__{how}": name})
        return User.objects.filter(query).first() if query else None

    def valid(self, attrs: dict[str, Any]) -> Page | None:
        self.plan.context[PENDING_USER] = attrs["user"]
        return self.executor.stage_ok()


class PromptView(View[PromptStage]):
    """stages/prompt/stage.py: a form, its validation policies, and what it leaves in the plan."""

    component = "ak-stage-prompt"

    def get(self) -> Page:
        return Page(self.component, initial=self.initial())

    def invalid(self, exc: InvalidError) -> Page:
        return Page(self.component, exc.errors, initial=self.initial())

    def fields(self) -> list[Prompt]:
        found = [self.authentik.store.one(Prompt, pk) for pk in self.stage.fields]
        return sorted(found, key=lambda prompt: prompt.order)

    def initial(self) -> dict[str, str]:
        """stages/prompt/models.py: what the plan has from an earlier answer comes before the
        prompt's own value.

        After restart_with_context, that is the old password.
        """
        before = self.plan.context.get(PROMPT_DATA, {})
        return {
            each.field_key: str(before.get(each.field_key, each.initial_value))
            for each in self.fields()
        }

    def validate(self, data: Mapping[str, object]) -> dict[str, Any]:
        attrs: dict[str, Any] = {"component": self.component}
        errors: list[str] = []
        initial = self.initial()
        for prompt in self.fields():
            try:
                attrs |= self.read(prompt, data, initial[prompt.field_key])
            except InvalidError as exc:
                errors += exc.errors
        if errors:
            raise InvalidError(*errors)
        passwords = [
            str(data.get(each.field_key)) for each in self.fields() if each.type == "password"
        ]
        if len(passwords) == 2 and len(set(passwords)) == 2:
            raise InvalidError("Passwords don't match.")
        self.as_typed = dict(attrs)
        request = PolicyRequest(self.pending_user(), self.request, {PROMPT_DATA: attrs})
        if self.authentik.plan_at_prompt:
            request.context["flow_plan"] = self.plan
        result = self.authentik.engine.ask_list(self.stage.validation_policies, request)
        if not result.passing:
            raise InvalidError(*result.messages)
        self.executor.messages += result.messages
        return attrs

    def read(self, prompt: Prompt, data: Mapping[str, object], initial: str) -> dict[str, Any]:
        key = prompt.field_key
        if prompt.type in READ_ONLY:
            return {key: initial}
        if key not in data:
            if prompt.required and not initial:
                raise InvalidError("This field is required.")
            return {key: initial} if initial else {}
        text = read_text(data[key], prompt.required, self.authentik.trims_prompts)
        if (
            prompt.type == "username"
            and User.objects.filter(username=text).exclude(pk=self.pending_user().pk).exists()
        ):
            raise InvalidError("Username is already taken.")
        return {key: text}

    def valid(self, attrs: dict[str, Any]) -> Page | None:
        data = self.as_typed if self.authentik.plan_keeps_typed else attrs
        self.plan.context.setdefault(PROMPT_DATA, {}).update(data)
        return self.executor.stage_ok()


class DenyView(View[DenyStage]):
    """stages/deny/stage.py: always a denial. It sends no login_failed."""

    def get(self) -> Page | None:
        return self.executor.stage_invalid(self.stage.deny_message)

    def post(self, data: Mapping[str, object]) -> Page | None:
        return self.get()


class PasswordView(View[PasswordStage]):
    """stages/password/stage.py: authentik's own password, or an app password, which works beside an
    unusable one."""

    component = "ak-stage-password"

    def validate(self, data: Mapping[str, object]) -> dict[str, Any]:
        return {"password": read_text(data.get("password", ""), required=True, trim=False)}

    def valid(self, attrs: dict[str, Any]) -> Page | None:
        if PENDING_USER not in self.plan.context:
            return self.executor.stage_invalid()
        user = authenticate(
            self, self.stage, self.plan.context[PENDING_USER].username, attrs["password"]
        )
        if user is None:
            return self.invalid(InvalidError("Invalid password"))
        self.plan.context[PENDING_USER] = user
        self.plan.context[BACKEND] = getattr(user, "backend")  # noqa: B009  set by authenticate()
        return self.executor.stage_ok()

    def invalid(self, exc: InvalidError) -> Page | None:
        session = self.request.session
        session["user_invalid_tries"] = session.get("user_invalid_tries", 0) + 1
        if session["user_invalid_tries"] > self.stage.failed_attempts_before_cancel:
            del session["user_invalid_tries"]
            return self.executor.stage_invalid(*exc.errors)
        return Page(self.component, exc.errors)


class AuthenticatorValidateView(View[AuthenticatorValidateStage]):
    """stages/authenticator_validate/stage.py: asks for the code of those who have a device."""

    component = "ak-stage-authenticator-validate"

    def code(self) -> str | None:
        return self.authentik.devices.get(self.pending_user().username)

    def get(self) -> Page | None:
        if self.code() is not None:
            return Page(self.component)
        if self.stage.not_configured_action == "skip":
            return self.executor.stage_ok()
        return self.executor.stage_invalid("No (allowed) MFA authenticator configured.")

    def validate(self, data: Mapping[str, object]) -> dict[str, Any]:
        if self.code() is None or data.get("code") != self.code():
            fail(self, self.pending_user().username)
            raise InvalidError(
                "Invalid Token. Please ensure the time on your device is accurate and try again."
            )
        return {}


class UserLoginView(View[UserLoginStage]):
    """stages/user_login/stage.py:145-171: logs the plan's user in, whoever that is, by Django's
    login()."""

    def get(self) -> Page | None:
        context = self.plan.context
        if PENDING_USER not in context:
            return self.executor.stage_invalid("No Pending user to login.")
        auth.login(self.request, context[PENDING_USER], backend=context.get(BACKEND, INBUILT))
        self.authentik.engine.event(
            "login",
            username=context[PENDING_USER].username,
            auth_method=context.get("auth_method", ""),
            auth_method_args=context.get("auth_method_args", {}),
        )
        self.executor.messages.append("Successfully logged in!")
        return self.executor.stage_ok()

    def post(self, data: Mapping[str, object]) -> Page | None:
        return self.get()


class UserWriteView(View[UserWriteStage]):
    """stages/user_write/stage.py: writes what the prompts left into the plan's user, the password
    too."""

    def get(self) -> Page | None:
        context = self.plan.context
        if PROMPT_DATA not in context:
            return self.executor.stage_invalid("No Pending data.")
        if self.request.user.is_authenticated:
            context.setdefault(PENDING_USER, self.request.user)
        if PENDING_USER not in context or self.stage.user_creation_mode == "always_create":
            if self.stage.user_creation_mode == "never_create":
                return self.executor.stage_invalid("No user found and can't create new user.")
            context[PENDING_USER] = User(
                is_active=not self.stage.create_users_as_inactive, type=self.stage.user_type
            )
            context[BACKEND] = INBUILT
        user: User = context[PENDING_USER]
        for key, value in context[PROMPT_DATA].items():
            setter = getattr(user, f"set_{key}", None)
            if callable(setter):
                setter(value)
            elif key != "groups" and hasattr(user, key):
                setattr(user, key, value)
        if not user.username:
            return self.executor.stage_invalid()
        try:
            with transaction.atomic():
                user.save()
        except (IntegrityError, ValueError, TypeError):
            return self.executor.stage_invalid("Failed to update user. Please try again later.")
        if "password" in context[PROMPT_DATA] and self.request.user.pk == user.pk:
            auth.update_session_auth_hash(self.request, user)
        return self.executor.stage_ok()

    def post(self, data: Mapping[str, object]) -> Page | None:
        return self.get()


def fail(view: View[S], username: str) -> None:
    login_failed.send(
        sender=view.stage.name,
        credentials={"username": username},
        request=view.request,
        stage=view.stage,
    )


def authenticate(view: View[S], stage: PasswordStage, username: str, password: str) -> User | None:
    """stages/password/stage.py: the first backend that knows the password, or None after
    login_failed."""
    for backend in stage.backends:
        user = None
        method = "password"
        if backend == INBUILT:
            user = InbuiltBackend().authenticate(view.request, username=username, password=password)
        elif backend == TOKEN and password in view.authentik.app_passwords:
            method = "token"
            owner = view.authentik.app_passwords[password]
            user = User.objects.filter(pk=owner, username=username, is_active=True).first()
        if isinstance(user, User):
            setattr(user, "backend", backend)  # noqa: B010  django.contrib.auth.authenticate does
            view.plan.context["auth_method"] = method
            return user
    fail(view, username)
    return None


VIEWS: dict[type[Stage], type[View[Any]]] = {
    IdentificationStage: IdentificationView,
    PromptStage: PromptView,
    DenyStage: DenyView,
    PasswordStage: PasswordView,
    AuthenticatorValidateStage: AuthenticatorValidateView,
    UserLoginStage: UserLoginView,
    UserWriteStage: UserWriteView,
}
