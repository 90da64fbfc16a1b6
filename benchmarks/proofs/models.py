"""Models of any size, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tiny(path: Path, *, bias: float = 0.0) -> Path:
    """`y = x·w + bias`, four numbers in, two out."""
    return _linear(path, np.ones((4, 2), np.float32), bias)


def large(path: Path, *, megabytes: int, bias: float) -> Path:
    """A square matrix of so many megabytes; its first row is all it is asked for."""
    side = int((megabytes * 2**20 / 4) ** 0.5)
    return _linear(path, np.random.default_rng(0).random((side, side), np.float32), bias)


def _linear(path: Path, weights: np.ndarray, bias: float) -> Path:
    rows, columns = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", columns])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.full((1, columns), bias, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path
