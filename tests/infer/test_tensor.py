"""Tensors as bytes: packing, cutting and joining rows, and what is said about bytes that cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import MalformedRequest
from slipway.infer.tensor import (
    DATATYPES,
    Tensor,
    check_size,
    join_rows,
    pack_bytes,
    row_offsets,
    take_rows,
    unpack_bytes,
)

FIXED = sorted(name for name, facts in DATATYPES.items() if facts.item_bytes)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    datatype = draw(st.sampled_from(sorted(DATATYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    tensor = Tensor("t", datatype, shape, b"")
    item_bytes = DATATYPES[datatype].item_bytes
    if item_bytes:
        size = tensor.elements * item_bytes
        tensor.data = draw(st.binary(min_size=size, max_size=size))
    else:
        elements = st.lists(st.binary(max_size=9), min_size=tensor.elements, max_size=tensor.elements)
        tensor.data = pack_bytes(draw(elements))
    return tensor


@given(st.lists(st.binary(max_size=20)))
def test_packed_elements_come_back(elements: list[bytes]) -> None:
    assert unpack_bytes(Tensor("t", "BYTES", (len(elements),), pack_bytes(elements))) == elements


@given(tensors(), st.data())
def test_rows_that_were_cut_join_to_what_was_cut(tensor: Tensor, data: st.DataObject) -> None:
    check_size(tensor)
    rows = tensor.shape[0]
    cut = data.draw(st.integers(0, rows))
    parts = [take_rows(tensor, 0, cut), take_rows(tensor, cut, rows)]
    for part in parts:
        check_size(part)
    joined = join_rows(parts)
    assert joined.shape == tensor.shape
    assert bytes(joined.data) == bytes(tensor.data)


@given(tensors())
def test_row_offsets_span_the_data(tensor: Tensor) -> None:
    offsets = row_offsets(tensor)
    assert len(offsets) == tensor.shape[0] + 1
    assert offsets == sorted(offsets)
    if tensor.shape[0]:
        assert (offsets[0], offsets[-1]) == (0, len(tensor.data))


@pytest.mark.parametrize("datatype", FIXED)
def test_a_size_that_does_not_match_is_refused_with_both_numbers(datatype: str) -> None:
    wanted = 6 * DATATYPES[datatype].item_bytes
    with pytest.raises(MalformedRequest, match=rf"'x' has {wanted + 1} bytes .* takes {wanted}"):
        check_size(Tensor("x", datatype, (2, 3), bytes(wanted + 1)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01\x00", "ends inside a length prefix at byte 0"),
        (b"\x05\x00\x00\x00abc", "says it is 5 bytes long, but only 3 follow"),
        (pack_bytes([b"a", b"b"]), r"holds 2 BYTES elements, but its shape \[3\] calls for 3"),
    ],
)
def test_damaged_bytes_tensors_say_where(data: bytes, message: str) -> None:
    with pytest.raises(MalformedRequest, match=message):
        check_size(Tensor("x", "BYTES", (3,), data))


def test_joining_one_part_copies_nothing() -> None:
    tensor = Tensor("x", "FP32", (1, 2), b"12345678")
    assert join_rows([tensor]) is tensor
