"""The gRPC codec: every datatype there and back, strictness, and the fast reader against the plain one."""

from __future__ import annotations

import struct
from math import inf, prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import BadRequest, InvalidInput, MalformedRequest, SlipwayError, Unsupported
from slipway.infer.protobuf.contents import FIELD
from slipway.infer.protobuf.descriptors import SOURCES_SHA256
from slipway.infer.protobuf.generate import sources_digest
from slipway.infer.protobuf.messages import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from slipway.infer.request import Response
from slipway.infer.tensor import DATATYPES, Tensor, check_size, pack_bytes
from slipway.transports.grpc.codec import ResponseWriter, read_request, varint, write_stream_error
from slipway.transports.grpc.templates import RequestReader

SAMPLES: dict[str, tuple[list[Any], str]] = {  # two elements and how `struct` writes one
    "BOOL": ([True, False], "?"),
    "UINT8": ([0, 255], "B"),
    "UINT16": ([1, 65535], "H"),
    "UINT32": ([1, 2**32 - 1], "I"),
    "UINT64": ([1, 2**64 - 1], "Q"),
    "INT8": ([-128, 127], "b"),
    "INT16": ([-(2**15), 2**15 - 1], "h"),
    "INT32": ([-(2**31), 2**31 - 1], "i"),
    "INT64": ([-(2**63), 2**63 - 1], "q"),
    "FP16": ([0.5, -2.0], "e"),
    "BF16": ([1.0, -2.0], ""),
    "FP32": ([0.5, -2.25], "f"),
    "FP64": ([0.1, -1e300], "d"),
    "BYTES": ([b"", "grüße".encode()], ""),
}


def raw_of(datatype: str) -> bytes:
    elements, code = SAMPLES[datatype]
    if datatype == "BYTES":
        return pack_bytes(elements)
    if datatype == "BF16":
        return b"".join(struct.pack("<f", element)[2:] for element in elements)
    return struct.pack(f"<2{code}", *elements)


def typed_request(datatype: str, shape: tuple[int, ...] = (2,), **contents: Any) -> bytes:
    message = ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype=datatype, shape=shape, contents=contents)
    return message.SerializeToString()


def raw_request(*tensors: tuple[str, str, tuple[int, ...], bytes], **fields: Any) -> bytes:
    message = ModelInferRequest(**{"model_name": "m", **fields})
    for name, datatype, shape, data in tensors:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_input_contents.append(data)
    return message.SerializeToString()


FOUR = ("x", "FP32", (1, 4), struct.pack("<4f", 1, 2, 3, 4))


def with_parameter(name: str, **value: Any) -> bytes:
    message = ModelInferRequest.FromString(raw_request(FOUR))
    message.parameters[name].MergeFrom(type(message.parameters[name])(**value))
    return message.SerializeToString()


def refusal(payload: bytes) -> SlipwayError:
    with pytest.raises(SlipwayError) as caught:
        read_request(payload)
    with pytest.raises(type(caught.value)):
        RequestReader().read(payload)
    return caught.value


def test_samples_name_every_datatype() -> None:
    assert set(SAMPLES) == set(DATATYPES)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_contents_pass_as_they_are(datatype: str) -> None:
    asked = read_request(raw_request(("x", datatype, (2, 1), raw_of(datatype)), id="7", model_version="v3"))
    request = asked.request
    assert (request.model, request.version, request.id, request.protocol) == ("m", "v3", "7", "grpc")
    assert request.inputs == [Tensor("x", datatype, (2, 1), raw_of(datatype))]
    assert (asked.typed, asked.timeout_s, request.outputs, request.parameters) == (False, inf, None, None)


