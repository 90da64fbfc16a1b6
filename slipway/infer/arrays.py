"""The bridge between tensors and numpy. Apart from `infer.tensor` so that only those who compute import numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.errors import InvalidOutput, SlipwayError
from slipway.infer.tensor import Buffer, Tensor, pack_bytes, unpack_bytes

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

SHARE_FROM_BYTES = 65_536
"""A copy of fewer bytes than this is cheaper than a view of them."""


def datatype_of(dtype: np.dtype[Any]) -> str | None:
    """The protocol's name for a numpy dtype (text, bytes and object are BYTES), or None."""
    if dtype.kind in "OSUT":
        return "BYTES"
    if dtype.name == "bfloat16":
        return "BF16"
    return _NAMES.get(dtype.newbyteorder("<"))


def to_array(tensor: Tensor) -> Array:
    """A tensor as an array of its shape, without a copy where there is a fixed item size.

    The array is read-only where the bytes are. BYTES becomes an object array of `bytes`; BF16, which numpy lacks,
    becomes float32 (exact: bfloat16 is the upper half of a float32).
    """
    datatype = tensor.datatype
    if datatype == "BYTES":
        elements = np.empty(tensor.elements, dtype=object)
        elements[:] = unpack_bytes(tensor)
        return elements.reshape(tensor.shape)
    if datatype == "BF16":
        upper = np.frombuffer(tensor.data, "<u2").astype("<u4") << 16
        return upper.view("<f4").reshape(tensor.shape)
    array: Array = np.ndarray(tensor.shape, NUMPY[datatype], tensor.data)
    return array if array.flags.aligned else array.copy()


def to_tensor(
    name: str,
    array: Any,
    *,
    datatype: str | None = None,
    share: bool = False,
    error: type[SlipwayError] = InvalidOutput,
) -> Tensor:
    """An array (or what numpy makes one of) as a tensor; `datatype` converts where nothing is lost but precision.

    `share`: a large tensor may be a view of the array, for those who know that nobody writes to it any more.
    Raises `error` for what no tensor can carry (complex, dates, ragged) and for a conversion that would lose more
    than precision (text to numbers, fractions to integers, integers out of range).
    """
    try:
        array = np.asarray(array)
    except (ValueError, TypeError) as refusal:
        raise error(f"tensor {name!r} cannot be read as an array: {refusal}") from refusal
    found = datatype_of(array.dtype)
    wanted = datatype or found
    if wanted is None or found is None:
        raise error(f"tensor {name!r} has dtype {array.dtype}, which no protocol here can carry")
    if wanted == "BYTES":
        return Tensor(name, wanted, array.shape, pack_bytes([_as_bytes(name, item, error) for item in array.flat]))
    if wanted != found:
        array = _convert(name, array, wanted, error)
    if wanted == "BF16":
        return Tensor(name, wanted, array.shape, _to_bfloat16(array))
    dtype = NUMPY[wanted]
    if array.dtype != dtype:
        array = array.astype(dtype)
    return Tensor(name, wanted, array.shape, raw_bytes(array, share=share))


def raw_bytes(array: Array, *, share: bool = False) -> Buffer:
    """The array's bytes in row-major order; a view of them where `share` is set and there are many."""
    if share and array.nbytes >= SHARE_FROM_BYTES and array.flags.c_contiguous:
        return array.reshape(-1).view(np.uint8).data
    return array.tobytes()


def _convert(name: str, array: Array, wanted: str, error: type[SlipwayError]) -> Array:
    """To the numpy dtype of `wanted` (float32 for BF16), or `error`."""
    dtype = NUMPY.get(wanted, NUMPY["FP32"])
    if array.dtype.kind == "O" and all(isinstance(item, bool | int | float | np.number) for item in array.flat):
        array = np.array(array.tolist()).reshape(array.shape)
    kind = array.dtype.kind
    if array.dtype.name == "bfloat16":
        array, kind = array.astype(np.float32), "f"
    if kind in "biu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise error(f"tensor {name!r} holds {array.min()} to {array.max()}, which do not all fit into {wanted}")
        return array.astype(dtype)
    if (kind in "biuf" and dtype.kind == "f") or (array.size == 0 and kind in "Of"):
        with np.errstate(over="ignore"):
            return array.astype(dtype)
    raise error(f"tensor {name!r} has dtype {array.dtype}, which does not become {wanted} without loss")


def _to_bfloat16(array: Array) -> bytes:
    """Round to nearest even, as hardware does; NaN stays NaN."""
    if array.dtype.name == "bfloat16":
        return array.tobytes()
    single = np.ascontiguousarray(array, dtype="<f4")
    bits = single.view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), 0x7FC0, rounded).astype("<u2").tobytes()


def _as_bytes(name: str, item: object, error: type[SlipwayError]) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode(errors="surrogatepass")
    if isinstance(item, bool | int | float | np.generic):
        return str(item).encode()
    raise error(f"tensor {name!r} holds a {type(item).__name__}, which is neither text, bytes nor a number")
