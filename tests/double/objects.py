"""The rows of authentik's database that are not users: flows, stages, policies, bindings, brands.

The fields of a class are the attributes that its API, and with it a blueprint, takes. A field that
refers to another row says in its metadata to which class.
"""

import secrets
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, TypeVar
from uuid import UUID, uuid4

Mode = Literal["all", "any"]
InvalidResponse = Literal["retry", "restart", "restart_with_context"]


@dataclass(kw_only=True)
class Row:
    """A row. `pk` is given by the database; `UNIQUE` are the sets of fields that no two rows of a
    table share."""

    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = ()

    pk: UUID = field(default_factory=uuid4)

    @classmethod
    def table(cls) -> type["Row"]:
        """The class whose rows share one constraint: Stage for every kind of stage."""
        return next(base for base in cls.__mro__ if "UNIQUE" in vars(base))


@dataclass(kw_only=True)
class PolicyBindingModel(Row):
    """What policies can be bound to. policies/models.py: its key is pbm_uuid, and a flow's own `pk`
    is another."""

    pbm_uuid: UUID = field(default_factory=uuid4)
    policy_engine_mode: Mode = "any"


@dataclass(kw_only=True)
class Flow(PolicyBindingModel):
    UNIQUE = (("slug",),)

    name: str
    slug: str
    title: str
    designation: Literal[
        "authentication",
        "authorization",
        "invalidation",
        "enrollment",
        "unenrollment",
        "recovery",
        "stage_configuration",
    ]
    background: str = ""
    compatibility_mode: bool = False
    layout: str = "stacked"
    denied_action: Literal["message_continue", "message", "continue"] = "message_continue"
    authentication: Literal[
        "none",
        "require_authenticated",
        "require_unauthenticated",
        "require_superuser",
        "require_redirect",
        "require_outpost",
    ] = "none"


@dataclass(kw_only=True)
class Stage(Row):
    UNIQUE = (("name",),)

    name: str


@dataclass(kw_only=True)
class FlowStageBinding(PolicyBindingModel):
    UNIQUE = (("target", "stage", "order"),)

    target: UUID = field(metadata={"to": Flow})
    stage: UUID = field(metadata={"to": Stage})
    order: int
    evaluate_on_plan: bool = False
    re_evaluate_policies: bool = True
    invalid_response_action: InvalidResponse = "retry"


@dataclass(kw_only=True)
class Policy(Row):
    UNIQUE = (("name",),)

    name: str
    execution_logging: bool = False


@dataclass(kw_only=True)
class ExpressionPolicy(Policy):
    expression: str


@dataclass(kw_only=True)
class ReputationPolicy(Policy):
    check_ip: bool = True
    check_username: bool = True
    threshold: int = -5


@dataclass(kw_only=True)
class PasswordPolicy(Policy):
    password_field: str = "password"
    amount_digits: int = 0
    amount_uppercase: int = 0
    amount_lowercase: int = 0
    amount_symbols: int = 0
    length_min: int = 0
    symbol_charset: str = r"!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~ "
    error_message: str = ""
    check_static_rules: bool = True
    check_have_i_been_pwned: bool = False
    check_zxcvbn: bool = False
    hibp_allowed_count: int = 0
    zxcvbn_score_threshold: int = 2


@dataclass(kw_only=True)
class PolicyBinding(Row):
    UNIQUE = (("policy", "target", "order"),)

    policy: UUID | None = field(default=None, metadata={"to": Policy})
    group: UUID | None = None
    user: int | None = None
    target: UUID = field(metadata={"to": PolicyBindingModel})
    negate: bool = False
    enabled: bool = True
    order: int
    timeout: int = 30
    failure_result: bool = False


@dataclass(kw_only=True)
class Prompt(Row):
    UNIQUE = (("name",),)

    name: str
    field_key: str
    label: str
    type: Literal[
        "text",
        "text_area",
        "text_read_only",
        "text_area_read_only",
        "username",
        "email",
        "password",
        "number",
        "checkbox",
        "radio-button-group",
        "dropdown",
        "date",
        "date-time",
        "file",
        "separator",
        "hidden",
        "static",
        "ak-locale",
    ]
    required: bool = True
    placeholder: str = ""
    initial_value: str = ""
    order: int = 0
    sub_text: str = ""
    placeholder_expression: bool = False
    initial_value_expression: bool = False


@dataclass(kw_only=True)
class PromptStage(Stage):
    fields: list[UUID] = field(metadata={"to": Prompt})
    validation_policies: list[UUID] = field(default_factory=list, metadata={"to": Policy})


@dataclass(kw_only=True)
class DenyStage(Stage):
    deny_message: str = ""


@dataclass(kw_only=True)
class PasswordStage(Stage):
    backends: list[str]
    configure_flow: UUID | None = field(default=None, metadata={"to": Flow})
    failed_attempts_before_cancel: int = 5
    allow_show_password: bool = False


@dataclass(kw_only=True)
class IdentificationStage(Stage):
    user_fields: list[Literal["username", "email", "upn"]] = field(default_factory=list)
    password_stage: UUID | None = field(default=None, metadata={"to": PasswordStage})
    captcha_stage: UUID | None = field(default=None, metadata={"to": Stage})
    webauthn_stage: UUID | None = field(default=None, metadata={"to": Stage})
    case_insensitive_matching: bool = True
    show_matched_user: bool = True
    enrollment_flow: UUID | None = field(default=None, metadata={"to": Flow})
    recovery_flow: UUID | None = field(default=None, metadata={"to": Flow})
    passwordless_flow: UUID | None = field(default=None, metadata={"to": Flow})
    sources: list[str] = field(default_factory=list)
    show_source_labels: bool = False
    pretend_user_exists: bool = True
    enable_remember_me: bool = False


