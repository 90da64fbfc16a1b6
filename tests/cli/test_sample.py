from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from slipway.cli.sample import FLOWER, curl_sample
from slipway.infer.runtime import ReplicaFacts
from slipway.infer.signature import Signature, TensorSpec, count_rows
from slipway.infer.tensor import DATATYPES, Tensor


def sample(*inputs: TensorSpec, model: str = "m") -> str:
    facts = ReplicaFacts(Signature(inputs, ()), "stub")
    return curl_sample(url="http://127.0.0.1:1", model=model, facts=facts)


def body_of(line: str) -> dict[str, object]:
    """What the shell line would send; its program, if it has one, is really run."""
    program, pipe, curl = line.rpartition(" | ")
    words = shlex.split(curl)
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:1/v2/models/m/infer"]
    assert words[3] == "-d"
    if not pipe:
        return json.loads(words[4])  # type: ignore[no-any-return]
    assert words[4] == "@-"
    return json.loads(subprocess.check_output(program, shell=True, timeout=20))  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", [(-1, 4), (2, 3), (-1, 3, 16, 16), ()])
@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_a_sample_fits_the_signature(datatype: str, shape: tuple[int, ...]) -> None:
    if datatype != "FP32" and len(shape) == 4:
        return
    spec = TensorSpec("it's", datatype, shape)
    (sent,) = body_of(sample(spec))["inputs"]  # type: ignore[misc]
    tensor = Tensor(sent["name"], sent["datatype"], tuple(sent["shape"]), b"")  # type: ignore[index]
    count_rows(Signature((spec,), (), batchable=False), [tensor])
    assert len(sent["data"]) == tensor.elements  # type: ignore[index]


def test_the_example_gets_a_real_flower() -> None:
    line = sample(TensorSpec("input", "FP32", (-1, 4)), model="iris")
    assert json.dumps(FLOWER, separators=(",", ":"))[1:-1] in line


def test_optional_inputs_are_left_out() -> None:
    sent = body_of(sample(TensorSpec("a", "INT64", (-1,)), TensorSpec("b", "INT64", (-1,), optional=True)))
    assert [one["name"] for one in sent["inputs"]] == ["a"]  # type: ignore[attr-defined]
