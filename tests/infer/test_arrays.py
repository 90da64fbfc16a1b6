"""Tensors to numpy and back: every datatype, empty, big-endian, not contiguous, unaligned; and what is refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slipway.errors import InvalidInput, InvalidOutput
from slipway.infer.arrays import NUMPY, SHARE_FROM_BYTES, datatype_of, to_array, to_tensor
from slipway.infer.tensor import Tensor, check_size

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = NUMPY[draw(st.sampled_from(sorted(NUMPY)))]
    array = draw(hnp.arrays(dtype.newbyteorder(draw(st.sampled_from("<>"))), draw(SHAPES)))
    if array.ndim and draw(st.booleans()):
        array = array[::-1]
    if draw(st.booleans()):
        array = array.T
    return array


@given(arrays(), st.booleans())
def test_numbers_come_back_bit_by_bit(array: np.ndarray, share: bool) -> None:
    tensor = to_tensor("x", array, share=share)
    check_size(tensor)
    assert tensor.datatype == datatype_of(array.dtype)
    back = to_array(tensor)
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


@given(hnp.arrays(object, SHAPES, elements=st.binary(max_size=8)))
def test_bytes_come_back(array: np.ndarray) -> None:
    tensor = to_tensor("x", array)
    check_size(tensor)
    assert (tensor.datatype, tensor.shape) == ("BYTES", array.shape)
    assert to_array(tensor).tolist() == array.tolist()


@given(hnp.arrays(np.uint16, SHAPES))
def test_every_bfloat16_survives_the_way_through_float32(bits: np.ndarray) -> None:
    values = bits.view(ml_dtypes.bfloat16)
    tensor = to_tensor("x", values)
    assert (tensor.datatype, tensor.shape) == ("BF16", bits.shape)
    single = to_array(tensor)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, values.astype(np.float32))
    again = to_array(to_tensor("x", single, datatype="BF16"))
    np.testing.assert_array_equal(again, single)


@given(hnp.arrays(np.float32, 8, elements=st.floats(width=32)))
def test_rounding_to_bfloat16_is_that_of_the_reference(array: np.ndarray) -> None:
    ours = to_array(to_tensor("x", array, datatype="BF16"))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(ours, array.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize(
    "text",
    [
        np.array(["å", "b\0c", ""]),
        np.array(["å", "b\0c", ""], dtype=object),
        np.array(["å".encode(), b"b\0c", b""], dtype=object),
        np.array(["å", "b\0c", ""], dtype=np.dtypes.StringDType()),
    ],
)
def test_text_of_every_kind_becomes_utf8(text: np.ndarray) -> None:
    assert to_array(to_tensor("x", text)).tolist() == ["å".encode(), b"b\0c", b""]


def test_unaligned_data_is_made_safe() -> None:
    buffer = bytearray(33)
    buffer[1:5] = np.float32(2.5).tobytes()
    array = to_array(Tensor("x", "FP32", (2, 4), memoryview(buffer)[1:]))
    assert array.flags.aligned
    assert array[0, 0] == 2.5


def test_an_array_is_writable_exactly_where_its_bytes_are() -> None:
    assert to_array(Tensor("x", "FP32", (1,), memoryview(bytearray(4)))).flags.writeable
    assert not to_array(Tensor("x", "FP32", (1,), bytes(4))).flags.writeable


def test_only_large_contiguous_arrays_are_shared() -> None:
    large = np.zeros((SHARE_FROM_BYTES, 2), "<f4")
    assert isinstance(to_tensor("x", large, share=True).data, memoryview)
    assert isinstance(to_tensor("x", large).data, bytes)
    assert isinstance(to_tensor("x", large[:, ::2], share=True).data, bytes)
    assert isinstance(to_tensor("x", large[:2], share=True).data, bytes)


@pytest.mark.parametrize(
    ("value", "datatype", "message"),
    [
        (np.zeros(2, complex), None, "dtype complex128, which no protocol"),
        (np.array(["2020-01-01"], "M8[D]"), None, "which no protocol"),
        ([[1], [1, 2]], None, "cannot be read as an array"),
        ([None], None, "holds a NoneType"),
        (["a"], "FP32", "does not become FP32 without loss"),
        ([1.5], "INT64", "float64, which does not become INT64 without loss"),
        ([300], "UINT8", "holds 300 to 300, which do not all fit into UINT8"),
        ([-1], "UINT64", "do not all fit into UINT64"),
        ([1], "BOOL", "does not become BOOL"),
    ],
)
def test_what_would_lose_something_is_refused(value: object, datatype: str | None, message: str) -> None:
    with pytest.raises(InvalidOutput, match=message):
        to_tensor("x", value, datatype=datatype)
    with pytest.raises(InvalidInput, match=message):
        to_tensor("x", value, datatype=datatype, error=InvalidInput)


@pytest.mark.parametrize(
    ("value", "datatype", "wanted"),
    [
        ([1, 2], "UINT8", [1, 2]),
        ([True, False], "INT64", [1, 0]),
        ([1, 2], "FP32", [1.0, 2.0]),
        (np.array([1.5], "f8"), "FP16", [1.5]),
        (np.array([1, 2.5], dtype=object), "FP64", [1.0, 2.5]),
        ([], "INT64", []),
        ([1, 2.5], "BYTES", [b"1.0", b"2.5"]),
        (np.zeros(1, ml_dtypes.bfloat16), "FP32", [0.0]),
    ],
)
def test_what_loses_nothing_is_converted(value: object, datatype: str, wanted: list[object]) -> None:
    tensor = to_tensor("x", value, datatype=datatype)
    assert tensor.datatype == datatype
    assert to_array(tensor).tolist() == wanted
