"""What flows: a tensor is a name, a datatype, a shape and its bytes.

The bytes are little-endian, row-major and contiguous: exactly the Open Inference Protocol's raw form. So rows
of several requests become one batch by joining bytes, a batch is split by slicing them, and neither the
gateway nor the wire needs to know what a number is. `infer.arrays` has the bridge to numpy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import msgspec

from slipway.errors import MalformedRequest

Buffer = bytes | bytearray | memoryview


class DatatypeFacts(NamedTuple):
    item_bytes: int  # 0: variable, each element has a length prefix of four bytes
    typecode: str  # of `array` and `struct`; '' where neither has it
    kind: str  # b(ool) i(nteger) u(nsigned) f(loat) s(tring of bytes)


DATATYPES: dict[str, DatatypeFacts] = {
    "BOOL": DatatypeFacts(1, "B", "b"),
    "UINT8": DatatypeFacts(1, "B", "u"),
    "UINT16": DatatypeFacts(2, "H", "u"),
    "UINT32": DatatypeFacts(4, "I", "u"),
    "UINT64": DatatypeFacts(8, "Q", "u"),
    "INT8": DatatypeFacts(1, "b", "i"),
    "INT16": DatatypeFacts(2, "h", "i"),
    "INT32": DatatypeFacts(4, "i", "i"),
    "INT64": DatatypeFacts(8, "q", "i"),
    "FP16": DatatypeFacts(2, "", "f"),
    "BF16": DatatypeFacts(2, "", "f"),
    "FP32": DatatypeFacts(4, "f", "f"),
    "FP64": DatatypeFacts(8, "d", "f"),
    "BYTES": DatatypeFacts(0, "", "s"),
}
"""The datatypes of the Open Inference Protocol v2 (section "Tensor Data Types")."""

MAX_RANK = 32
"""Dimensions at most: what every numpy can hold, and few enough that their product is soon computed."""


class Tensor(msgspec.Struct, gc=False):
    """`shape`: every dimension ≥ 0. `data`: raw bytes, as this module's docstring says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer

    @property
    def elements(self) -> int:
        return prod(self.shape)


def check_size(tensor: Tensor) -> None:
    """Raise MalformedRequest unless the bytes are exactly what datatype and shape call for."""
    item_bytes = DATATYPES[tensor.datatype].item_bytes
    elements = tensor.elements
    if item_bytes:
        if len(tensor.data) != elements * item_bytes:
            raise MalformedRequest(
                f"tensor {tensor.name!r} has {len(tensor.data)} bytes of data, but shape "
                f"{list(tensor.shape)} of {tensor.datatype} takes {elements * item_bytes}"
            )
        return
    found = sum(1 for _ in bytes_spans(tensor))
    if found != elements:
        raise MalformedRequest(
            f"tensor {tensor.name!r} holds {found} BYTES elements, but its shape {list(tensor.shape)} "
            f"calls for {elements}"
        )


def pack_bytes(elements: Iterable[bytes]) -> bytes:
    """Elements of a BYTES tensor to its raw form: each with its length in four little-endian bytes before it."""
    parts: list[bytes] = []
    for element in elements:
        parts.append(len(element).to_bytes(4, "little"))
        parts.append(element)
    return b"".join(parts)


def bytes_spans(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """(start, stop) of each element of a BYTES tensor in its raw data. Raises MalformedRequest."""
    view, at, size = memoryview(tensor.data), 0, len(tensor.data)
    while at < size:
        if at + 4 > size:
            raise MalformedRequest(f"BYTES tensor {tensor.name!r} ends inside a length prefix at byte {at}")
        (length,) = struct.unpack_from("<I", view, at)
        if at + 4 + length > size:
            raise MalformedRequest(
                f"BYTES tensor {tensor.name!r}: the element at byte {at} says it is {length} bytes long, but "
                f"only {size - at - 4} follow"
            )
        yield at + 4, at + 4 + length
        at += 4 + length


def unpack_bytes(tensor: Tensor) -> list[bytes]:
    """The elements of a BYTES tensor, flat, in row-major order. Raises MalformedRequest."""
    view = memoryview(tensor.data)
    return [bytes(view[start:stop]) for start, stop in bytes_spans(tensor)]


def row_offsets(tensor: Tensor) -> list[int]:
    """Byte offset of each row (first dimension) in `data`, and the end: rows + 1 numbers."""
    rows = tensor.shape[0]
    item_bytes = DATATYPES[tensor.datatype].item_bytes
    row_elements = prod(tensor.shape[1:])
    if item_bytes:
        step = item_bytes * row_elements
        return [step * row for row in range(rows + 1)]
    if row_elements == 0:
        return [0] * (rows + 1)
    ends = [stop for _, stop in bytes_spans(tensor)]
    return [0] + [ends[(row + 1) * row_elements - 1] for row in range(rows)]


def take_rows(tensor: Tensor, start: int, stop: int) -> Tensor:
    """Rows start..stop (first dimension) as a tensor that shares the same bytes. No range check."""
    item_bytes = DATATYPES[tensor.datatype].item_bytes
    shape = tensor.shape
    if item_bytes:
        step = item_bytes * prod(shape[1:])
        first, last = start * step, stop * step
    else:
        offsets = row_offsets(tensor)
        first, last = offsets[start], offsets[stop]
    return Tensor(tensor.name, tensor.datatype, (stop - start, *shape[1:]), memoryview(tensor.data)[first:last])


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """One tensor with the rows of all parts, in order. They share name, datatype and shape[1:]."""
    first = parts[0]
    if len(parts) == 1:
        return first
    rows = sum(part.shape[0] for part in parts)
    return Tensor(first.name, first.datatype, (rows, *first.shape[1:]), b"".join([part.data for part in parts]))
