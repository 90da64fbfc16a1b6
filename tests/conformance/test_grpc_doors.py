"""Both gRPC doors, one suite: every unary method, errors, deadlines, cancellation, bad input."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_stand import (
    KINDS,
    MAX_MESSAGE_BYTES,
    Infer,
    Stand,
    affine,
    failure,
    numbers_of,
    reset,
    stand,
    trailers,
    until,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway import errors
from slipway.infer.protobuf.contents import FIELD
from slipway.infer.protobuf.messages import HEALTH, INFERENCE, POOL
from slipway.infer.request import NEVER
from slipway.infer.tensor import DATATYPES
from slipway.transports.codes import grpc_code

UNARY = [
    (service, method.name)
    for service in (INFERENCE, HEALTH)
    for method in POOL.FindServiceByName(service).methods
    if method.name not in ("ModelStreamInfer", "Watch")
]
NOTHING_FIELD = b"\xfa\x01\x00"  # an unknown field, which every message may have


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest) -> Iterator[Stand]:
    with stand(request.param) as found:
        yield found


@pytest.fixture
def door(opened: Stand) -> Iterator[Stand]:
    yield opened
    reset(opened.service)


def test_the_server_says_what_it_is(door: Stand) -> None:
    assert door.call("ServerLive").live
    assert door.call("ServerReady").ready
    metadata = door.call("ServerMetadata")
    assert (metadata.name, list(metadata.extensions)) == ("slipway", ["model_repository", "statistics"])
    door.service.is_live = door.service.is_ready = False
    assert not door.call("ServerLive").live
    assert not door.call("ServerReady").ready


def test_a_model_says_what_it_is(door: Stand) -> None:
    assert door.call("ModelReady", name="affine", version="v1").ready
    metadata = door.call("ModelMetadata", name="affine")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("affine", ["v1"], "stub")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "FP32", [-1, 4])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("y", "FP32", [-1, 4])]
    config = door.call("ModelConfig", name="echo").config
    assert (config.name, config.input[0].name, config.input[0].data_type) == ("echo", "any", 13)


def test_statistics_count_what_was_done(door: Stand) -> None:
    for _ in range(3):
        door.infer(affine())
    (one,) = door.call("ModelStatistics", name="affine").model_stats
    assert (one.name, one.version, one.inference_count, one.inference_stats.success.count) == ("affine", "v1", 3, 3)
    assert one.batch_stats[0].compute_infer.ns == 1500
    assert {found.name for found in door.call("ModelStatistics").model_stats} == {"affine", "echo"}


def test_models_are_listed_unloaded_and_loaded(door: Stand) -> None:
    door.call("RepositoryModelUnload", model_name="echo", parameters={"unload_dependents": {"bool_param": False}})
    states = {entry.name: (entry.state, entry.reason) for entry in door.call("RepositoryIndex").models}
    assert states == {"affine": ("READY", ""), "echo": ("UNAVAILABLE", "unloaded")}
    assert [entry.name for entry in door.call("RepositoryIndex", ready=True).models] == ["affine"]
    assert not door.call("ModelReady", name="echo").ready
    door.call("RepositoryModelLoad", model_name="echo")
    assert door.call("ModelReady", name="echo").ready


def test_what_the_repository_cannot_do_is_refused(door: Stand) -> None:
    door.service.load_outcome = errors.LoadFailure("the file is no model")
    error = failure(lambda: door.call("RepositoryModelLoad", model_name="echo"))
    assert (error.code(), error.details()) == (StatusCode.FAILED_PRECONDITION, "the file is no model")
    parameters = {"config": {"string_param": "{}"}}
    error = failure(lambda: door.call("RepositoryModelLoad", model_name="echo", parameters=parameters))
    assert (error.code(), "'config'" in error.details()) == (StatusCode.UNIMPLEMENTED, True)
    error = failure(lambda: door.call("RepositoryIndex", repository_name="s3"))
    assert error.code() == StatusCode.UNIMPLEMENTED
    assert failure(lambda: door.call("RepositoryModelUnload", model_name="no")).code() == StatusCode.NOT_FOUND


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_infer_with_raw_contents(door: Stand, rows: int) -> None:
    numbers = [float(number) for number in range(4 * rows)]
    for turn in ("first", "again"):  # the second is read from a template
        answer = door.infer(affine(*numbers, id=turn))
        assert (answer.model_name, answer.model_version, answer.id) == ("affine", "v1", turn)
        assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [("y", "FP32", [rows, 4])]
        assert numbers_of(answer) == [2 * number + 1 for number in numbers]


def test_infer_with_typed_contents_is_answered_in_typed_contents(door: Stand) -> None:
    message = Infer(model_name="affine")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4], contents={"fp32_contents": [1, 2, 3, 4]})
    answer = door.infer(message)
    assert list(answer.outputs[0].contents.fp32_contents) == [3, 5, 7, 9]
    assert not answer.raw_output_contents


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_travels_both_ways(door: Stand, datatype: str) -> None:
    data = b"\x03\x00\x00\x00a\xffb" if datatype == "BYTES" else b"\x01" * DATATYPES[datatype].item_bytes
    message = Infer(model_name="echo", raw_input_contents=[data])
    message.inputs.add(name="x", datatype=datatype, shape=[1, 1])
    answer = door.infer(message)
    assert (answer.outputs[0].datatype, list(answer.raw_output_contents)) == (datatype, [data])
    if datatype in FIELD:
        value = b"a\xffb" if datatype == "BYTES" else True if datatype == "BOOL" else 1
        message = Infer(model_name="echo")
        message.inputs.add(name="x", datatype=datatype, shape=[1], contents={FIELD[datatype]: [value]})
        assert list(getattr(door.infer(message).outputs[0].contents, FIELD[datatype])) == [value]


def test_only_the_outputs_asked_for_come(door: Stand) -> None:
    message = Infer(model_name="echo", outputs=[{"name": "c"}, {"name": "a"}], raw_input_contents=[b"a", b"b", b"c"])
    for name in "abc":
        message.inputs.add(name=name, datatype="UINT8", shape=[1])
    answer = door.infer(message)
    assert [output.name for output in answer.outputs] == ["c", "a"]
    assert list(answer.raw_output_contents) == [b"c", b"a"]


def test_a_large_tensor_and_a_compressed_one(door: Stand) -> None:
    data = bytes(range(256)) * 2352  # an image, 3 by 224 by 224 in FP32
    message = Infer(model_name="echo", raw_input_contents=[data])
    message.inputs.add(name="image", datatype="FP32", shape=[1, 3, 224, 224])
    for compression in (None, grpc.Compression.Gzip):
        assert door.infer(message, compression=compression).raw_output_contents[0] == data


def test_calls_at_the_same_time_get_their_own_answers(door: Stand) -> None:
    def ask(number: int) -> bool:
        answer = door.infer(affine(number, 0, 0, -number, id=f"n{number}"))
        return answer.id == f"n{number}" and numbers_of(answer) == [2 * number + 1, 1, 1, 1 - 2 * number]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(400)))


@pytest.mark.parametrize("kind", [kind for kind in errors.every_error() if kind.__module__ == errors.__name__])
def test_every_error_keeps_its_code_and_words(door: Stand, kind: type[errors.SlipwayError]) -> None:
    options = {"allow": "GET"} if kind is errors.MethodNotAllowed else {}
    door.service.fail = kind("it “broke”\n100 %", **options)
    error = failure(lambda: door.infer(affine()))
    assert error.code().value[0] == grpc_code(door.service.fail)
    assert error.details() == "it “broke”\n100 %"
    assert trailers(error)["slipway-error"] == kind.code
    assert "retry-after" not in trailers(error)


def test_an_overload_says_when_to_come_again_and_a_failure_how_to_find_it(door: Stand) -> None:
    door.service.refuse = errors.Overloaded("the queue is full", retry_after_s=0.25)
    error = failure(lambda: door.infer(affine()))
    assert (error.code(), trailers(error)["retry-after"]) == (StatusCode.RESOURCE_EXHAUSTED, "0.25")
    door.service.refuse, door.service.fail = None, errors.ModelFailure("it raised", correlation="a1b2")
    assert trailers(failure(lambda: door.infer(affine())))["slipway-correlation"] == "a1b2"


def test_a_fault_of_the_server_does_not_leak(door: Stand, caplog: pytest.LogCaptureFixture) -> None:
    door.service.refuse = ValueError("the secret")
    error = failure(lambda: door.infer(affine()))
    assert error.code() == StatusCode.INTERNAL
    assert "secret" not in error.details()
    correlation = trailers(error)["slipway-correlation"]
    assert correlation in error.details()
    assert correlation in caplog.text
    assert "the secret" in caplog.text


def test_an_endless_message_is_cut_to_what_clients_accept(door: Stand) -> None:
    error = failure(lambda: door.call("ModelReady", name="ü" * 50_000))
    assert error.code() == StatusCode.NOT_FOUND
    assert error.details().startswith("no model 'üü")
    assert error.details().endswith("…")


def test_unknown_models_versions_and_methods(door: Stand) -> None:
    error = failure(lambda: door.infer(affine(model_name="afine")))
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "no model 'afine'; did you mean 'affine'?")
    assert failure(lambda: door.infer(affine(model_version="v9"))).code() == StatusCode.NOT_FOUND
    error = failure(lambda: door.send("ModelInfr", b""))
    assert error.code() == StatusCode.UNIMPLEMENTED
    assert f"/{INFERENCE}/ModelInfer?" in error.details()
    assert failure(lambda: door.send("X", b"", service="no.Service")).code() == StatusCode.UNIMPLEMENTED


def test_the_deadline_is_the_earlier_of_grpcs_and_the_parameters(door: Stand) -> None:
    for timeout_s, parameter_us, expected_s in (
        (30, None, 30),
        (30, 5_000_000, 5),
        (5, 30_000_000, 5),
        (None, None, None),
    ):
        parameters = {} if parameter_us is None else {"timeout": {"int64_param": parameter_us}}
        before = time.monotonic()
        door.infer(affine(parameters=parameters), timeout=timeout_s)
        deadline = door.service.requests[-1].deadline
        if expected_s is None:
            assert deadline == NEVER
        else:
            # gRPC rounds the timeout that it sends up, the more so the longer it is.
            assert before + expected_s - 1 < deadline < time.monotonic() + expected_s + 3


def test_a_call_past_its_deadline_ends_and_its_work_is_dropped(door: Stand) -> None:
    door.service.hold = True
    assert failure(lambda: door.infer(affine(), timeout=0.1)).code() == StatusCode.DEADLINE_EXCEEDED
    until(lambda: not door.service.held)
    parameters = {"timeout": {"int64_param": 50_000}}
    error = failure(lambda: door.infer(affine(parameters=parameters), timeout=10))
    assert (error.code(), trailers(error)["slipway-error"]) == (StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded")


def test_work_of_a_client_that_left_is_cancelled(door: Stand) -> None:
    door.service.hold = True
    calls = [door.start("ModelInfer", affine(id=str(number)).SerializeToString()) for number in range(3)]
    until(lambda: len(door.service.held) == 3)
    calls[1].cancel()
    until(lambda: door.service.cancelled)
    assert [request.id for request in door.service.cancelled] == ["1"]
    door.on_loop(door.service.release)
    answered = [calls[0].result(10), calls[2].result(10)]
    assert all(answered)


def test_answers_may_come_later_and_in_any_order(door: Stand) -> None:
    door.service.hold = True
    calls = {str(n): door.start("ModelInfer", affine(n, n, n, n, id=str(n)).SerializeToString()) for n in range(5)}
    until(lambda: len(door.service.held) == 5)
    for pending in reversed(list(door.service.held)):
        door.on_loop(pending.finish)
    for name, call in calls.items():
        assert struct.pack("<f", 2 * float(name) + 1) * 4 in call.result(10)


def test_trace_priority_and_protocol_reach_the_request(door: Stand) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    door.infer(
        affine(parameters={"priority": {"uint64_param": 2}}), metadata=[("traceparent", trace), ("x-other", "1")]
    )
    request = door.service.requests[-1]
    assert (request.trace, request.priority, request.protocol) == (trace, 2, "grpc")


def test_a_message_over_the_limit_is_refused(door: Stand) -> None:
    size = MAX_MESSAGE_BYTES + 1
    message = Infer(model_name="echo", raw_input_contents=[bytes(size)])
    message.inputs.add(name="x", datatype="UINT8", shape=[size])
    assert failure(lambda: door.infer(message)).code() == StatusCode.RESOURCE_EXHAUSTED
    assert numbers_of(door.infer(affine())) == [3, 5, 7, 9]


@pytest.mark.parametrize(("service", "method"), UNARY)
def test_garbage_is_an_invalid_argument_in_every_method(door: Stand, service: str, method: str) -> None:
    error = failure(lambda: door.send(method, b"\xff\xff\xff", service=service))
    assert error.code() == StatusCode.INVALID_ARGUMENT
    assert POOL.FindServiceByName(service).methods_by_name[method].input_type.name in error.details()


def test_messages_with_fields_of_a_later_protocol_are_read(door: Stand) -> None:
    assert door.send("ServerLive", NOTHING_FIELD) == b"\x08\x01"
    assert numbers_of(door.infer(Infer.FromString(affine().SerializeToString() + NOTHING_FIELD))) == [3, 5, 7, 9]


GARBAGE = st.binary(max_size=120) | st.builds(
    lambda at, junk: affine().SerializeToString()[:at] + junk, st.integers(0, 60), st.binary(max_size=20)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(UNARY), GARBAGE), min_size=1, max_size=8))
def test_no_bytes_hang_a_call_or_hurt_the_next(opened: Stand, tries: list[tuple[tuple[str, str], bytes]]) -> None:
    clear = {StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED, StatusCode.UNAVAILABLE}
    reset(opened.service)
    for (service, method), payload in tries:
        try:
            opened.send(method, payload, service=service)
        except grpc.RpcError as error:
            found: Any = error
            assert found.code() in clear, found.details()
    reset(opened.service)
    assert numbers_of(opened.infer(affine())) == [3, 5, 7, 9]


def test_health_follows_the_server_and_its_models(door: Stand) -> None:
    stub = health_pb2_grpc.HealthStub(door.channel)  # the official client

    def status(name: str) -> int:
        return int(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status)

    assert [status(name) for name in ("", INFERENCE, HEALTH, "affine")] == [1, 1, 1, 1]
    door.service.models["affine"].ready = False
    assert [status(name) for name in ("", INFERENCE, HEALTH, "affine", "echo")] == [2, 2, 1, 2, 1]
    assert failure(lambda: status("no.such.Service")).code() == StatusCode.NOT_FOUND
