"""The kinds of a spec as JSON Schema (draft 2020-12), from which editors complete and check while somebody types.

It comes from the table that the reader follows, so whatever the reader takes fits the schema. The other way round a
schema cannot tell everything: fields that contradict each other (`spec.checks`) are the reader's alone.
"""

from __future__ import annotations

from typing import Any

from msgspec.inspect import (
    BoolType,
    DictType,
    FloatType,
    IntType,
    LiteralType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
)

from slipway.spec.deployment import API_VERSION, AllowRule, DeploymentSpec
from slipway.spec.fields import Field
from slipway.spec.forms import FORMS
from slipway.spec.server import ServerConfig
from slipway.spec.shapes import Shape, shapes_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"

EXAMPLE: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "name": "iris",
    "model": "./iris.onnx",
    "replicas": {"min": 1, "max": 4, "memory": "512Mi"},
    "batching": {"max_rows": 64, "slo_ms": 20},
    "auth": {"allow": [{"key": "*"}, {"jwt": {"scope": "predict:iris"}}]},
}
SERVER_EXAMPLE: dict[str, Any] = {
    "host": "0.0.0.0",
    "tls": {"certificate": "/etc/slipway/server.pem", "key": "/etc/slipway/server.key"},
    "auth": {
        "jwt": [
            {
                "issuer": "https://login.example.org",
                "audience": "slipway",
                "algorithms": ["RS256"],
                "jwks": "https://login.example.org/.well-known/jwks.json",
            }
        ]
    },
}


def spec_schema() -> dict[str, Any]:
    """Of one deployment's spec."""
    return _document(DeploymentSpec, "Slipway deployment", EXAMPLE)


def server_schema() -> dict[str, Any]:
    """Of what `slipway up --config` reads."""
    return _document(ServerConfig, "Slipway server", SERVER_EXAMPLE)


def _document(kind: type, title: str, example: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    whole = _struct(kind, kinds)
    return {"$schema": DRAFT, "title": title, **whole, "examples": [example], "$defs": dict(sorted(kinds.items()))}


def _struct(kind: type, kinds: dict[str, Any]) -> dict[str, Any]:
    shapes = shapes_of(kind)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _property(shape, kinds) for name, shape in shapes.items()},
        "required": [name for name, shape in shapes.items() if shape.required],
        "additionalProperties": False,
    }
    if kind is AllowRule:
        schema |= {"minProperties": 1, "maxProperties": 1}
    return schema


def _property(shape: Shape, kinds: dict[str, Any]) -> dict[str, Any]:
    schema = _value(shape.type, shape.rule, kinds) | {"description": shape.rule.about}
    if isinstance(shape.default, str | int | float | tuple | dict):
        schema["default"] = list(shape.default) if isinstance(shape.default, tuple) else shape.default
    if shape.rule.examples:
        schema["examples"] = list(shape.rule.examples)
    return schema


def _value(kind: Type, rule: Field, kinds: dict[str, Any]) -> dict[str, Any]:
    if rule.jwks:
        return {"anyOf": [_text(rule), {"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
    if isinstance(kind, StructType):
        name = kind.cls.__name__
        if name not in kinds:
            kinds[name] = _struct(kind.cls, kinds)
        return {"$ref": f"#/$defs/{name}"}
    if isinstance(kind, DictType):
        keys = FORMS[rule.keys]
        names = {"pattern": keys.pattern, "maxLength": keys.most}
        return {
            "type": "object",
            "propertyNames": names,
            "additionalProperties": _value(kind.value_type, rule, kinds),
        }
    if isinstance(kind, VarTupleType):
        item = _value(kind.item_type, rule, kinds)
        several = {"type": "array", "items": item}
        return {"anyOf": [item, several]} if rule.one else several
    if isinstance(kind, UnionType):
        return {"anyOf": [_value(one, rule, kinds) for one in kind.types]}
    if isinstance(kind, BoolType):
        return {"type": "boolean"}
    if isinstance(kind, IntType | FloatType):
        type_ = "integer" if isinstance(kind, IntType) else "number"
        return {"type": type_, "minimum": rule.least, "maximum": rule.most}
    if isinstance(kind, LiteralType):
        return {"type": "string", "enum": list(kind.values)}
    return _text(rule)


def _text(rule: Field) -> dict[str, Any]:
    if rule.choices:
        return {"type": "string", "enum": list(rule.choices)}
    form = FORMS[rule.form]
    return {"type": "string", "pattern": form.pattern, "maxLength": form.most}