@pytest.mark.parametrize("datatype", FIELD)
def test_typed_contents_become_the_same_raw_bytes(datatype: str) -> None:
    asked = read_request(typed_request(datatype, **{FIELD[datatype]: SAMPLES[datatype][0]}))
    assert asked.request.inputs == [Tensor("x", datatype, (2,), raw_of(datatype))]
    assert asked.typed


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("typed", [False, True])
def test_answers_hold_what_the_model_gave_in_the_form_asked_for(datatype: str, typed: bool) -> None:
    outputs = [Tensor("a", datatype, (2,), raw_of(datatype)), Tensor("b", "INT8", (0, 3), memoryview(b""))]
    response = Response("m", "v1", outputs, id="é", parameters={"b": True, "i": -1, "u": 2**63, "f": 0.5, "s": "t"})
    message = ModelInferResponse.FromString(ResponseWriter().write(response, typed=typed))
    assert (message.model_name, message.model_version, message.id) == ("m", "v1", "é")
    assert [(o.name, o.datatype, list(o.shape)) for o in message.outputs] == [
        ("a", datatype, [2]),
        ("b", "INT8", [0, 3]),
    ]
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in message.parameters.items()
    }
    assert parameters == response.parameters
    if typed and datatype in FIELD:
        assert list(getattr(message.outputs[0].contents, FIELD[datatype])) == SAMPLES[datatype][0]
        assert not message.raw_output_contents
    else:
        assert list(message.raw_output_contents) == [raw_of(datatype), b""]


def test_remembered_heads_do_not_mix_up_answers() -> None:
    writer = ResponseWriter()
    for rows in (1, 2, 1, 200):
        for model in ("m", "n"):
            data = bytes(range(rows % 256)) * 4
            message = ModelInferResponse.FromString(
                writer.write(Response(model, "v1", [Tensor("y", "INT8", (4, rows), data)]))
            )
            assert (message.model_name, list(message.outputs[0].shape)) == (model, [4, rows])
            assert list(message.raw_output_contents) == [data]


def test_a_streamed_answer_says_that_it_is_the_last() -> None:
    response = Response("m", "v1", [Tensor("y", "INT8", (200,), bytes(200))], id="4")
    message = ModelStreamInferResponse.FromString(ResponseWriter().write_streamed(response))
    assert message.infer_response.id == "4"
    assert message.infer_response.parameters["triton_final_response"].bool_param
    assert not message.error_message
    failed = ModelStreamInferResponse.FromString(write_stream_error("no", "not_found", None))
    assert (failed.error_message, failed.infer_response.parameters["slipway-error"].string_param) == ("no", "not_found")


