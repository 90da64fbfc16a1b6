"""The OpenAPI document: FastAPI's, with the schemas of the very types that are written and read.

The answers' schemas come from `spec.resources`, the bodies' from `bodies`, and the spec's from `spec.schema`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from slipway.controller.api.operations import Operation
from slipway.controller.api.problems import PROBLEM_JSON, TITLES
from slipway.controller.api.rules import Rule
from slipway.spec.resources import Problem
from slipway.spec.schema import spec_schema

REF = "#/components/schemas/{name}"
ALWAYS = (400, 401, 403, 429, 500, 503)
TAGS = {
    "deployments": "Declared, versioned, scaled, rolled back.",
    "artifacts": "Uploads of models: resumable, verified, kept while a version needs them.",
    "events": "What happened, also as a stream; and logs.",
    "keys": "API keys.",
    "users": "Users of basic auth.",
    "secrets": "Values that specs name and nobody reads back.",
    "audit": "Who changed what.",
    "server": "The server itself.",
}
ABOUT = """Operates a Slipway server: what `slipway` on the command line and `slipway.Admin` in Python use.

Refusals are problem details (RFC 9457), whose `code` is stable. Lists come in pages: `next` of one is `cursor` of the
next. A change with an `Idempotency-Key` is made once, however often it is sent."""
SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`sw_…`) or a token of a trusted issuer.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "basic": {"type": "http", "scheme": "basic", "description": "A user and password."},
}
ONCE = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A word of your own, such as a UUID: the same request with the same word is made once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
}
MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "The ETag of what you saw: the change is made to it, or refused.",
    "schema": {"type": "string", "pattern": r'^(\*|"[0-9]{1,15}")$'},
}
NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "`*`: only if it does not exist yet.",
    "schema": {"type": "string", "enum": ["*"]},
}


def describe(app: FastAPI, operations: Iterable[Operation], *, version: str, closed: bool) -> dict[str, Any]:
    """The whole document. `closed`: this server wants a credential."""
    listed = list(operations)
    document = get_openapi(
        title="Slipway management API",
        version=version,
        description=ABOUT,
        routes=app.routes,
        tags=[{"name": name, "description": about} for name, about in TAGS.items()],
    )
    document["components"] = {"schemas": _schemas(listed), "securitySchemes": SECURITY}
    for operation in listed:
        found = document["paths"][operation.path][operation.method.lower()]
        _complete(found, operation, closed=closed)
    return document


def _complete(found: dict[str, Any], operation: Operation, *, closed: bool) -> None:
    found["responses"] = {
        **{str(status): _answer(status, kind, operation) for status, kind in operation.answers.items()},
        **{str(status): _refusal(status) for status in _refusals(operation)},
    }
    found["security"] = [{name: []} for name in SECURITY] if closed and operation.needs is not Rule.OPEN else []
    found["description"] = _needs(operation)
    parameters = found.setdefault("parameters", [])
    parameters += [ONCE] if operation.once else []
    if 412 in operation.refuses:
        parameters.append(MATCH)
        parameters += [NONE_MATCH] if operation.method == "PUT" else []
    if not parameters:
        del found["parameters"]
    if operation.raw_body:
        content: Any = {operation.raw_body: {"schema": {"type": "string", "format": "binary"}}}
        found["requestBody"] = {"required": True, "content": content}
    elif operation.takes is not None:
        content = {"schema": {"$ref": REF.format(name=operation.takes.__name__)}}
        if operation.example is not None:
            content["example"] = operation.example
        found["requestBody"] = {"required": not operation.optional, "content": {"application/json": content}}


def _refusals(operation: Operation) -> list[int]:
    found = {*operation.refuses, 500, 503} if operation.needs is Rule.OPEN else {*ALWAYS, *operation.refuses}
    if operation.takes is not None:
        found |= {413, 415}
    if operation.once:
        found.add(409)
    return sorted(found)


def _needs(operation: Operation) -> str:
    return {
        Rule.OPEN: "Needs no credential.",
        Rule.ANYBODY: "Needs any credential.",
        Rule.DEPLOYMENT: "Needs the scope `deploy:NAME` of the deployment, or `admin`.",
        Rule.DEPLOYER: "Needs a scope `deploy:…`, or `admin`.",
        Rule.ADMINISTRATOR: "Needs the scope `admin`.",
    }[operation.needs]


def _answer(status: int, kind: Any, operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": {201: "Created", 202: "Begun", 204: "Done"}.get(status, "What was asked for")
    }
    if isinstance(kind, str):
        answer["content"] = {kind: {"schema": {"type": "string"}}}
    elif kind is dict:
        answer["content"] = {"application/json": {"schema": {"type": "object"}}}
    elif kind is not None:
        (schema,), _ = msgspec.json.schema_components([kind], ref_template=REF)
        answer["content"] = {"application/json": {"schema": schema}}
    if operation.headers:
        answer["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in operation.headers.items()
        }
    return answer


def _refusal(status: int) -> dict[str, Any]:
    return {
        "description": TITLES[status],
        "content": {PROBLEM_JSON: {"schema": {"$ref": REF.format(name="Problem")}}},
    }


def _schemas(operations: list[Operation]) -> dict[str, Any]:
    kinds: list[Any] = [Problem]
    for operation in operations:
        kinds += [kind for kind in operation.answers.values() if kind not in (None, dict) and not isinstance(kind, str)]
        kinds += [operation.takes] if operation.takes is not None else []
    _, found = msgspec.json.schema_components(kinds, ref_template=REF)
    schemas: dict[str, Any] = dict(found)
    schemas |= _spec_schemas()
    for name in ("Deployment", "DeployBody"):
        schemas[name]["properties"]["spec"] = {"$ref": REF.format(name="DeploymentSpec")}
    return schemas


def _spec_schemas() -> dict[str, Any]:
    whole = spec_schema()
    parts = whole.pop("$defs", {})
    whole.pop("$schema", None)
    named = {f"Spec{name}": part for name, part in parts.items()} | {"DeploymentSpec": whole}
    moved: dict[str, Any] = _moved(named)
    return moved


def _moved(value: Any) -> Any:
    """References within the spec's own document become those of this one."""
    if isinstance(value, dict):
        return {
            key: inner.replace("#/$defs/", "#/components/schemas/Spec") if key == "$ref" else _moved(inner)
            for key, inner in value.items()
        }
    return [_moved(inner) for inner in value] if isinstance(value, list) else value
