"""A first request for a model, made from its signature, that works when it is pasted."""

from __future__ import annotations

import json
from math import prod

from slipway.infer.runtime import ReplicaFacts
from slipway.infer.signature import TensorSpec
from slipway.infer.tensor import DATATYPES

FLOWER = (5.1, 3.5, 1.4, 0.2)
"""Sepal and petal of an Iris setosa, in cm: what the shipped example was trained on."""

MAX_LITERAL_ELEMENTS = 64
"""Larger inputs are written by a small program instead of by hand."""

_VALUES = {"b": True, "i": 1, "u": 1, "f": 0.5, "s": "text"}


def curl_sample(*, url: str, model: str, facts: ReplicaFacts, closed: bool = False) -> str:
    """One shell line. -1 dimensions are 1; optional inputs are left out. `closed`: with a key, from SLIPWAY_KEY."""
    specs = [spec for spec in facts.signature.inputs if not spec.optional]
    target = f"{url}/v2/models/{model}/infer"
    if closed:
        target = f'-H "Authorization: Bearer $SLIPWAY_KEY" {target}'
    if sum(elements(spec) for spec in specs) <= MAX_LITERAL_ELEMENTS:
        body = json.dumps({"inputs": [_tensor(spec, model) for spec in specs]}, separators=(",", ":"))
        return f"curl -s {target} -d '{_quoted(body)}'"
    inputs = ", ".join(
        f'{{"name": {json.dumps(spec.name)}, "datatype": "{spec.datatype}", "shape": {shape(spec)}, '
        f'"data": [{_VALUES[DATATYPES[spec.datatype].kind]!r}] * {elements(spec)}}}'
        for spec in specs
    )
    program = f'import json; print(json.dumps({{"inputs": [{inputs}]}}))'
    return f"python3 -c '{_quoted(program)}' | curl -s {target} -d @-"


def shape(spec: TensorSpec) -> list[int]:
    return [1 if size == -1 else size for size in spec.shape]


def elements(spec: TensorSpec) -> int:
    return prod(shape(spec))


def _tensor(spec: TensorSpec, model: str) -> dict[str, object]:
    value: object = _VALUES[DATATYPES[spec.datatype].kind]
    data: list[object] = [value] * elements(spec)
    if model == "iris" and len(data) == len(FLOWER) and value == 0.5:
        data = list(FLOWER)
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape(spec), "data": data}


def _quoted(text: str) -> str:
    """For the inside of single quotes of a shell."""
    return text.replace("'", "'\\''")