@pytest.mark.parametrize(
    ("payload", "kind", "words"),
    [
        (b"\xff\xff", MalformedRequest, ["not a ModelInferRequest"]),
        (raw_request(FOUR, model_name=""), InvalidInput, ["model_name is empty"]),
        (raw_request(("x", "FLOAT32", (1,), bytes(4))), InvalidInput, ["'x'", "'FLOAT32'", "did you mean FP32"]),
        (raw_request(("x", "STRING", (1,), bytes(4))), InvalidInput, ["did you mean BYTES"]),
        (raw_request(("x", "fp32", (1,), bytes(4))), InvalidInput, ["did you mean FP32"]),
        (raw_request(("x", "", (1,), bytes(4))), InvalidInput, ["unknown datatype ''", "BF16"]),
        (raw_request(("x", "FP32", (-1, 4), bytes(16))), InvalidInput, ["[-1, 4]", "negative"]),
        (raw_request(("x", "FP32", (2, 4), bytes(16))), MalformedRequest, ["16 bytes", "[2, 4]", "32"]),
        (raw_request(("x", "BYTES", (2,), pack_bytes([b"a"]))), MalformedRequest, ["1 BYTES", "[2]"]),
        (raw_request(("x", "BYTES", (1,), b"\x09\0\0\0a")), MalformedRequest, ["'x'", "9 bytes"]),
        (raw_request(FOUR, raw_input_contents=[b""]), MalformedRequest, ["2 raw_input_contents for 1 inputs"]),
        (typed_request("FP32"), MalformedRequest, ["0 elements in fp32_contents", "calls for 2"]),
        (typed_request("FP32", int_contents=[1, 2]), MalformedRequest, ["takes fp32_contents", "int_contents came"]),
        (typed_request("FP32", fp32_contents=[1, 2, 3]), MalformedRequest, ["3 elements", "calls for 2"]),
        (typed_request("FP16", fp32_contents=[1, 2]), InvalidInput, ["FP16", "raw_input_contents"]),
        (typed_request("BF16", fp32_contents=[1, 2]), InvalidInput, ["BF16", "raw_input_contents"]),
        (typed_request("INT8", int_contents=[1, 128]), InvalidInput, ["element 1 is 128", "INT8"]),
        (typed_request("UINT16", uint_contents=[65536, 1]), InvalidInput, ["element 0 is 65536", "UINT16"]),
        (with_parameter("timeout", string_param="soon"), InvalidInput, ["'timeout'", "'soon'", "integer"]),
        (with_parameter("timeout", int64_param=-1), InvalidInput, ["'timeout' is -1"]),
        (with_parameter("priority", bool_param=True), InvalidInput, ["'priority'", "integer"]),
        (with_parameter("anything"), InvalidInput, ["'anything' has no value"]),
        (with_parameter("sequence_id", int64_param=9), Unsupported, ["sequence"]),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(payload: bytes, kind: type[SlipwayError], words: list[str]) -> None:
    error = refusal(payload)
    assert type(error) is kind
    for word in words:
        assert word in error.message


def test_contents_that_are_raw_and_typed_are_refused() -> None:
    message = ModelInferRequest.FromString(raw_request(FOUR))
    message.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    assert "either raw for all" in refusal(message.SerializeToString()).message


def test_an_input_without_any_data_is_refused() -> None:
    message = ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1])
    assert "'x' has no data" in refusal(message.SerializeToString()).message


def test_shared_memory_and_classification_are_refused_by_name() -> None:
    message = ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1]).parameters["shared_memory_region"].string_param = "r"
    assert "'x' is in shared memory" in refusal(message.SerializeToString()).message
    message = ModelInferRequest.FromString(raw_request(FOUR))
    message.outputs.add(name="y").parameters["classification"].int64_param = 3
    error = refusal(message.SerializeToString())
    assert type(error) is Unsupported
    assert "classification" in error.message


def test_what_is_meant_for_the_server_is_taken_and_the_rest_is_the_models() -> None:
    message = ModelInferRequest.FromString(raw_request(FOUR))
    message.parameters["timeout"].int64_param = 250_000
    message.parameters["priority"].uint64_param = 3
    message.parameters["temperature"].double_param = 0.5
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    message.outputs.add(name="b")
    message.outputs.add(name="a")
    reader = RequestReader()
    for _ in range(2):  # parsed, then recognised
        asked = reader.read(message.SerializeToString())
        assert (asked.timeout_s, asked.request.priority) == (0.25, 3)
        assert asked.request.parameters == {"temperature": 0.5}
        assert asked.request.outputs == ("b", "a")
        assert asked.request.parameters is not None
        asked.request.parameters["spoilt"] = True  # by one model, not for the next request


@pytest.mark.parametrize("where", ["request", "output"])
def test_a_typed_request_may_ask_for_a_raw_answer(where: str) -> None:
    message = ModelInferRequest.FromString(typed_request("FP32", fp32_contents=[1, 2]))
    if where == "request":
        message.parameters["binary_data_output"].bool_param = True
    else:
        message.outputs.add(name="y").parameters["binary_data"].bool_param = True
    assert not read_request(message.SerializeToString()).typed


@given(st.integers(0, 2**35))
def test_varints_are_those_of_protobuf(number: int) -> None:
    data = bytes(min(number, 300))
    assert varint(len(data)) + data == ModelInferResponse(raw_output_contents=[data]).SerializeToString()[1:]
    expected = type(ModelInferRequest().parameters["x"])(uint64_param=number).SerializeToString()[1:]
    assert varint(number) == expected


