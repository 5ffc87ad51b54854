"""openapi.yaml, and whether an answer is one that it describes."""

import contextlib
import json
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

PATH = Path(__file__).resolve().parent.parent / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
MEDIA_TYPE = "application/json; charset=utf-8"


def resolved(node: Any) -> Any:
    """`node` with what its `$ref`s stand for in their place."""
    if isinstance(node, list):
        return [resolved(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {key: resolved(value) for key, value in node.items()}
    target = DOCUMENT
    for key in node["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return resolved(target)


OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (method.upper(), path): {"parameters": item.get("parameters", []), **operation}
    for path, item in resolved(DOCUMENT["paths"]).items()
    for method, operation in item.items()
    if method != "parameters"
}
PATHS = {path for _, path in OPERATIONS}
OUTSIDE: dict[str, dict[str, Any]] = {  # the answers that belong to no operation
    status: resolved(DOCUMENT["components"]["responses"][name])
    for status, name in {
        "400": "BadRequestLine",
        "404": "NotFound",
        "405": "MethodNotAllowed",
    }.items()
}


def check_against(
    response: dict[str, Any], headers: HTTPMessage, raw: bytes, head_only: bool
) -> None:
    """Assert that an answer is what `response`, a Response Object, describes."""
    given = {name.lower(): value for name, value in headers.items()}
    assert given.pop("content-type") == MEDIA_TYPE
    for name, header in response["headers"].items():
        value = given.pop(name.lower(), None)
        assert value is not None or not header.get("required"), f"no {name}"
        if value is not None:
            whole = (
                header["schema"].get("type") == "integer" and value.isascii() and value.isdigit()
            )
            jsonschema_rs.validate(header["schema"], int(value) if whole else value)
    assert not given, f"headers that are not described: {given}"
    if head_only:
        assert raw == b""
    else:
        assert int(headers["Content-Length"]) == len(raw)
        jsonschema_rs.validate(
            response["content"][MEDIA_TYPE]["schema"], json.loads(raw), validate_formats=True
        )


def check(method: str, target: str, status: int, headers: HTTPMessage, raw: bytes) -> None:
    """Assert that the answer to a well-formed request is described where it belongs."""
    path = target.partition("?")[0]
    if (method, path) in OPERATIONS:
        responses = OPERATIONS[method, path]["responses"]
    else:
        assert status == (405 if path in PATHS else 404)
        responses = OUTSIDE
    assert str(status) in responses, f"{method} {target}: status {status} is not described"
    check_against(responses[str(status)], headers, raw, method == "HEAD")


def check_any(status: int, headers: HTTPMessage, raw: bytes, head_only: bool) -> None:
    """Assert that an answer to we know not what is described somewhere."""
    for responses in (OUTSIDE, *(operation["responses"] for operation in OPERATIONS.values())):
        if (response := responses.get(str(status))) and (head_only or "content" in response):
            with contextlib.suppress(AssertionError, jsonschema_rs.ValidationError):
                check_against(response, headers, raw, head_only)
                return
    raise AssertionError(f"described nowhere: {status} {dict(headers)} {raw!r}")
