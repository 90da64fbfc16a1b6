"""Both gRPC doors, one suite: ModelStreamInfer, Health.Watch and reflection."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_stand import KINDS, MAX_MESSAGE_BYTES, Infer, Stand, affine, failure, numbers_of, reset, stand, until

from slipway import errors
from slipway.infer.protobuf.messages import HEALTH, INFERENCE, REFLECTION, ModelStreamInferResponse, message_class
from slipway.transports.grpc.streams import STREAM_IN_FLIGHT


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest) -> Iterator[Stand]:
    with stand(request.param) as found:
        yield found


@pytest.fixture
def door(opened: Stand) -> Iterator[Stand]:
    yield opened
    reset(opened.service)


class Stream:
    """A client of ModelStreamInfer that sends when it is told to."""

    def __init__(self, door: Stand, **options: Any) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        method = door.channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")
        self.call = method(iter(self._requests.get, None), **{"timeout": 20, **options})

    def send(self, *messages: Any) -> None:
        for message in messages:
            self._requests.put(message if isinstance(message, bytes) else message.SerializeToString())

    def end(self) -> None:
        self._requests.put(None)

    def next(self) -> Any:
        return ModelStreamInferResponse.FromString(next(self.call))

    def rest(self) -> list[Any]:
        return [ModelStreamInferResponse.FromString(answer) for answer in self.call]


def test_each_request_of_a_stream_is_answered(door: Stand) -> None:
    stream = Stream(door)
    stream.send(affine(1, 2, 3, 4, id="a"))
    first = stream.next()
    assert (first.infer_response.id, numbers_of(first.infer_response)) == ("a", [3, 5, 7, 9])
    assert first.infer_response.parameters["triton_final_response"].bool_param
    for number in range(600):  # more than may be in flight
        stream.send(affine(number, 0, 0, 0, id=str(number)))
    stream.end()
    answers = {answer.infer_response.id: numbers_of(answer.infer_response)[0] for answer in stream.rest()}
    assert answers == {str(number): 2 * number + 1 for number in range(600)}
    assert stream.call.code() == StatusCode.OK


def test_an_empty_stream_ends_well(door: Stand) -> None:
    stream = Stream(door)
    stream.end()
    assert (stream.rest(), stream.call.code()) == ([], StatusCode.OK)


def test_answers_of_a_stream_come_as_they_are_ready(door: Stand) -> None:
    door.service.hold = True
    stream = Stream(door)
    stream.send(*(affine(id=str(number)) for number in range(4)))
    stream.end()
    until(lambda: len(door.service.held) == 4)
    held = list(door.service.held)
    for place in (2, 0, 3, 1):
        door.on_loop(held[place].finish)
        assert stream.next().infer_response.id == str(place)
    assert stream.rest() == []


def test_failures_are_answers_and_the_stream_goes_on(door: Stand) -> None:
    stream = Stream(door)
    stream.send(affine(id="a", model_name="afine"), b"\xff\xff", affine(id="b"))
    unknown, garbage, good = stream.next(), stream.next(), stream.next()
    assert unknown.error_message == "no model 'afine'; did you mean 'affine'?"
    assert (unknown.infer_response.id, unknown.infer_response.model_name) == ("a", "afine")
    assert unknown.infer_response.parameters["slipway-error"].string_param == "not_found"
    assert "not a ModelInferRequest" in garbage.error_message
    assert (good.error_message, good.infer_response.id) == ("", "b")
    door.service.refuse = ValueError("the secret")
    stream.send(affine(id="c"))
    fault = stream.next()
    assert fault.error_message.startswith("internal error")
    assert "secret" not in fault.error_message
    door.service.refuse, door.service.fail = None, errors.Overloaded("the queue is full")
    stream.send(affine(id="d"))
    assert stream.next().error_message == "the queue is full"
    stream.end()
    assert (stream.rest(), stream.call.code()) == ([], StatusCode.OK)


def test_typed_requests_of_a_stream_are_answered_typed(door: Stand) -> None:
    message = Infer(model_name="affine")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4], contents={"fp32_contents": [1, 2, 3, 4]})
    stream = Stream(door)
    stream.send(message)
    stream.end()
    (answer,) = stream.rest()
    assert list(answer.infer_response.outputs[0].contents.fp32_contents) == [3, 5, 7, 9]


def test_a_stream_is_not_read_faster_than_it_is_answered(door: Stand) -> None:
    door.service.hold = True
    stream = Stream(door)
    stream.send(*(affine(id=str(number)) for number in range(2 * STREAM_IN_FLIGHT)))
    stream.end()
    until(lambda: len(door.service.held) == STREAM_IN_FLIGHT)
    assert door.on_loop(lambda: len(door.service.requests)) == STREAM_IN_FLIGHT
    door.on_loop(door.service.release)
    until(lambda: len(door.service.held) == STREAM_IN_FLIGHT)
    door.on_loop(door.service.release)
    assert len(stream.rest()) == 2 * STREAM_IN_FLIGHT
    assert len(door.service.requests) == 2 * STREAM_IN_FLIGHT


def test_a_stream_that_is_cancelled_cancels_its_requests(door: Stand) -> None:
    door.service.hold = True
    stream = Stream(door)
    stream.send(affine(id="a"), affine(id="b"))
    until(lambda: len(door.service.held) == 2)
    stream.call.cancel()
    until(lambda: len(door.service.cancelled) == 2)
    assert not door.service.held


def test_deadlines_hold_for_each_request_of_a_stream(door: Stand) -> None:
    door.service.hold = True
    stream = Stream(door, metadata=[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
    stream.send(affine(id="a", parameters={"timeout": {"int64_param": 20_000}}))
    assert "deadline" in stream.next().error_message
    assert door.service.requests[0].trace.startswith("00-0af7651916cd43dd")
    stream.end()
    assert stream.rest() == []
    stream = Stream(door, timeout=0.2)
    stream.send(affine(id="b"))
    assert failure(stream.rest).code() == StatusCode.DEADLINE_EXCEEDED
    until(lambda: not door.service.held)


def test_a_message_over_the_limit_ends_the_stream_with_a_clear_code(door: Stand) -> None:
    stream = Stream(door)
    stream.send(bytes(MAX_MESSAGE_BYTES + 1))
    assert failure(stream.rest).code() == StatusCode.RESOURCE_EXHAUSTED


def test_watching_health_tells_every_change(door: Stand) -> None:
    watch = health_pb2_grpc.HealthStub(door.channel).Watch(health_pb2.HealthCheckRequest(service="affine"), timeout=20)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    door.service.models["affine"].ready = False
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    door.service.models["affine"].ready = True
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    unknown = health_pb2_grpc.HealthStub(door.channel).Watch(health_pb2.HealthCheckRequest(service="?"), timeout=20)
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()


def test_garbage_to_a_stream_is_an_invalid_argument(door: Stand) -> None:
    watch = door.channel.unary_stream(f"/{HEALTH}/Watch")(b"\xff\xff", timeout=10)
    assert failure(lambda: list(watch)).code() == StatusCode.INVALID_ARGUMENT
    for service in REFLECTION:
        call = door.channel.stream_stream(f"/{service}/ServerReflectionInfo")(iter([b"\xff\xff"]), timeout=10)
        assert failure(lambda call=call: list(call)).code() == StatusCode.INVALID_ARGUMENT


def test_reflection_is_enough_to_call_us_by(door: Stand) -> None:
    database = ProtoReflectionDescriptorDatabase(door.channel)  # the official client, which speaks v1alpha
    assert set(database.get_services()) == {INFERENCE, HEALTH, *REFLECTION}
    pool = DescriptorPool(database)
    described = pool.FindServiceByName(INFERENCE)
    assert len(described.methods) == 12
    request_class = GetMessageClass(described.methods_by_name["ServerMetadata"].input_type)
    answer_class = GetMessageClass(described.methods_by_name["ServerMetadata"].output_type)
    payload = door.send("ServerMetadata", request_class().SerializeToString())
    assert answer_class.FromString(payload).name == "slipway"
    assert pool.FindServiceByName(HEALTH).methods_by_name["Check"].input_type.full_name.endswith("HealthCheckRequest")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_each_kind_of_question(door: Stand, version: str) -> None:
    asked_class = message_class(f"grpc.reflection.{version}.ServerReflectionRequest")
    answer_class = message_class(f"grpc.reflection.{version}.ServerReflectionResponse")
    questions = [
        {"list_services": ""},
        {"file_by_filename": "inference.proto"},
        {"file_containing_symbol": "inference.ModelInferRequest"},
        {"file_containing_symbol": "inference.Nothing"},
        {"file_containing_extension": {"containing_type": "inference.ModelInferRequest", "extension_number": 1}},
        {},
    ]
    payloads = iter([asked_class(**question).SerializeToString() for question in questions])
    call = door.channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
    answers = [answer_class.FromString(payload) for payload in call(payloads, timeout=10)]
    assert [service.name for service in answers[0].list_services_response.service] == [INFERENCE, HEALTH, *REFLECTION]
    for answer in answers[1:3]:
        assert b"GRPCInferenceService" in answer.file_descriptor_response.file_descriptor_proto[0]
    codes = [answer.error_response.error_code for answer in answers[3:]]
    assert codes == [StatusCode.NOT_FOUND.value[0]] * 2 + [StatusCode.INVALID_ARGUMENT.value[0]]
    assert "'inference.Nothing'" in answers[3].error_response.error_message


def test_an_unknown_stream_is_refused(door: Stand) -> None:
    call = door.channel.stream_stream(f"/{INFERENCE}/ModelStreamInfr")(iter([b""]), timeout=10)
    error = failure(lambda: list(call))
    assert isinstance(error, grpc.RpcError)
    assert (error.code(), "ModelStreamInfer?" in error.details()) == (StatusCode.UNIMPLEMENTED, True)
