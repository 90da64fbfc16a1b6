"""The typed form of a tensor's data (`InferTensorContents`) to and from the raw form that we use inside.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md, section
"Tensor Data". Half floats have no typed form.
"""

from __future__ import annotations

import struct
from typing import Any

from slipway.errors import InvalidInput, MalformedRequest
from slipway.infer.protobuf.messages import Message
from slipway.infer.tensor import DATATYPES, Tensor, pack_bytes, unpack_bytes

FIELD: dict[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Which field of the contents holds which datatype."""


def pack_contents(name: str, datatype: str, elements: int, contents: Message) -> bytes:
    """The raw form of one input's typed contents.

    Raises InvalidInput for a datatype without a typed form and a number out of range, MalformedRequest for a
    field that does not belong to the datatype and for a count that does not match `elements`.
    """
    field = FIELD.get(datatype)
    if field is None:
        raise InvalidInput(f"input {name!r}: {datatype} has no typed contents; send it in raw_input_contents")
    for found, _ in contents.ListFields():
        if found.name != field:
            raise MalformedRequest(f"input {name!r} of {datatype} takes {field}, but {found.name} came")
    values = getattr(contents, field)
    if len(values) != elements:
        raise MalformedRequest(
            f"input {name!r} has {len(values)} elements in {field}, but its shape calls for {elements}"
        )
    if datatype == "BYTES":
        return pack_bytes(values)
    code = DATATYPES[datatype].typecode
    try:
        return struct.pack(f"<{elements}{code}", *values)
    except struct.error:
        place, value = _first_misfit(values, code)
        raise InvalidInput(f"input {name!r}: element {place} is {value}, which {datatype} cannot hold") from None


def has_typed_form(tensor: Tensor) -> bool:
    return tensor.datatype in FIELD


def unpack_contents(tensor: Tensor, contents: Message) -> None:
    """Fill `contents` with the elements of a tensor that has a typed form."""
    values = getattr(contents, FIELD[tensor.datatype])
    if tensor.datatype == "BYTES":
        values.extend(unpack_bytes(tensor))
    elif tensor.datatype == "BOOL":
        values.extend(map(bool, bytes(tensor.data)))
    else:
        values.extend(struct.unpack(f"<{tensor.elements}{DATATYPES[tensor.datatype].typecode}", tensor.data))


def _first_misfit(values: Any, code: str) -> tuple[int, Any]:
    for place, value in enumerate(values):
        try:
            struct.pack(f"<{code}", value)
        except struct.error:
            return place, value
    raise AssertionError("every element fits alone")
