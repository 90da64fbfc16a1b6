"""The kinds of a spec as tables of fields: type, rule and default of each, for the reader and the schema alike."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec.inspect import NoneType, StructType, Type, UnionType, type_info

from slipway.spec.fields import FIELDS, Field


class Shape(NamedTuple):
    """One field. `default`: msgspec.NODEFAULT where it has to be given."""

    name: str
    type: Type
    rule: Field
    default: Any

    @property
    def required(self) -> bool:
        return self.default is msgspec.NODEFAULT


@cache
def shapes_of(kind: type) -> dict[str, Shape]:
    """The fields of `kind` that a person may write. None is never written: who wants none leaves the key out."""
    info = type_info(kind)
    assert isinstance(info, StructType)
    found = {}
    for field in info.fields:
        rule = FIELDS[f"{kind.__name__}.{field.name}"]
        if rule.hidden:
            continue
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if rule.jwks:
            default = msgspec.NODEFAULT
        found[field.name] = Shape(field.name, _written(field.type), rule, default)
    return found


def _written(kind: Type) -> Type:
    if isinstance(kind, UnionType):
        left = tuple(one for one in kind.types if not isinstance(one, NoneType))
        return left[0] if len(left) == 1 else UnionType(left)
    return kind
