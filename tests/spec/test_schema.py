"""The schema and the reader are two answers to one question: they must agree on good specs, bad specs, and nonsense."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from slipway.errors import InvalidSpec
from slipway.spec import places
from slipway.spec.deployment import DeploymentSpec
from slipway.spec.fields import FIELDS
from slipway.spec.reading import read_server_config, read_spec, read_specs, spec_from_json
from slipway.spec.schema import EXAMPLE, SERVER_EXAMPLE, server_schema, spec_schema
from slipway.spec.server import ServerConfig
from slipway.spec.shapes import shapes_of
from slipway.spec.writing import spec_to_json, specs_to_yaml


def _pattern(_: Any, pattern: str, text: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """As JavaScript has it: to Python's `$` a text may also end with a line break."""
    if isinstance(text, str) and not re.search(pattern.replace("$", r"\Z"), text):
        yield jsonschema.ValidationError(f"{text!r} does not match {pattern}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})
SCHEMA = Validator(spec_schema())
SERVER = Validator(server_schema())

# fmt: off
WORDS = st.sampled_from([
    "iris", "yes", "1", "", "512Mi", "0Mi", "cpu", "cuda:0", "cuda:x", "a/b", "*", "null", "~", "1:30", "é", "a\nb",
    "<<", "s3://b/k", "predict:iris", "A", "x.txt", "../x", "\x85", "sha256:" + "0" * 64, "slipway.dev/v1",
    "SLIPWAY_FILES",
])
PIECES = [
    "name: a\n", "model: m\n", "  ", "- ", "{", "}", "[", "]", ": ", "&a ", "*a", "---\n", "'", '"', "\\U", "ffffffff",
    "\\ud800", "!!", "%YAML 1.1\n", "> ", "| ", "? ", "<<", "\t", "#", "replicas", "env", "\ufeff", "\r", "\x85",
    "\u2028", "@", "0", "é",
]
# fmt: on
SCALARS = WORDS | st.booleans() | st.none() | st.integers(-3, 2000) | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8
)
NAMES = sorted({key.partition(".")[2] for key in FIELDS} | {"replica", "x"})


