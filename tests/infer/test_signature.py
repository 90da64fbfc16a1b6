"""Requests against signatures: what passes, how many rows it has, and the words for what does not."""

from __future__ import annotations

import pytest

from slipway.errors import InvalidInput
from slipway.infer.signature import Signature, TensorSpec, batch_key, count_rows
from slipway.infer.tensor import Tensor

Y = (TensorSpec("y", "FP32", (-1,)),)
ONE = Signature((TensorSpec("x", "FP32", (-1, 4), ("FP64",)),), Y)
TWO = Signature((TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT64", (-1,), optional=True)), Y)
TABLE = Signature(
    (TensorSpec("input", "FP64", (-1, 2)),),
    Y,
    columns=(TensorSpec("age", "FP64", (-1,), column=True), TensorSpec("height", "FP64", (-1,), column=True)),
)
ALONE = Signature((TensorSpec("x", "FP32", ()),), (TensorSpec("y", "FP32", ()),), batchable=False)
ALL_OPTIONAL = Signature((TensorSpec("x", "FP32", (-1,), optional=True),), Y)


def tensor(name: str, datatype: str, *shape: int) -> Tensor:
    return Tensor(name, datatype, shape, b"")


@pytest.mark.parametrize(
    ("signature", "inputs", "rows"),
    [
        (ONE, [tensor("x", "FP32", 3, 4)], 3),
        (ONE, [tensor("x", "FP64", 0, 4)], 0),
        (TWO, [tensor("b", "INT64", 5), tensor("a", "FP32", 5, 2)], 5),
        (TWO, [tensor("a", "FP32", 5, 2)], 5),
        (TABLE, [tensor("input", "FP64", 2, 2)], 2),
        (TABLE, [tensor("age", "FP64", 2), tensor("height", "FP64", 2, 1)], 2),
        (ALONE, [tensor("x", "FP32")], 1),
        (ALL_OPTIONAL, [], 1),
    ],
)
def test_rows_of_what_fits(signature: Signature, inputs: list[Tensor], rows: int) -> None:
    assert count_rows(signature, inputs) == rows


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        (ONE, [], r"missing input 'x' \(FP32 \[-1, 4\]\)"),
        (ONE, [tensor("X", "FP32", 1, 4)], r"unknown input 'X', did you mean 'x'\? the model takes 'x' \(FP32"),
        (ONE, [tensor("x", "INT8", 1, 4)], "datatype INT8, expected FP32 or FP64"),
        (ONE, [tensor("x", "FP32", 1, 5)], r"shape \[1, 5\], expected \[-1, 4\]"),
        (ONE, [tensor("x", "FP32", 4)], r"shape \[4\], expected \[-1, 4\]"),
        (ONE, [tensor("x", "FP32", 1, 4), tensor("x", "FP32", 1, 4)], "'x' is given twice"),
        (TWO, [tensor("b", "INT64", 5)], "missing input 'a'"),
        (TWO, [tensor("a", "FP32", 5, 2), tensor("b", "INT64", 4)], "'b' has 4 rows, but input 'a' has 5"),
        (TABLE, [tensor("age", "FP64", 2)], "missing input 'height'"),
        (TABLE, [tensor("age", "FP64", 2, 2), tensor("height", "FP64", 2)], r"shape \[2, 2\], expected \[-1\]"),
        (TABLE, [tensor("weight", "FP64", 2)], "did you mean 'height'.*'input'.* or column by column: 'age'"),
        (TABLE, [tensor("input", "FP64", 2, 2), tensor("age", "FP64", 2)], "unknown input 'age'"),
    ],
)
def test_what_does_not_fit_is_named(signature: Signature, inputs: list[Tensor], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        count_rows(signature, inputs)


def test_only_equal_forms_share_a_batch() -> None:
    key = batch_key([tensor("x", "FP32", 3, 4)])
    assert key == batch_key([tensor("x", "FP32", 7, 4)])
    assert key != batch_key([tensor("x", "FP64", 3, 4)])
    assert key != batch_key([tensor("x", "FP32", 3, 5)])
