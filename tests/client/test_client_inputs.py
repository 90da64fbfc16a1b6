"""DataFrames, dicts and arrays to the tensors that a model declares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from slipway.client.inputs import to_inputs
from slipway.client.prediction import Prediction
from slipway.errors import InvalidInput
from slipway.infer.arrays import to_array, to_tensor
from slipway.infer.request import Response
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor

MATRIX = Signature((TensorSpec("x", "FP32", (-1, 2)),), ())
TABLE = Signature((TensorSpec("age", "INT64", (-1, 1)), TensorSpec("city", "BYTES", (-1,))), ())
BOTH = Signature(MATRIX.inputs, (), columns=(TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "BYTES", (-1,))))
OPTIONAL = Signature((TensorSpec("x", "FP32", (-1,)), TensorSpec("seed", "INT64", (1,), optional=True)), ())


def shown(tensors: list[Tensor]) -> dict[str, tuple[str, Any]]:
    return {tensor.name: (tensor.datatype, to_array(tensor).tolist()) for tensor in tensors}


def test_columns_become_the_rows_of_one_input() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    assert shown(to_inputs(frame, MATRIX)) == {"x": ("FP32", [[1, 0.5], [2, 1.5]])}


def test_columns_become_inputs_of_their_names_and_ranks() -> None:
    frame = pd.DataFrame({"city": ["Rome", "Oslo"], "age": np.array([1, 2], np.int32)})
    assert shown(to_inputs(frame, TABLE)) == {"city": ("BYTES", [b"Rome", b"Oslo"]), "age": ("INT64", [[1], [2]])}


def test_columns_of_a_model_trained_on_a_table() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert shown(to_inputs(frame, BOTH)) == {"a": ("FP64", [1.0, 2.0]), "b": ("BYTES", [b"x", b"y"])}


def test_a_mixed_table_goes_column_by_column_where_no_matrix_can_hold_it() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert shown(to_inputs(frame, MATRIX)) == {"a": ("INT64", [1, 2]), "b": ("BYTES", [b"x", b"y"])}


def test_an_optional_input_may_be_left_out() -> None:
    assert shown(to_inputs([1, 2], OPTIONAL)) == {"x": ("FP32", [1, 2])}


@pytest.mark.parametrize(
    ("value", "signature", "words"),
    [
        (pd.DataFrame({"age": [1], "town": ["Rome"]}), TABLE, r"column 'town' is no input.*'city' \(BYTES"),
        (pd.DataFrame({"agee": [1], "age": [1]}), TABLE, "'agee' is no input, did you mean 'age'"),
        (pd.DataFrame({"p": [1], "q": [1]}), TABLE, r"no column of the DataFrame \(p, q\) is an input"),
        ([[1]], TABLE, "several inputs: give a dict"),
        ({"age": [[1.5]]}, TABLE, "input 'age' has dtype float64, which does not become INT64"),
        ({"age": [[2**63]]}, TABLE, "do not all fit into INT64"),
    ],
)
def test_what_does_not_fit_says_what_would(value: Any, signature: Signature, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        to_inputs(value, signature)


def test_outputs_of_all_ranks_become_columns() -> None:
    outputs = {
        "label": np.array([b"a", b"b"], dtype=object),
        "one": np.array([[1], [2]]),
        "two": np.array([[1, 2], [3, 4]]),
        "cube": np.zeros((2, 2, 2)),
        "raw": np.array([b"\xff", b""], dtype=object),
    }
    response = Response("m", "v1", [to_tensor(name, array) for name, array in outputs.items()])
    frame = Prediction(response).to_pandas()
    assert frame.columns.tolist() == ["label", "one", "two_0", "two_1", "cube", "raw"]
    assert frame["label"].tolist() == ["a", "b"]
    assert frame["two_1"].tolist() == [2, 4]
    assert frame["cube"][1].shape == (2, 2)
    assert frame["raw"].tolist() == [b"\xff", b""]
