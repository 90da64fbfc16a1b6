"""What differs between two specs, field by field, for history, `slipway diff` and whoever wants to see before doing."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from slipway.spec.deployment import DeploymentSpec
from slipway.spec.places import LONGEST_SHOWN
from slipway.spec.quantities import bytes_of
from slipway.spec.scalars import meaning
from slipway.spec.shapes import shapes_of
from slipway.spec.writing import plain


class Change(NamedTuple):
    """`path`: such as `replicas.min`. `old`, `new`: as a person would write them, '' for what is not there."""

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        if not self.old:
            return f"{self.path}: added, {self.new}"
        if not self.new:
            return f"{self.path}: removed, was {self.old}"
        return f"{self.path}: {self.old} → {self.new}"


def diff_specs(old: DeploymentSpec, new: DeploymentSpec) -> list[str]:
    """Each difference in a line, `replicas.min: 1 → 2`, in the order of the fields. One size in two forms is none."""
    return [str(change) for change in changes_between(old, new)]


def changes_between(old: DeploymentSpec, new: DeploymentSpec) -> list[Change]:
    return _struct("", old, new)


def _struct(path: str, old: msgspec.Struct, new: msgspec.Struct) -> list[Change]:
    found: list[Change] = []
    for shape in shapes_of(type(old)).values():
        one, other = getattr(old, shape.name), getattr(new, shape.name)
        if shape.rule.form.startswith("size") and bytes_of(one) == bytes_of(other):
            continue
        found += _value(f"{path}.{shape.name}" if path else shape.name, one, other)
    return found


def _value(path: str, old: Any, new: Any) -> list[Change]:
    if old == new:
        return []
    if isinstance(old, msgspec.Struct) and type(old) is type(new):
        return _struct(path, old, new)
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [change for key in keys for change in _part(f"{path}.{key}", old, new, key)]
    if isinstance(old, tuple) and isinstance(new, tuple):
        places = range(max(len(old), len(new)))
        ones, others = dict(enumerate(old)), dict(enumerate(new))
        return [change for i in places for change in _part(f"{path}[{i}]", ones, others, i)]
    return [Change(path, _shown(old), _shown(new))]


def _part(path: str, old: dict[Any, Any], new: dict[Any, Any], key: Any) -> list[Change]:
    if key not in old:
        return [Change(path, "", _shown(new[key]))]
    if key not in new:
        return [Change(path, _shown(old[key]), "")]
    return _value(path, old[key], new[key])


def _shown(value: Any) -> str:
    """A word as it is, everything else as JSON."""
    if value is None:
        return "nothing"
    written = plain(value)
    bare = isinstance(written, str) and written.isprintable() and not meaning(written)
    text = written if bare else json.dumps(written, ensure_ascii=not bare)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
