"""The codec of the Open Inference Protocol over HTTP: every datatype, both forms, and everything that is wrong."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import InvalidInput, MalformedRequest, SlipwayError, Unsupported
from slipway.infer.arrays import NUMPY, to_array
from slipway.infer.request import NEVER, BatchOutputs, Request, Response
from slipway.infer.tensor import DATATYPES, Tensor, pack_bytes, unpack_bytes
from slipway.transports.http import v2_json
from slipway.transports.http.v2_answers import encode_infer
from slipway.transports.http.v2_json import JSON_ONLY, Wanted, decode_infer

NOW = 1000.0


def decode(body: Any, *, json_bytes: int | None = None) -> tuple[Request, Wanted]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_infer(data, json_bytes=json_bytes, model="m", version="", now=NOW)


def one(datatype: str, shape: list[int], data: Any, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": data, **more}]}


def only(body: Any, **options: Any) -> Tensor:
    (tensor,) = decode(body, **options)[0].inputs
    return tensor


def nest(flat: list[Any], shape: list[int]) -> Any:
    """The row-major nesting of a flat list."""
    if len(shape) <= 1:
        return flat
    step = len(flat) // shape[0] if shape[0] else 0
    return [nest(flat[row * step : (row + 1) * step], shape[1:]) for row in range(shape[0])]


def integers(datatype: str) -> st.SearchStrategy[int]:
    bounds = np.iinfo(NUMPY[datatype])
    return st.integers(int(bounds.min), int(bounds.max))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    name: integers(name) for name, facts in DATATYPES.items() if facts.kind in "iu"
} | {
    "BOOL": st.booleans(),
    "FP16": st.floats(width=16, allow_nan=False, allow_infinity=False),
    "BF16": st.floats(width=32, allow_nan=False, allow_infinity=False).map(
        lambda item: struct.unpack("<f", b"\0\0" + struct.pack("<f", item)[2:])[0]
    ),
    "FP32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "FP64": st.floats(allow_nan=False, allow_infinity=False),
    "BYTES": st.text(max_size=5),
}
assert VALUES.keys() == DATATYPES.keys()


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, list[int], list[Any]]:
    datatype = draw(st.sampled_from(sorted(VALUES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    elements = math.prod(shape)
    return datatype, shape, draw(st.lists(VALUES[datatype], min_size=elements, max_size=elements))


def raw(datatype: str, values: list[Any]) -> bytes:
    """What the protocol calls for, made in another way than the codec does."""
    if datatype == "BYTES":
        return pack_bytes([item.encode() for item in values])
    if datatype == "BF16":
        return b"".join(struct.pack("<f", item)[2:] for item in values)
    return np.array(values, NUMPY[datatype]).tobytes()


@contextmanager
def reader(*, large: bool) -> Iterator[None]:
    """Read every body as a large one (simdjson), or as a small one."""
    before, v2_json.LARGE_JSON_BYTES = v2_json.LARGE_JSON_BYTES, -1 if large else 2**60
    try:
        yield
    finally:
        v2_json.LARGE_JSON_BYTES = before


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@given(tensors(), st.booleans())
def test_every_datatype_comes_in_exactly(large: bool, given_: tuple[str, list[int], list[Any]], nested: bool) -> None:
    datatype, shape, values = given_
    with reader(large=large):
        tensor = only(one(datatype, shape, nest(values, shape) if nested else values))
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", datatype, tuple(shape))
    assert bytes(tensor.data) == raw(datatype, values)


@given(tensors())
def test_every_datatype_goes_out_and_comes_back(given_: tuple[str, list[int], list[Any]]) -> None:
    datatype, shape, values = given_
    tensor = Tensor("x", datatype, tuple(shape), raw(datatype, values))
    text, json_bytes = encode_infer(Response("m", "v1", [tensor]), JSON_ONLY)
    assert json_bytes is None
    answer = json.loads(text)
    assert (answer["model_name"], answer["model_version"]) == ("m", "v1")
    (output,) = answer["outputs"]
    assert bytes(only({"inputs": [output]}).data) == bytes(tensor.data)

    body, json_bytes = encode_infer(Response("m", "v1", [tensor, tensor]), Wanted(every=True))
    assert json_bytes is not None
    answer = json.loads(body[:json_bytes])
    sizes = [output["parameters"]["binary_data_size"] for output in answer["outputs"]]
    assert sizes == [len(tensor.data)] * 2
    assert body[json_bytes:] == bytes(tensor.data) * 2
    echoed, _ = decode(b'{"inputs":' + json.dumps(answer["outputs"]).encode() + b"}" + body[json_bytes:],
                       json_bytes=len(json.dumps(answer["outputs"])) + 11)  # fmt: skip
    assert [bytes(item.data) for item in echoed.inputs] == [bytes(tensor.data)] * 2


@given(st.lists(tensors(), min_size=1, max_size=4), st.data())
def test_json_and_binary_inputs_may_be_mixed(given_: list[tuple[str, list[int], list[Any]]], data: Any) -> None:
    inputs, tail, expected = [], b"", []
    for number, (datatype, shape, values) in enumerate(given_):
        piece = raw(datatype, values)
        entry: dict[str, Any] = {"name": str(number), "datatype": datatype, "shape": shape}
        if data.draw(st.booleans()):
            entry["parameters"] = {"binary_data_size": len(piece)}
            tail += piece
        else:
            entry["data"] = values
        inputs.append(entry)
        expected.append((str(number), datatype, tuple(shape), piece))
    head = json.dumps({"inputs": inputs}).encode()
    request, _ = decode(head + tail, json_bytes=len(head))
    assert [(t.name, t.datatype, t.shape, bytes(t.data)) for t in request.inputs] == expected


def outcome(body: bytes) -> Any:
    try:
        request, wanted = decode(body)
    except SlipwayError as error:
        return type(error)
    return [(t.name, t.datatype, t.shape, bytes(t.data)) for t in request.inputs], request.parameters, wanted


numbers = st.integers(-3, 300) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    numbers | st.booleans() | st.none() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)
nested = st.recursive(st.lists(numbers, max_size=4), lambda inner: st.lists(inner, max_size=4), max_leaves=6)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(0, 4), max_size=3) | anything,
    nested | anything,
)
def test_a_large_body_is_read_as_a_small_one_would_be(datatype: str, shape: Any, data: Any) -> None:
    body = json.dumps(one(datatype, shape, data)).encode()
    with reader(large=False):
        small = outcome(body)
    with reader(large=True):
        large = outcome(body)
    assert small == large


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"data":[2]}]}',
        '{"inputs":[],"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[2]}]}',
        '{"inputs":[{"name":"y","name":"x","datatype":"FP32","shape":[9],"shape":[1],"data":[2]}]}',
    ],
)
def test_of_a_key_that_is_given_twice_the_last_counts_whatever_the_size(text: str) -> None:
    for large in (False, True):
        with reader(large=large):
            tensor = only(text.encode())
        assert (tensor.name, tensor.shape, bytes(tensor.data)) == ("x", (1,), struct.pack("<f", 2))


def test_64_bits_are_exact() -> None:
    low, high = -(2**63), 2**63 - 1
    for large in (False, True):
        with reader(large=large):
            assert struct.unpack("<3q", only(one("INT64", [3], [low, high, 2**53 + 1])).data) == (low, high, 2**53 + 1)
            assert struct.unpack("<2Q", only(one("UINT64", [2], [2**64 - 1, 2**63 + 1])).data) == (
                2**64 - 1,
                2**63 + 1,
            )
    tensor = Tensor("x", "UINT64", (2,), struct.pack("<2Q", 2**64 - 1, 2**63 + 1))
    assert b"[18446744073709551615,9223372036854775809]" in encode_infer(Response("m", "1", [tensor]), JSON_ONLY)[0]


def test_null_is_nan_for_floats_both_ways() -> None:
    for datatype in ("FP16", "BF16", "FP32", "FP64"):
        for large in (False, True):
            with reader(large=large):
                tensor = only(one(datatype, [2], [None, 1.5]))
            values = to_array(tensor)
            assert math.isnan(values[0])
            assert values[1] == 1.5
        assert b'"data":[null,1.5]' in encode_infer(Response("m", "1", [tensor]), JSON_ONLY)[0]


def test_bytes_that_are_no_text_go_out_as_binary_or_not_at_all() -> None:
    tensor = Tensor("x", "BYTES", (1,), pack_bytes([b"\xff\xfe"]))
    with pytest.raises(InvalidInput, match="binary"):
        encode_infer(Response("m", "1", [tensor]), JSON_ONLY)
    body, json_bytes = encode_infer(Response("m", "1", [tensor]), Wanted(binary=frozenset({"x"})))
    assert body[json_bytes:] == tensor.data


def test_rows_of_a_batch_are_written_as_if_alone() -> None:
    whole = [
        Tensor("a", "FP32", (3, 2), struct.pack("<6f", 0.1, -0.0, 1e30, math.nan, 5, 6)),
        Tensor("b", "INT64", (3,), struct.pack("<3q", 1, 2**62, -3)),
        Tensor("c", "BOOL", (3, 1), b"\1\0\1"),
        Tensor("d", "BF16", (3, 1), b"\x80\x3f\x00\x40\x40\x40"),
    ]
    batch = BatchOutputs(whole)
    batch.check(3)
    for row in range(3):
        together = encode_infer(Response("m", "v1", None, "id", batch=batch, row=row), JSON_ONLY)
        alone = encode_infer(Response("m", "v1", batch.cut(row, row + 1), "id"), JSON_ONLY)
        assert json.loads(together[0]) == json.loads(alone[0])


HUGE = 2**40
BAD_INPUTS: dict[str, tuple[Any, str]] = {
    "too few": (one("FP32", [3], [1, 2]), "2 elements.*calls for 3"),
    "too many": (one("FP32", [1], [1, 2]), "2 elements.*calls for 1"),
    "huge": (one("FP32", [HUGE, HUGE], [1, 2]), "larger than any tensor"),
    "huge and empty": (one("FP32", [0, HUGE, HUGE], []), "larger than any tensor"),
    "beyond 64 bits": (one("FP32", [2**70, 0], []), "larger than any tensor"),
    "large but not there": (one("FP32", [2**30], [1]), "calls for 1073741824"),
    "negative": (one("FP32", [-1, 4], [1, 2, 3, 4]), "cannot be negative"),
    "rank": (one("FP32", [1] * 99, [1]), "99 dimensions"),
    "float for int": (one("INT32", [1], [1.5]), "element 0: 1.5 is not a whole number"),
    "whole float for int": (one("INT32", [1], [1.0]), "not a whole number"),
    "bool for float": (one("FP32", [2], [1, True]), "element 1: true is not a number"),
    "bool for int": (one("UINT8", [2], [False, 1]), "element 0: false is not a whole number"),
    "number for bool": (one("BOOL", [2], [1, 2]), "element 1: 2 is not true or false"),
    "null for int": (one("INT64", [1], [None]), "null is not a whole number"),
    "null for text": (one("BYTES", [1], [None]), "strings, not None"),
    "number for text": (one("BYTES", [1], [5]), "strings, not 5"),
    "text for number": (one("FP64", [1], ["1"]), "'1' is not a number"),
    "overflow": (one("INT8", [2], [1, 128]), "element 1: 128 is out of the range of INT8"),
    "negative unsigned": (one("UINT64", [1], [-1]), "-1 is out of the range of UINT64"),
    "over uint64": (one("UINT64", [1], [2**64]), "out of the range of UINT64"),
    "under int64": (one("INT64", [1], [-(2**63) - 1]), "out of the range of INT64"),
    "float overflow": (one("FP32", [2], [1, 1e39]), "element 1: 1e\\+39 is out of the range of FP32"),
    "half overflow": (one("FP16", [1], [65520]), "out of the range of FP16"),
    "integer too large for a float": (one("FP64", [1], [10**400]), "element 0: 1000.*out of the range of FP64"),
    "object": (one("FP32", [1], [{"a": 1}]), "is not a number"),
    "no array": (one("FP32", [1], 5), "data is int, expected an array"),
    "text for array": (one("BYTES", [1], "a"), "data is str, expected an array"),
    "nested otherwise": (one("FP32", [2, 3], [[1, 2], [3, 4], [5, 6]]), "nests 2 elements.*says 3"),
    "ragged": (one("FP32", [2, 2], [[1, 2, 3], [4]]), "nests 3 elements.*says 2"),
    "half nested": (one("FP32", [2, 2], [[1, 2], 3]), "the single value 3"),
    "no data": ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}, "neither data nor binary"),
    "unknown datatype": (one("FLOAT32", [1], [1]), "unknown datatype 'FLOAT32', did you mean 'FP32'"),
    "nearly text": (one("string", [1], ["a"]), "did you mean 'BYTES'"),
    "no datatype at all": (one("", [1], [1]), "unknown datatype ''; known are BOOL"),
    "binary and data": (one("FP32", [1], [1], parameters={"binary_data_size": 4}), "both data and binary"),
    "binary size": (one("FP32", [1], [1], parameters={"binary_data_size": -4}), "-4, expected a number of bytes"),
    "binary flag": (one("FP32", [1], [1], parameters={"binary_data_size": True}), "True, expected a number"),
    "timeout": (one("FP32", [1], [1]) | {"parameters": {"timeout": "5"}}, "'timeout' is '5', expected microseconds"),
    "negative timeout": (one("FP32", [1], [1]) | {"parameters": {"timeout": -5}}, "'timeout' is -5; it cannot be"),
    "long timeout": (one("FP32", [1], [1]) | {"parameters": {"timeout": 10**400}}, "'timeout' is 1000"),
    "priority": (one("FP32", [1], [1]) | {"parameters": {"priority": -1}}, "'priority' is -1"),
    "output flag": (one("FP32", [1], [1]) | {"parameters": {"binary_data_output": "yes"}}, "expected true or false"),
    "one output's flag": (
        one("FP32", [1], [1]) | {"outputs": [{"name": "y", "parameters": {"binary_data": "no"}}]},
        "'no', expected true or false",
    ),
}  # fmt: skip


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(("body", "words"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_input_is_told_what_is_wrong(body: Any, words: str, large: bool) -> None:
    with reader(large=large), pytest.raises(InvalidInput, match=words):
        decode(body)


MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not JSON"),
    "text": (b"hello", r"not JSON.*\(byte 0\)"),
    "cut": (b'{"inputs":[{"name":"x"', "not JSON: Input data was truncated"),
    "position": (b'{"inputs":[}', r"\(byte 11\)"),
    "array": (b"[]", "Expected `object`, got `array`"),
    "no inputs": (b"{}", "missing required field `inputs`"),
    "near": (b'{"imputs":[]}', "did you mean `inputs`"),
    "near in input": (b'{"inputs":[{"name":"x","datatyp":"FP32"}]}', "did you mean `datatype`"),
    "far": (b'{"inputs":[],"qqq":1}', "known are data, datatype"),
    "shape": (b'{"inputs":[{"name":"x","datatype":"FP32","shape":"4","data":[1]}]}', r"\$.inputs\[0\].shape"),
    "shape of floats": (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1.5],"data":[1]}]}', "Expected `int`"),
    "id": (b'{"inputs":[],"id":7}', r"Expected `str`, got `int` - at `\$.id`"),
    "nan": (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[NaN]}]}', "not JSON"),
    "infinite": (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1e999]}]}', "out of range"),
    "utf-8": (b'{"inputs":[],"id":"\xff\xfe"}', "not JSON"),
    "surrogate": (b'{"inputs":[],"id":"\\ud800"}', "not JSON"),
    "deep": (b'{"inputs":' + b"[" * 100_000, "Expected `object`, got `array`"),
    "deep data": (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}]}",
        "nested too deeply",
    ),
    "deep parameters": (b'{"inputs":[],"parameters":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}", "nested too deeply"),
    "trailing": (b'{"inputs":[]} x', "trailing"),
}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(("body", "words"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_infer_request_is_told_where(body: bytes, words: str, large: bool) -> None:
    with reader(large=large), pytest.raises(MalformedRequest, match=words):
        decode(body)


BINARY = one("INT16", [2], None)["inputs"][0] | {"parameters": {"binary_data_size": 4}}
del BINARY["data"]


@pytest.mark.parametrize(
    ("changes", "tail", "words"),
    [
        ({}, b"123", "binary_data_size is 4, but only 3 bytes"),
        ({}, b"12345", "5 bytes follow the JSON.*add up to 4"),
        ({"shape": [3]}, b"1234", "4 bytes of data, but shape \\[3\\] of INT16 takes 6"),
        ({"datatype": "BYTES"}, b"1234", "says it is"),
        ({"datatype": "BYTES", "shape": [2]}, b"\0\0\0\0", "holds 1 BYTES elements.*calls for 2"),
        ({"datatype": "BYTES", "parameters": {"binary_data_size": 3}}, b"\0\0\0", "ends inside a length prefix"),
    ],
)
def test_binary_that_does_not_fit(changes: dict[str, Any], tail: bytes, words: str) -> None:
    head = json.dumps({"inputs": [BINARY | changes]}).encode()
    with pytest.raises(MalformedRequest, match=words):
        decode(head + tail, json_bytes=len(head))


@pytest.mark.parametrize("wrong", [-1, 1, 10**6])
def test_a_wrong_length_of_the_json_part(wrong: int) -> None:
    head = json.dumps({"inputs": [BINARY]}).encode()
    with pytest.raises(MalformedRequest):
        decode(head + b"1234", json_bytes=len(head) + wrong)


def test_binary_without_the_header_is_told_so() -> None:
    with pytest.raises(MalformedRequest, match="only 0 bytes are left"):
        decode({"inputs": [BINARY]})


@given(st.binary(max_size=60), st.integers(0, 80) | st.none())
def test_random_bytes_are_refused_politely(body: bytes, json_bytes: int | None) -> None:
    with pytest.raises(SlipwayError):
        decode(body, json_bytes=json_bytes)


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_request_is_read_or_refused(data: Any) -> None:
    body = bytearray(json.dumps(one("FP32", [2, 2], [[1.5, 2], [3, 4e5]]) | {"id": "a", "parameters": {}}).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for large in (False, True):
        with reader(large=large):
            outcome(bytes(body))  # anything but SlipwayError is a bug


def test_what_a_request_may_say_beside_its_inputs() -> None:
    body = one("FP32", [1], [1]) | {
        "id": "r1",
        "outputs": [{"name": "b"}, {"name": "a", "parameters": {"binary_data": True}}],
        "parameters": {"timeout": 2_500_000, "priority": 3, "mine": [1]},
    }
    request, wanted = decode(body)
    assert (request.id, request.outputs, request.deadline, request.priority) == ("r1", ("b", "a"), NOW + 2.5, 3)
    assert request.parameters == {"mine": [1]}  # the rest was for the server
    assert (wanted.every, wanted.binary) == (False, {"a"})


@pytest.mark.parametrize("timeout", [0, 0.0, None])
def test_no_timeout(timeout: float) -> None:
    request, _ = decode(one("FP32", [1], [1]) | {"parameters": {"timeout": timeout}})
    assert (request.deadline, request.parameters) == (NEVER, None)


@pytest.mark.parametrize(
    "more",
    [
        {"outputs": [{"name": "y", "parameters": {"classification": 2}}]},
        {"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"shared_memory_region": "r"}}]},
        {"parameters": {"sequence_id": 7}},
    ],
)
def test_parts_of_the_protocol_that_are_not_here_are_refused_as_such(more: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        decode(one("FP32", [1], [1]) | more)


def test_all_but_one_in_binary() -> None:
    body = one("FP32", [1], [1]) | {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    }
    _, wanted = decode(body)
    outputs = [Tensor("a", "INT8", (1,), b"\5"), Tensor("b", "INT8", (1,), b"\6")]
    text, json_bytes = encode_infer(Response("m", "1", outputs), wanted)
    assert text[json_bytes:] == b"\5"
    assert json.loads(text[:json_bytes])["outputs"][1]["data"] == [6]


def test_large_arrays_come_in_and_out_unchanged() -> None:
    rng = np.random.default_rng(7)
    array = rng.standard_normal((3, 5, 1000)).astype("f4")
    for data in (array.reshape(-1).tolist(), array.tolist()):
        assert bytes(only(one("FP32", [3, 5, 1000], data)).data) == array.tobytes()
    text, _ = encode_infer(Response("m", "1", [Tensor("x", "FP32", (3, 5, 1000), array.tobytes())]), JSON_ONLY)
    assert np.array_equal(np.array(json.loads(text)["outputs"][0]["data"], "f4"), array.reshape(-1))
    words = [f"w{number}" for number in range(20_000)]
    assert unpack_bytes(only(one("BYTES", [20_000], words))) == [word.encode() for word in words]
