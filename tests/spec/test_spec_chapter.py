"""The chapter on specs has a row for each field, with its default, and no row for a field that is gone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.spec.deployment import DeploymentSpec
from slipway.spec.fields import FIELDS
from slipway.spec.reading import read_spec
from slipway.spec.server import ServerConfig
from slipway.spec.shapes import shapes_of

ROOT = Path(__file__).parents[2]
CHAPTER = (ROOT / "docs" / "15-specs.md").read_text()
ROWS = {row[1]: row[2].strip() for row in re.finditer(r"^\| `[^`]+` \| `(\w+\.\w+)` \| ([^|]*) \|", CHAPTER, re.M)}


def written(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return f"[{', '.join(default)}]" if default else ""
    if isinstance(default, float) and default.is_integer():
        return str(int(default))
    return str(default) if isinstance(default, str | int | float) else ""


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    assert set(ROWS) == {name for name, rule in FIELDS.items() if not rule.hidden}


@pytest.mark.parametrize("kind", sorted({name.partition(".")[0] for name in FIELDS}))
def test_defaults(kind: str) -> None:
    from slipway.spec import access, deployment, serve, server

    found = next(vars(module)[kind] for module in (deployment, server, access, serve) if kind in vars(module))
    for shape in shapes_of(found).values():
        assert ROWS[f"{kind}.{shape.name}"] == ("required" if shape.required else written(shape.default))


def test_the_example_is_the_one_in_the_chapter_and_a_spec() -> None:
    text = (ROOT / "examples" / "iris" / "slipway.yaml").read_text()
    assert text in CHAPTER
    assert read_spec(text).model == "./iris.onnx"
    assert yaml.safe_load(text)["name"] == "iris"


def test_kinds_have_no_field_without_a_rule() -> None:
    for kind in (DeploymentSpec, ServerConfig):
        assert set(kind.__struct_fields__) == set(shapes_of(kind))
