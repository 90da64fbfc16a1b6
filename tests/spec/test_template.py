from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.spec.deployment import DeploymentSpec
from slipway.spec.fields import DEPLOYMENT
from slipway.spec.reading import read_spec
from slipway.spec.template import template
from slipway.spec.writing import spec_to_json

FIELD = re.compile(r"^#(?=\S|  )", re.M)
"""A comment that is a field; a comment for reading begins with `# ` and a word."""


def test_what_is_known_is_set() -> None:
    spec = read_spec(template(name="iris", model="./iris.onnx", runtime="onnx", about="It is ONNX"))
    assert spec == DeploymentSpec(name="iris", model="./iris.onnx", runtime="onnx")


def test_every_field_is_there_and_can_be_switched_on() -> None:
    """The digest belongs to a real artifact only, so nothing else can be wrong."""
    text = FIELD.sub("", template(name="iris", model="./iris.onnx"))
    spec = read_spec(text)
    written = spec_to_json(spec)
    assert {"labels", "files", "autoscaling", "env", "auth", "digest", "description"} <= set(written)
    for name in DEPLOYMENT:
        kind, _, field = name.partition(".")
        if kind not in ("AutoscaleMetric", "SecretRef", "AllowRule", "JwtRule"):
            assert re.search(rf"^ *{field}: ", text, re.M) or re.search(rf"^{field}:$", text, re.M), name


def test_each_top_field_alone() -> None:
    lines = template(name="iris", model="./iris.onnx").splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(r"#\S", line)]
    assert len(starts) == 17
    for start in starts:
        end = start + 1
        while end < len(lines) and lines[end].startswith("#  "):
            end += 1
        read_spec("\n".join([*lines[:start], *(line[1:] for line in lines[start:end]), *lines[end:]]))


def test_no_line_is_long() -> None:
    assert max(map(len, template(name="iris", model="./iris.onnx", about="x").splitlines())) <= 120


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20))
def test_any_path_is_quoted_as_needed(model: str) -> None:
    assert read_spec(template(name="iris", model=model)).model == model


@pytest.mark.parametrize(
    "model", ["yes", "1", "a: b", "#x", " a", "a #b", "*a", "'", "1:30", "-", "null", "[a]", "{a}"]
)
def test_awkward_paths(model: str) -> None:
    assert read_spec(template(name="iris", model=model)).model == model
