"""From a spec back to JSON and YAML: what was declared, without what is a default anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import yaml

from slipway.spec.deployment import DeploymentSpec
from slipway.spec.scalars import meaning
from slipway.spec.shapes import shapes_of


def spec_to_json(spec: DeploymentSpec) -> dict[str, Any]:
    """Plain, in the order of the fields, apiVersion and name first. `spec_from_json` makes an equal spec of it."""
    return {"apiVersion": spec.apiVersion, **plain(spec)}


def specs_to_yaml(specs: Sequence[DeploymentSpec]) -> str:
    """A text that `read_specs` reads back to equal specs."""
    written = [
        yaml.dump(spec_to_json(spec), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120) for spec in specs
    ]
    return "---\n".join(written)


def as_yaml_line(key: str, value: Any) -> str:
    """`key: value`, with lists and mappings in brackets."""
    text = yaml.dump(
        plain(value), Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
    )
    return f"{key}: {text.removesuffix(chr(10)).removesuffix('...').rstrip()}"


def plain(value: Any) -> Any:
    """Any part of a spec as JSON has it, without defaults."""
    if isinstance(value, msgspec.Struct):
        shapes = shapes_of(type(value))
        given = ((name, getattr(value, name), shapes[name].default) for name in value.__struct_fields__)
        return {name: plain(inner) for name, inner, default in given if inner != default}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some reader of YAML would take for something else. Nothing is repeated by alias."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if meaning(text) or text in ("<<", "=") or not text.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