@dataclass(kw_only=True)
class AuthenticatorValidateStage(Stage):
    not_configured_action: Literal["skip", "deny", "configure"] = "skip"
    device_classes: list[Literal["static", "totp", "webauthn", "duo", "sms", "email"]] = field(
        default_factory=list
    )
    configuration_stages: list[UUID] = field(default_factory=list, metadata={"to": Stage})
    last_auth_threshold: str = "seconds=0"
    webauthn_user_verification: Literal["required", "preferred", "discouraged"] = "preferred"
    webauthn_allowed_device_types: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class UserLoginStage(Stage):
    session_duration: str = "seconds=0"
    terminate_other_sessions: bool = False
    remember_me_offset: str = "seconds=0"
    network_binding: str = "no_binding"
    geoip_binding: str = "no_binding"
    remember_device: str = "days=0"


@dataclass(kw_only=True)
class UserWriteStage(Stage):
    user_creation_mode: Literal["never_create", "create_when_required", "always_create"] = (
        "create_when_required"
    )
    create_users_as_inactive: bool = True
    create_users_group: UUID | None = None
    user_type: str = "external"
    user_path_template: str = ""


@dataclass(kw_only=True)
class Brand(Row):
    UNIQUE = (("domain",),)

    domain: str
    default: bool = False
    branding_title: str = "authentik"
    branding_logo: str = "/static/dist/assets/icons/icon_left_brand.svg"
    branding_favicon: str = "/static/dist/assets/icons/icon.png"
    branding_custom_css: str = ""
    branding_default_flow_background: str = "/static/dist/assets/images/flow_background.jpg"
    flow_authentication: UUID | None = field(default=None, metadata={"to": Flow})
    flow_invalidation: UUID | None = field(default=None, metadata={"to": Flow})
    flow_recovery: UUID | None = field(default=None, metadata={"to": Flow})
    flow_unenrollment: UUID | None = field(default=None, metadata={"to": Flow})
    flow_user_settings: UUID | None = field(default=None, metadata={"to": Flow})
    flow_device_code: UUID | None = field(default=None, metadata={"to": Flow})
    attributes: dict[str, object] = field(default_factory=dict)


@dataclass(kw_only=True)
class Token(Row):
    """core/models.py: an API token or an app password of the user whose primary key is given."""

    UNIQUE = (("identifier",),)

    identifier: str
    user: int
    intent: Literal["verification", "api", "recovery", "app_password"] = "api"
    description: str = ""
    expiring: bool = True
    key: str = field(default_factory=lambda: secrets.token_hex(30))


VALIDATE = "authentik_stages_authenticator_validate"  # its app

MODELS: dict[str, type[Row]] = {
    "authentik_core.token": Token,
    "authentik_flows.flow": Flow,
    "authentik_flows.flowstagebinding": FlowStageBinding,
    "authentik_stages_identification.identificationstage": IdentificationStage,
    "authentik_stages_prompt.prompt": Prompt,
    "authentik_stages_prompt.promptstage": PromptStage,
    "authentik_stages_deny.denystage": DenyStage,
    "authentik_stages_user_login.userloginstage": UserLoginStage,
    "authentik_stages_user_write.userwritestage": UserWriteStage,
    f"{VALIDATE}.authenticatorvalidatestage": AuthenticatorValidateStage,
    "authentik_stages_password.passwordstage": PasswordStage,
    "authentik_policies_expression.expressionpolicy": ExpressionPolicy,
    "authentik_policies_reputation.reputationpolicy": ReputationPolicy,
    "authentik_policies_password.passwordpolicy": PasswordPolicy,
    "authentik_policies.policybinding": PolicyBinding,
    "authentik_policies.policybindingmodel": PolicyBindingModel,
    "authentik_brands.brand": Brand,
}

R = TypeVar("R", bound=Row)


class Store:
    """The tables."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def all(self, kind: type[R]) -> list[R]:
        return [row for row in self.rows if isinstance(row, kind)]

    def get(self, kind: type[R], pk: object) -> R | None:
        """The row of that key. A PolicyBindingModel asked for as such has the key pbm_uuid."""
        return next((row for row in self.all(kind) if key(kind, row) == pk), None)

    def one(self, kind: type[R], pk: object) -> R:
        row = self.get(kind, pk)
        if row is None:
            raise LookupError(f"no {kind.__name__} has the key {pk}")
        return row

    def value(self, kind: type[Row], row: Row, path: str) -> object:
        """What a Django lookup such as `target__slug` finds from a row. Raises AttributeError for
        an unknown field.

        From a policybindingmodel the path begins with the name of the child: `flow__slug`.
        """
        head, _, rest = path.partition("__")
        if kind is PolicyBindingModel and head in {"flow", "flowstagebinding"}:
            child = {"flow": Flow, "flowstagebinding": FlowStageBinding}[head]
            return self.value(child, row, rest) if isinstance(row, child) else None
        if head == "pk":
            return key(kind, row)
        found: object = getattr(row, head)
        if not rest:
            return found
        to: type[Row] = next(each for each in fields(row) if each.name == head).metadata["to"]
        target = self.get(to, found)
        return None if target is None else self.value(to, target, rest)


def key(kind: type[Row], row: Row) -> UUID:
    """The primary key of a row of that model."""
    return (
        row.pbm_uuid
        if kind is PolicyBindingModel and isinstance(row, PolicyBindingModel)
        else row.pk
    )
