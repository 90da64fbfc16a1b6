"""Bodies read by a form that was learnt mean exactly what the strict parser says they mean."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import BadRequest
from slipway.transports.http import v2_json
from slipway.transports.http.v2_forms import BodyForms


@pytest.fixture(autouse=True)
def forms(monkeypatch: pytest.MonkeyPatch) -> BodyForms:
    fresh = BodyForms()
    monkeypatch.setattr(v2_json, "_FORMS", fresh)
    return fresh


class Forgetful(BodyForms):
    """Never knows a form, so that everything is parsed strictly."""

    def read(self, body: bytes) -> None:  # noqa: ARG002
        return None


def read(body: bytes) -> object:
    """What a body means: its inputs, or the class of its error."""
    try:
        request, _ = v2_json.decode_infer(body, json_bytes=None, model="m", version="", now=0.0)
    except BadRequest as error:
        return type(error)
    return request.id, request.outputs, [(t.name, t.datatype, t.shape, bytes(t.data)) for t in request.inputs]


def read_strictly(body: bytes) -> object:
    known, v2_json._FORMS = v2_json._FORMS, Forgetful()
    try:
        return read(body)
    finally:
        v2_json._FORMS = known


def body(data: object, **more: object) -> bytes:
    return orjson.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": data} | more]})


def test_the_second_body_of_a_form_is_not_parsed_whole(forms: BodyForms) -> None:
    assert forms.read(body([1.0, 2.0])) is None
    read(body([1.0, 2.0]))
    known = forms.read(body([3.5, -4.0]))
    assert known is not None
    assert (known.name, known.datatype, known.shape) == ("x", "FP32", (2,))
    assert ("", None, [("x", "FP32", (2,), bytes(known.data))]) == read_strictly(body([3.5, -4.0]))


def test_an_array_that_only_looks_like_the_data_is_not_taken_for_it(forms: BodyForms) -> None:
    shape_last = b'{"inputs":[{"name":"x","datatype":"INT64","data":[1],"shape":[1]}]}'
    read(shape_last)
    assert forms.read(shape_last) is None
    assert read(shape_last.replace(b'"shape":[1]', b'"shape":[7]')) is not read(shape_last)


@pytest.mark.parametrize(
    "wrong",
    ["[1.0]", "[1.0,2.0,3.0]", "[1.0,null]", '["a","b"]', "[1.0,]", "[1.0,2.0", "[1e400,0]", "[1.0,NaN]", "[01,2]"],
)
def test_what_does_not_fit_gets_the_strict_parsers_error(wrong: str) -> None:
    good = body([1.0, 2.0])
    read(good)
    bad = good.replace(b"[1.0,2.0]", wrong.encode())
    assert read(bad) == read_strictly(bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
NUMBERS = st.lists(st.integers(-1000, 1000) | st.floats(-1e6, 1e6), max_size=5)
INPUT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "a[b", "]", '"', "é"]),
        "shape": st.sampled_from([[1], [2], [2, 1], [0], [3]]),
        "datatype": st.sampled_from(["FP32", "FP64", "INT64", "UINT8", "BOOL", "BYTES", "FP16"]),
        "data": NUMBERS | JSON,
    },
    optional={"parameters": st.just({"k": [1]})},
)
BODY = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, min_size=1, max_size=2)},
    optional={"id": st.sampled_from(["", "i", "[1]"]), "outputs": st.just([{"name": "y"}])},
)


@given(st.lists(BODY, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_whatever_was_learnt_before_the_meaning_is_the_same(bodies: list[dict[str, Any]], random: Any) -> None:
    v2_json._FORMS = BodyForms()
    for content in bodies:
        items = list(content["inputs"][0].items())
        random.shuffle(items)
        content["inputs"][0] = dict(items)
        text = orjson.dumps(content)
        assert read(text) == read_strictly(text)
        for data in ([1], [2, 3], [0.5, 1], [1, 2, 3]):  # the same form with other numbers
            content["inputs"][0]["data"] = data
            text = orjson.dumps(content)
            assert read(text) == read_strictly(text)


@given(st.binary(max_size=30), st.integers(0, 90), st.integers(0, 20))
def test_a_damaged_body_means_what_it_means_to_the_strict_parser(noise: bytes, at: int, cut: int) -> None:
    good = body([1.5, 2.5])
    read(good)
    bad = good[:at] + noise + good[at + cut :]
    assert read(bad) == read_strictly(bad)
