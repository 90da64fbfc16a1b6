"""Values that ONNX Runtime and numpy see differently: text, bfloat16, and maps of class to probability."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from slipway.errors import InvalidInput, InvalidOutput
from slipway.infer.arrays import NUMPY, Array
from slipway.infer.signature import TensorSpec
from slipway.infer.tensor import Tensor, unpack_bytes

_BFLOAT16 = 16  # TensorProto.DataType of onnx.proto
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")


def clean(error: Exception) -> str:
    """ONNX Runtime's words without its prefix and without the folders of the machine that built it."""
    text = _PREFIX.sub("", str(error).strip())
    text = re.sub(r"\S*/onnxruntime/\S+\.(?:cc|h)(?::\d+)?\s*", "", text)
    return " ".join(text.split()) or type(error).__name__


def text_array(tensor: Tensor) -> Array:
    """BYTES as an array of `str`, which is what ONNX Runtime takes for strings. Raises InvalidInput for no UTF-8."""
    elements: Array = np.empty(tensor.elements, dtype=object)
    for at, item in enumerate(unpack_bytes(tensor)):
        try:
            elements[at] = item.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"input {tensor.name!r}: element {at} is not UTF-8 text: {error}") from error
    return elements.reshape(tensor.shape)


def ort_value(value: Array | Tensor) -> Any:
    """An array, or a BF16 tensor as it is, as an OrtValue."""
    if isinstance(value, Tensor):
        bits: Array = np.frombuffer(value.data, "<u2").reshape(value.shape)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(value)


def from_ort_value(name: str, value: Any) -> Any:
    """The array in an OrtValue; a BF16 one as a tensor."""
    if not value.is_tensor() or value.data_type() != "tensor(bfloat16)":
        return value.numpy() if value.is_tensor() else value
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return Tensor(name, "BF16", tuple(value.shape()), data)


def class_matrix(spec: TensorSpec, classes: Sequence[Any], rows: Sequence[Mapping[Any, float]]) -> Array:
    """One map of class to probability a row, as a matrix with a column for each class, in the order of `classes`."""
    try:
        flat = [[row[each] for each in classes] for row in rows]
    except KeyError as error:
        raise InvalidOutput(
            f"the model's output {spec.name!r} has no probability for the class {error.args[0]!r} this time"
        ) from error
    return np.array(flat, NUMPY[spec.datatype]).reshape(len(rows), len(classes))
