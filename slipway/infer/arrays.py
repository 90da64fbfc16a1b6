"""The bridge between tensors and numpy. Apart from `infer.tensor` so that only those who compute import numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.errors import InvalidOutput
from slipway.infer.tensor import Tensor, pack_bytes, unpack_bytes

Array = npt.NDArray[Any]

NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in NUMPY.items()}


def datatype_of(dtype: np.dtype[Any]) -> str | None:
    """The protocol's name for a numpy dtype (text, bytes and object are BYTES), or None."""
    if dtype.kind in "OSUT":
        return "BYTES"
    if dtype.name == "bfloat16":
        return "BF16"
    return _NAMES.get(dtype.newbyteorder("<"))


def to_array(tensor: Tensor) -> Array:
    """A tensor as an array of its shape, without a copy where there is a fixed item size.

    BYTES becomes an object array of `bytes`. BF16, which numpy lacks, becomes float32 (exact: bfloat16 is the
    upper half of a float32).
    """
    if tensor.datatype == "BYTES":
        elements = np.empty(tensor.elements, dtype=object)
        elements[:] = unpack_bytes(tensor)
        return elements.reshape(tensor.shape)
    if tensor.datatype == "BF16":
        upper = np.frombuffer(tensor.data, "<u2").astype("<u4") << 16
        return upper.view("<f4").reshape(tensor.shape)
    return np.frombuffer(tensor.data, NUMPY[tensor.datatype]).reshape(tensor.shape)


def to_tensor(name: str, array: Array, *, datatype: str | None = None) -> Tensor:
    """An array (or what numpy makes one of) as a tensor; `datatype` converts where it differs.

    Raises InvalidOutput for a dtype that the protocol cannot carry (complex, dates, ragged).
    """
    array = np.asarray(array)
    if datatype == "BF16" or (datatype is None and array.dtype.name == "bfloat16"):
        return Tensor(name, "BF16", array.shape, _to_bfloat16(array))
    found = datatype or datatype_of(array.dtype)
    if found is None:
        raise InvalidOutput(f"tensor {name!r} has dtype {array.dtype}, which no protocol here can carry")
    if found == "BYTES":
        return Tensor(name, found, array.shape, pack_bytes(_as_bytes(name, item) for item in array.ravel()))
    wanted = NUMPY[found]
    if array.dtype != wanted:
        array = array.astype(wanted)
    return Tensor(name, found, array.shape, array.tobytes())


def _to_bfloat16(array: Array) -> bytes:
    """Round to nearest even, as hardware does; NaN stays NaN."""
    if array.dtype.name == "bfloat16":
        return array.tobytes()
    single = np.ascontiguousarray(array, dtype="<f4")
    bits = single.view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), 0x7FC0, rounded).astype("<u2").tobytes()


def _as_bytes(name: str, item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bool | int | float | np.generic):
        return str(item).encode()
    raise InvalidOutput(f"tensor {name!r} holds a {type(item).__name__}, which is neither text, bytes nor a number")