NAMES = st.text(max_size=6) | st.sampled_from(["x", "\x1a\x01a", "a" * 130])
CHOICES = st.one_of(
    st.builds(lambda v: {"bool_param": v}, st.booleans()),
    st.builds(lambda v: {"int64_param": v}, st.integers(-5, 2**40)),
    st.builds(lambda v: {"string_param": v}, NAMES),
)


@st.composite
def messages(draw: st.DrawFn) -> Any:
    message = ModelInferRequest(model_name=draw(NAMES), model_version=draw(NAMES), id=draw(NAMES))
    for name, value in draw(st.dictionaries(st.sampled_from(["timeout", "priority", "p", "q"]), CHOICES)).items():
        message.parameters[name].MergeFrom(type(message.parameters[name])(**value))
    for name in draw(st.lists(NAMES, max_size=2)):
        message.outputs.add(name=name)
    for _ in range(draw(st.integers(0, 3))):
        datatype = draw(st.sampled_from([*DATATYPES, "FP8"]))
        shape = draw(st.lists(st.integers(-1, 3), max_size=3))
        tensor = message.inputs.add(name=draw(NAMES), datatype=datatype, shape=shape)
        size = prod(shape) * (DATATYPES[datatype].item_bytes if datatype in DATATYPES else 1)
        form = draw(st.sampled_from(["raw"] * 6 + ["typed", "wrong"]))
        if form == "typed":
            tensor.contents.fp32_contents.extend([1.5] * max(0, prod(shape)))
        else:
            wanted = max(0, size) if form == "raw" else draw(st.integers(0, 9))
            message.raw_input_contents.append(draw(st.binary(min_size=wanted, max_size=wanted)))
    return message


def outcome(read: Any, payload: bytes) -> object:
    try:
        asked = read(payload)
    except BadRequest as error:
        return type(error), error.message
    except Unsupported as error:
        return type(error), error.message
    for tensor in asked.request.inputs:
        check_size(tensor)
        tensor.data = bytes(tensor.data)
    return asked


@settings(max_examples=300, deadline=None)
@given(messages(), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4), NAMES)
def test_the_fast_reader_reads_every_message_as_the_plain_one_does(
    message: Any, spots: list[tuple[int, int]], other_id: str
) -> None:
    reader = RequestReader()
    payload = message.SerializeToString()
    seen = [payload, payload]
    for spot, value in spots:  # what a template that looks too loosely would let pass
        if payload:
            changed = bytearray(payload)
            changed[spot % len(payload)] = value
            seen.append(bytes(changed))
    message.id = other_id
    seen += [message.SerializeToString(), payload, payload[:-1], payload + b"\x3a\x00"]
    for variant in seen:
        assert outcome(reader.read, variant) == outcome(read_request, variant)


def test_ids_of_one_length_share_a_template_and_stay_apart() -> None:
    reader = RequestReader()
    for number in range(100, 200):
        asked = reader.read(raw_request(FOUR, id=str(number)))
        assert (asked.request.id, asked.request.inputs) == (str(number), [Tensor(*FOUR)])
    broken = raw_request(FOUR, id="abc").replace(b"abc", b"a\xffc")
    with pytest.raises(MalformedRequest):
        reader.read(broken)


def test_a_large_tensor_is_not_copied_when_it_comes_again() -> None:
    reader = RequestReader()
    tensor = ("x", "UINT8", (1, 100_000), bytes(100_000))
    payload = raw_request(tensor)
    reader.read(payload)
    data = reader.read(payload).request.inputs[0].data
    assert isinstance(data, memoryview)
    assert data.obj is payload
    assert data == tensor[3]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_never_worse(payload: bytes) -> None:
    reader = RequestReader()
    assert outcome(reader.read, payload) == outcome(read_request, payload)


def test_the_committed_descriptors_were_made_from_the_committed_protos() -> None:
    assert sources_digest() == SOURCES_SHA256, "run python -m slipway.infer.protobuf.generate"
