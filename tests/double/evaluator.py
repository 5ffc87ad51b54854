"""policies/expression/evaluator.py: how authentik runs the text of an expression policy.

As a program, prints a policy's text as a typed module, for mypy and ruff:

    python tests/double/evaluator.py authentik-policy.py > wrapped.py
"""

import re
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import requests
from django.http import HttpRequest
from django.utils.text import slugify
from recorder import Logger, add_event

if TYPE_CHECKING:
    from authentik.core.models import User

ARGUMENTS = ("ak_message", "ak_is_sso_flow", "ak_client_ip", "http_request", "request", "context")
FILENAME = "authentik-policy.py"  # line N of a traceback is line N - 1 of the policy

TYPED = '''"""{name}, as authentik runs it: the body of a function, with these names in scope."""

# ruff: noqa: ARG001, BLE001, N806, N818, PLC0415, PLR0914, PLR0915, PLR0917, RUF100
# isort: off
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from django.http import HttpRequest
from requests import Session

from authentik.core.models import User
from evaluator import PolicyRequest, PolicyResult
from recorder import Logger
# isort: on

ak_logger: Logger = globals()["ak_logger"]
ak_user_by: Callable[..., User | None] = globals()["ak_user_by"]
ak_call_policy: Callable[..., PolicyResult] = globals()["ak_call_policy"]
ak_create_event: Callable[..., None] = globals()["ak_create_event"]
ak_is_group_member: Callable[..., bool] = globals()["ak_is_group_member"]
requests: Session = globals()["requests"]
regex_match: Callable[[str, str], bool] = globals()["regex_match"]
regex_replace: Callable[[str, str, str], str] = globals()["regex_replace"]
slugify: Callable[[str], str] = globals()["slugify"]


def handler(
    ak_message: Callable[[str], None],
    ak_is_sso_flow: bool,
    ak_client_ip: IPv4Address | IPv6Address,
    http_request: HttpRequest,
    request: PolicyRequest,
    context: dict[str, Any],
) -> object:
'''


class PolicyException(Exception):  # noqa: N818  authentik's name
    """The policy failed: the binding's failure_result is the answer. Its text is that of the
    exception it raised."""


@dataclass
class PolicyRequest:
    """policies/types.py: what a policy is asked about."""

    user: "User"
    http_request: HttpRequest | None = None
    context: dict[str, Any] = field(default_factory=dict)
    obj: object = None
    debug: bool = False


class PolicyResult:
    """policies/types.py: the answer, and the messages for the user."""

    def __init__(self, passing: bool, *messages: str) -> None:
        self.passing = passing
        self.messages = messages

    def __repr__(self) -> str:
        return f"PolicyResult({self.passing}, {self.messages})"


class UnusedSession(requests.Session):
    """What a policy finds under the name `requests`: an instance, not the module. Nothing may be
    sent with it."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        raise AssertionError(f"sent with authentik's own session: {request.method} {request.url}")


def client_ip(request: HttpRequest) -> IPv4Address | IPv6Address:
    """root/middleware.py: the leftmost entry of X-Forwarded-For, which the browser chooses."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").partition(",")[0].strip()
    return ip_address(forwarded or request.META["REMOTE_ADDR"])


def user_by(**filters: object) -> "User | None":
    from authentik.core.models import User

    return User.objects.filter(**filters).first()


def is_group_member(user: "User", **filters: object) -> bool:
    return user.all_groups().filter(**filters).exists()


def evaluate(
    name: str,
    text: str,
    request: PolicyRequest,
    call_policy: Callable[[str, PolicyRequest], PolicyResult],
) -> PolicyResult:
    """Runs the text of the policy `name`. Raises PolicyException for any Exception, SyntaxError
    too.

    lib/expression/evaluator.py: the answer is taken by truth; SystemExit and its like pass through.
    """
    messages: list[str] = []

    def call(called: str, **context: object) -> PolicyResult:
        """ak_call_policy works on a copy of the request."""
        copied = deepcopy(request)
        copied.context.update(context)
        return call_policy(called, copied)

    def create_event(action: str, **context: object) -> None:
        add_event(action, app=name, **context)

    values = {
        "ak_message": messages.append,
        "ak_is_sso_flow": request.context.get("is_sso", False),
        "ak_client_ip": client_ip(request.http_request) if request.http_request else None,
        "http_request": request.http_request,
        "request": request,
        "context": request.context,
    }
    scope = {
        "ak_logger": Logger(logger=name),
        "ak_user_by": user_by,
        "ak_call_policy": call,
        "ak_create_event": create_event,
        "ak_is_group_member": is_group_member,
        "requests": UnusedSession(),
        "regex_match": lambda value, regex: re.search(regex, value) is not None,
        "regex_replace": lambda value, regex, replacement: re.sub(regex, replacement, value),
        "slugify": slugify,
    }
    try:
        exec(compile(as_function(text), FILENAME, "exec"), scope, values)  # noqa: S102  authentik does
    except Exception as exc:
        raise PolicyException(str(exc)) from exc
    return PolicyResult(bool(values["result"]), *messages)


def as_function(text: str) -> str:
    """The policy as authentik compiles it: the body of a function, lines inside long strings
    indented too."""
    arguments = ",".join(ARGUMENTS)
    return f"def handler({arguments}):\n{indent(text, '    ')}\nresult = handler({arguments})"


def wrap(text: str, name: str = FILENAME) -> str:
    """The policy as a module that mypy --strict and ruff understand: typed arguments and names, the
    same body."""
    return TYPED.format(name=name) + indent(text, "    ").rstrip("\n") + "\n"


if __name__ == "__main__":
    policy = Path(sys.argv[1])
    sys.stdout.write(wrap(policy.read_text(), policy.name))
