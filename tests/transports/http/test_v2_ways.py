"""The short ways of the codec mean what the long ways mean, and no request makes either work for long."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import BadRequest, InvalidInput
from slipway.infer.request import BatchOutputs, Response
from slipway.infer.signature import Signature, TensorSpec, count_rows
from slipway.infer.tensor import DATATYPES, Tensor, pack_bytes
from slipway.transports.http import v2_json, v2_numbers
from slipway.transports.http.v2_answers import encode_infer
from slipway.transports.http.v2_json import JSON_ONLY, Wanted, decode_infer

# --- small and large ----------------------------------------------------------------------------------------------


def read(body: bytes, *, large: bool) -> object:
    """What it means, or what kind of error it is."""
    padded = body + b" " * 40_000 if large else body  # white space is no part of the meaning, but of the size
    assert large == (len(padded) > v2_json.LARGE_JSON_BYTES)
    try:
        request, wanted = decode_infer(padded, json_bytes=None, model="m", version="", now=0.0)
    except BadRequest as error:
        return type(error)
    inputs = [(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data)) for tensor in request.inputs]
    return inputs, request.id, request.outputs, request.parameters, request.deadline, wanted


def text(*, datatype: str = "INT32", shape: str = "[3]", data: str = "[1,2,3]", more: str = "") -> bytes:
    return f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}{more}}}]}}'.encode()


SAME = {
    "flat": text(),
    "nested": text(shape="[3,1]", data="[[1],[2],[3]]"),
    "an empty array makes up for a long one": text(data="[1,[2,3],[]]"),
    "so, too, in a row": text(shape="[1,3]", data="[[1,[2,3],[]]]"),
    "so, too, as a row": text(shape="[3,1]", data="[[1],[2,3],[]]"),
    "nested deeper than shaped": text(data="[[1,2,3]]"),
    "nested otherwise": text(shape="[2,3]", data="[[1,2],[3,4],[5,6]]"),
    "with white space": text(data="[1,[2,3],[ \n]]"),
    "deep parameters": text(more=f',"parameters":{{"a":{"[" * 900}{"]" * 900}}}'),
    "flat for a scalar": text(shape="[]", data="[1]"),
    "nested for a scalar": text(shape="[]", data="[[1]]"),
    "two for a scalar": text(shape="[]", data="[[1,2],[3]]"),
    "empty": text(shape="[0]", data="[]"),
    "empty rows": text(shape="[2,0]", data="[[],[]]"),
    "no rows": text(shape="[0,4]", data="[]"),
    "byte order mark": b"\xef\xbb\xbf" + text(),
    "zero byte behind": text() + b"\0",
    "given twice": text(more=',"data":[4,5,6]'),
    "given twice, first wrong": text(data='"no"', more=',"data":[4,5,6]'),
    "inputs given twice": b'{"inputs":5,' + text()[1:],
    "minus zero": text(datatype="FP32", data="[-0,-0.0,0e5]"),
    "exponents": text(datatype="FP64", data="[1E3,2e-3,1.5e+2]"),
    "whole floats": text(data="[1.0,2,3]"),
    "large integers as floats": text(datatype="FP64", data="[9007199254740993,18446744073709551615,1]"),
    "beyond 64 bits as floats": text(datatype="FP64", data="[18446744073709551616,-9223372036854775809,1e308]"),
    "beyond floats": text(datatype="FP64", data="[1e309,1,2]"),
    "tiny": text(datatype="FP64", data="[5e-324,2e-324,1e-400]"),
    "odd name": text().replace(b'"x"', b'"\\u005b]\\n\\ud83d\\ude00[[]"'),
    "leading zero": text(data="[01,2,3]"),
    "half a pair": text().replace(b'"x"', b'"\\ud800xxxxxxxx"'),
    "no UTF-8": text().replace(b'"x"', b'"\xc3("'),
    "control character": text().replace(b'"x"', b'"\x01"'),
    "shape of text": text(shape='["a",4000000000]'),
    "shape of arrays": text(shape="[[0],4000000000]"),
    "shape of floats": text(shape="[3.0]"),
    "shape of booleans": text(datatype="INT32", shape="[true]", data="[1]"),
    "null shape": text(shape="null"),
    "null parameters": text(more=',"parameters":null'),
    "unknown field": text(more=',"dat":1'),
    "input of nothing": b'{"inputs":[null]}',
    "array within": b'{"inputs":[[1]]}',
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_size_does_not_change_the_meaning(body: bytes) -> None:
    assert read(body, large=True) == read(body, large=False)


@pytest.mark.parametrize("key", ["flat", "nested", "exponents", "large integers as floats", "minus zero"])
def test_large_arrays_are_read_without_a_list_of_their_numbers(key: str) -> None:
    body = SAME[key][:-1] + b',"outputs":[{"name":"y"}],"parameters":{"a":{"b":[[]]}}}'
    document = v2_numbers.parse_large(body)
    assert document is not None
    assert type(document["inputs"][0]["data"]) is v2_numbers.Numbers


ATOMS = st.sampled_from(["1", "2.5", "-0", "[]", "[1]", "[1,2]", "[[1],[2]]", "null", "true", '"a"', "1e39", "300"])


@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(0, 3), max_size=3),
    st.recursive(
        ATOMS, lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"), max_leaves=9
    ),
)
def test_size_does_not_change_the_meaning_of_any_data(datatype: str, shape: list[int], data: str) -> None:
    body = text(datatype=datatype, shape=json.dumps(shape), data=data)
    assert read(body, large=True) == read(body, large=False)


# --- no request makes the server work for long --------------------------------------------------------------------

LONG = {
    "a datatype of megabytes": text(datatype="D" * 5_000_000),
    "a field of megabytes": text(more=f',"{"f" * 5_000_000}":1'),
    "many unknown fields": text(more="".join(f',"f{number}":1' for number in range(200_000))),
    "many parameters": text(more=f',"parameters":{json.dumps(dict.fromkeys(map(str, range(200_000)), 1))}'),
    "many huge dimensions": text(shape=json.dumps([2**62] * 200_000)),
    "huge dimensions of many digits": text(shape=f"[{'9' * 4000},{'9' * 4000}]"),
    "text repeated by a dimension": text(shape='["aaaaaaaa",4000000000]', data=f"[{'1,' * 40_000}1]"),
}


@pytest.mark.parametrize("body", LONG.values(), ids=LONG)
def test_what_is_long_is_refused_soon(body: bytes) -> None:
    """In time that is proportional to its length: with its square, each of these would take minutes."""
    for whole in (body, body + b" " * 40_000):
        try:
            decode_infer(whole, json_bytes=None, model="m", version="", now=0.0)
        except BadRequest:
            continue
        assert b'"parameters"' in body


def test_a_name_of_megabytes_is_refused_soon() -> None:
    spec = (TensorSpec("x", "FP32", (-1,)),)
    with pytest.raises(InvalidInput):
        count_rows(Signature(spec, spec), [Tensor("x" * 5_000_000, "FP32", (1,), bytes(4))])


# --- rows of a batch ----------------------------------------------------------------------------------------------


@st.composite
def outputs(draw: st.DrawFn) -> tuple[int, list[Tensor]]:
    rows = draw(st.integers(1, 4))
    made = []
    for number in range(draw(st.integers(1, 3))):
        datatype = draw(st.sampled_from(sorted(DATATYPES)))
        shape = (rows, *draw(st.lists(st.integers(0, 3), max_size=2)))
        elements = math.prod(shape)
        item_bytes = DATATYPES[datatype].item_bytes
        if datatype == "BYTES":
            words = draw(st.lists(st.text(max_size=3).map(str.encode), min_size=elements, max_size=elements))
            data = pack_bytes(words)
        elif datatype == "BOOL":
            data = bytes(draw(st.lists(st.integers(0, 1), min_size=elements, max_size=elements)))
        else:
            data = draw(st.binary(min_size=elements * item_bytes, max_size=elements * item_bytes))
        made.append(Tensor(f"y{number}", datatype, shape, data))
    return rows, made


IDS = st.sampled_from(["", "a", 'quoted " and ü', "1"])
WANTED = st.sampled_from([JSON_ONLY, Wanted(), Wanted(every=True), Wanted(binary=frozenset({"y0"})),
                          Wanted(every=True, text=frozenset({"y0"}))])  # fmt: skip


@given(outputs(), st.lists(IDS, min_size=4, max_size=4), st.lists(WANTED, min_size=4, max_size=4),
       st.sampled_from([None, None, {"p": 1}]))  # fmt: skip
def test_a_row_of_a_batch_is_written_byte_for_byte_as_if_alone(
    made: tuple[int, list[Tensor]], ids: list[str], wanted: list[Wanted], parameters: dict[str, Any] | None
) -> None:
    rows, tensors = made
    batch = BatchOutputs(tensors)
    batch.check(rows)
    for row in range(rows):
        alone = Response("m", "v1", batch.cut(row, row + 1), ids[row], parameters)
        together = Response("m", "v1", id=ids[row], parameters=parameters, batch=batch, row=row)
        assert encode_infer(together, wanted[row]) == encode_infer(alone, wanted[row])


def test_one_callers_bytes_do_not_spoil_the_answers_of_others() -> None:
    batch = BatchOutputs([Tensor("y", "BYTES", (2,), pack_bytes([b"text", b"\xff"]))])
    batch.check(2)
    body, _ = encode_infer(Response("m", "v1", batch=batch, row=0), JSON_ONLY)
    assert json.loads(body)["outputs"][0]["data"] == ["text"]
    with pytest.raises(InvalidInput, match="ask for it as binary"):
        encode_infer(Response("m", "v1", batch=batch, row=1), JSON_ONLY)