def right_values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a part of the schema, most of the time."""
    if "$ref" in schema:
        return right_values(spec_schema()["$defs"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return st.one_of([right_values(one) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        required = {name: right_values(schema["properties"][name]) for name in schema["required"]}
        free = {name: right_values(one) for name, one in schema["properties"].items() if name not in required}
        return st.fixed_dictionaries(required, optional=free)
    if kind == "object":
        return st.dictionaries(
            st.from_regex(schema["propertyNames"]["pattern"]), right_values(schema["additionalProperties"]), max_size=2
        )
    if kind == "array":
        return st.lists(right_values(schema["items"]), max_size=2)
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(int(schema["minimum"]), int(schema["maximum"]))
    if kind == "number":
        return st.floats(schema["minimum"], schema["maximum"]) | st.integers(1, 10)
    return st.from_regex(schema["pattern"])


SPECS = right_values(spec_schema())


@st.composite
def nearly_specs(draw: st.DrawFn) -> Any:
    """Good ones with up to two places changed."""
    value = draw(SPECS)
    for _ in range(draw(st.integers(0, 2))):
        value = _changed(draw, copy.deepcopy(value))
    return value


def _changed(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and draw(st.booleans()):
        key = draw(st.sampled_from([*value, draw(st.sampled_from(NAMES))]))
        value[key] = _changed(draw, value[key]) if key in value else draw(VALUES)
        return value
    if isinstance(value, list) and value and draw(st.booleans()):
        value[0] = _changed(draw, value[0])
        return value
    return draw(VALUES)


CONTRADICTIONS = (
    "less than min",
    "all of slo_ms",
    "percent of",
    "does nothing without",
    "more than once",
    "has a password",
    "is of an artifact",
    "is no room at all",
    "is more than 1024Ti",
    "holds half a character",
)
"""What only the reader tells: fields that contradict each other, and sizes out of bounds."""


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(nearly_specs() | VALUES)
def test_schema_and_reader_agree(value: Any) -> None:
    fits = SCHEMA.is_valid(value)
    try:
        spec = spec_from_json(value)
    except InvalidSpec as error:
        contradicted = all(any(words in problem for words in CONTRADICTIONS) for problem in error.problems)
        assert not fits or contradicted, error.problems
    else:
        assert fits, list(SCHEMA.iter_errors(value))
        assert spec_from_json(spec_to_json(spec)) == spec
        assert SCHEMA.is_valid(spec_to_json(spec))
        assert read_specs(specs_to_yaml([spec])) == [spec]
        assert read_specs(json.dumps(spec_to_json(spec))) == [spec]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(SPECS)
def test_what_fits_is_read_unless_it_contradicts_itself(value: Any) -> None:
    assume(SCHEMA.is_valid(value))
    try:
        spec_from_json(value)
    except InvalidSpec as error:
        assert any(words in str(error.problems) for words in CONTRADICTIONS)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60) | st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.sampled_from([yaml.CSafeLoader, yaml.SafeLoader]),
)
def test_whatever_is_typed_only_invalid_spec_comes(text: str | bytes, loader: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "_LOADER", loader)
        for read in (read_specs, read_server_config):
            try:
                read(text, file="f")
            except InvalidSpec as error:
                assert error.problems
                assert all(problem.startswith("f:") for problem in error.problems)


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789abcdefxuU\"'{}[],:\\ \n\t", max_size=40).map(lambda text: "{" + text))
def test_nearly_json(text: str) -> None:
    try:
        read_specs(text)
    except InvalidSpec:
        pass


def test_the_schemas_are_schemas() -> None:
    for schema, example in ((spec_schema(), EXAMPLE), (server_schema(), SERVER_EXAMPLE)):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$schema"].endswith("2020-12/schema")
        assert json.loads(json.dumps(schema)) == schema
        assert schema["examples"] == [example]
    assert SCHEMA.is_valid(EXAMPLE)
    assert SERVER.is_valid(SERVER_EXAMPLE)
    assert read_spec(json.dumps(EXAMPLE)).name == "iris"
    assert read_server_config(json.dumps(SERVER_EXAMPLE)).auth.jwt[0].audience == ("slipway",)


@pytest.mark.parametrize("schema", [spec_schema(), server_schema()], ids=["spec", "server"])
def test_every_field_says_what_it_means(schema: dict[str, Any]) -> None:
    found = 0
    for kind in (schema, *schema["$defs"].values()):
        assert kind["additionalProperties"] is False
        for one in kind["properties"].values():
            assert len(one["description"]) >= 4
            assert one["description"].endswith(".")
            found += 1
    assert found > 35


def test_examples_and_defaults_fit() -> None:
    for schema in (spec_schema(), server_schema()):
        for kind in (schema, *schema["$defs"].values()):
            for name, one in kind["properties"].items():
                validator = jsonschema.Draft202012Validator(one | {"$defs": schema["$defs"]})
                for example in [*one.get("examples", ()), *([one["default"]] if "default" in one else ())]:
                    assert validator.is_valid(example), (name, example)


def test_the_table_and_the_kinds_are_the_same_fields() -> None:
    left = set(FIELDS)

    def walk(kind: type) -> None:
        left.difference_update(f"{kind.__name__}.{field}" for field in kind.__struct_fields__)  # type: ignore[attr-defined]
        for shape in shapes_of(kind).values():
            for inner in _kinds_in(shape.type):
                walk(inner)

    walk(DeploymentSpec)
    walk(ServerConfig)
    assert left == set()


def _kinds_in(kind: Any) -> list[type]:
    if isinstance(kind, msgspec.inspect.StructType):
        return [kind.cls]
    inner = [getattr(kind, name, None) for name in ("item_type", "value_type")]
    found = [one for one in (*inner, *getattr(kind, "types", ())) if one is not None]
    return [deeper for one in found for deeper in _kinds_in(one)]


@pytest.mark.parametrize(
    "change",
    [
        {"replica": 1},
        {"name": "a/b"},
        {"replicas": {"min": 0}},
        {"replicas": {"memory": "512"}},
        {"auth": {"allow": [{}]}},
        {"auth": {"allow": [{"key": "a", "user": "b"}]}},
        {"apiVersion": "v1"},
        {"env": {"1A": "x"}},
        {"env": {"A": 1}},
        {"autoscaling": [{"metric": "gpu", "target": 1}]},
    ],
)
def test_an_editor_would_see_what_the_reader_refuses(change: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid(EXAMPLE | change)
    with pytest.raises(InvalidSpec):
        spec_from_json(EXAMPLE | change)
