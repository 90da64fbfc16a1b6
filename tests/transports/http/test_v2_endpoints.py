"""Every path of the Open Inference Protocol v2 and of the extensions served, with the fields that clients read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from http_stand import AFFINE, ECHO, Stand, affine, get, infer, post, result, stand, tensor

from slipway.errors import Conflict, LoadFailure, NotReady, Overloaded
from slipway.infer.request import NEVER, Request
from slipway.infer.signature import Signature, TensorSpec


@pytest.fixture
def door() -> Iterator[Stand]:
    with stand() as opened:
        yield opened


# --- what the server says of itself -------------------------------------------------------------------------------


def test_health(door: Stand) -> None:
    assert door.ask(get("/v2/health/live")).json == {"live": True}
    assert door.ask(get("/v2/health/ready")).json == {"ready": True}
    door.set(is_ready=False)
    answer = door.ask(get("/v2/health/ready"))
    assert (answer.status, answer.json) == (503, {"ready": False})
    assert door.ask(get("/v2/health/live")).status == 200
    door.set(is_live=False)
    assert door.ask(get("/v2/health/live")).status == 503


def test_server_metadata(door: Stand) -> None:
    facts = door.ask(get("/v2")).json
    assert facts.keys() == {"name", "version", "extensions"}
    assert facts["name"] == "slipway"
    assert "model_repository" in facts["extensions"]


@pytest.mark.parametrize("path", ["/v2/models/affine", "/v2/models/affine/versions/v1"])
def test_a_model(door: Stand, path: str) -> None:
    assert door.ask(get(path)).json == {
        "name": "affine",
        "versions": ["v1"],
        "platform": "stub",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
    }
    assert door.ask(get(path + "/ready")).json == {"name": "affine", "ready": True}
    config = door.ask(get(path + "/config")).json
    assert (config["name"], config["max_batch_size"]) == ("affine", 64)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4], "optional": False}]
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}]
    assert result(door.ask(post(path + "/infer", affine()))) == [3, 5, 7, 9]


def test_a_model_that_takes_columns_lists_them(door: Stand) -> None:
    four, column = (-1, 4), TensorSpec("length", "FP64", (-1,), column=True)
    signature = Signature((TensorSpec("x", "FP32", four),), (TensorSpec("y", "FP32", four),), columns=(column,))
    door.do(lambda: setattr(door.service.models["affine"], "signature", signature))
    facts = door.ask(get("/v2/models/affine")).json
    assert facts["parameters"] == {"columns": [{"name": "length", "datatype": "FP64", "shape": [-1]}]}


def test_a_model_that_is_not_ready(door: Stand) -> None:
    door.do(lambda: setattr(door.service.models["affine"], "ready", False))
    answer = door.ask(get("/v2/models/affine/ready"))
    assert (answer.status, answer.json) == (503, {"name": "affine", "ready": False})
    refusal = door.ask(infer())
    assert (refusal.status, refusal.code) == (503, "not_ready")


@pytest.mark.parametrize("tail", ["", "/ready", "/config", "/stats", "/infer"])
@pytest.mark.parametrize("path", ["/v2/models/afine", "/v2/models/affine/versions/9"])
def test_what_is_not_known_is_not_found(door: Stand, path: str, tail: str) -> None:
    answer = door.ask(post(path + tail, affine()) if tail == "/infer" else get(path + tail))
    assert (answer.status, answer.code) == (404, "not_found")
    assert ("'affine'" if "afine" in path else "'v1'") in answer.json["error"]


def test_statistics(door: Stand) -> None:
    for _ in range(3):
        door.ask(infer())
    (one,) = door.ask(get("/v2/models/affine/stats")).json["model_stats"]
    assert one.keys() == {
        "name", "version", "last_inference", "inference_count", "execution_count", "inference_stats", "batch_stats",
    }  # fmt: skip
    assert (one["name"], one["version"], one["inference_count"], one["execution_count"]) == ("affine", "v1", 3, 3)
    assert one["inference_stats"].keys() == {
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
    }  # fmt: skip
    assert one["inference_stats"]["success"] == {"count": 3, "ns": 3000}
    assert one["batch_stats"] == [{"batch_size": 1, "compute_infer": {"count": 3, "ns": 1500}}]
    assert door.ask(get("/v2/models/affine/versions/v1/stats")).json["model_stats"] == [one]
    every = door.ask(get("/v2/models/stats")).json["model_stats"]
    assert [item["name"] for item in every] == ["affine", "echo"]


# --- the repository -----------------------------------------------------------------------------------------------


def test_the_index(door: Stand) -> None:
    door.do(lambda: setattr(door.service.models["echo"], "ready", False))
    affine_entry = {"name": "affine", "version": "v1", "state": "READY", "reason": ""}
    echo_entry = {"name": "echo", "version": "v1", "state": "UNAVAILABLE", "reason": "unloaded"}
    for body in (b"", b"{}", {"ready": False}):
        assert door.ask(post("/v2/repository/index", body)).json == [affine_entry, echo_entry]
    assert door.ask(post("/v2/repository/index", {"ready": True})).json == [affine_entry]
    for wrong in (b"[]", b"{", b'{"ready": 1}', b'"x"'):
        assert door.ask(post("/v2/repository/index", wrong)).status == 400


def test_unload_and_load(door: Stand) -> None:
    client = door.client()
    assert (
        client.ask(post("/v2/repository/models/affine/unload", {"parameters": {"unload_dependents": False}})).status
        == 200
    )
    assert client.ask(infer()).code == "not_ready"
    assert client.ask(post("/v2/repository/models/affine/load")).status == 200
    assert client.ask(infer()).status == 200


def test_a_load_that_fails_says_why(door: Stand) -> None:
    for error, status in ((LoadFailure("no such file"), 422), (Conflict("it is being loaded"), 409)):
        door.set(load_outcome=error)
        answer = door.ask(post("/v2/repository/models/affine/load"))
        assert (answer.status, answer.code, answer.json["error"]) == (status, error.code, error.message)
    assert door.ask(post("/v2/repository/models/afine/load")).code == "not_found"
    assert door.ask(post("/v2/repository/models/affine/lod")).status == 404


def test_a_load_with_another_configuration_is_not_here(door: Stand) -> None:
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
        answer = door.ask(post("/v2/repository/models/affine/load", {"parameters": parameters}))
        assert (answer.status, answer.code) == (501, "unsupported")
    assert door.ask(post("/v2/repository/models/affine/load", {"parameters": {}})).status == 200
    assert door.ask(post("/v2/repository/models/affine/load", b"[]")).status == 400


# --- infer --------------------------------------------------------------------------------------------------------


def last(door: Stand) -> Request:
    return door.do(lambda: door.service.requests[-1])


def test_an_answer_has_the_fields_of_the_protocol(door: Stand) -> None:
    assert door.ask(infer(id="r-1")).json == {
        "model_name": "affine",
        "model_version": "v1",
        "id": "r-1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [3.0, 5.0, 7.0, 9.0]}],
    }
    assert "id" not in door.ask(infer()).json


def test_what_reaches_the_model(door: Stand) -> None:
    door.ask(infer(id="a", headers=("traceparent: 00-1-2-01",), parameters={"priority": 5, "mine": "x"}))
    request = last(door)
    assert (request.model, request.version, request.id, request.protocol) == ("affine", "", "a", "http")
    assert (request.trace, request.priority, request.parameters) == ("00-1-2-01", 5, {"mine": "x"})
    assert request.deadline == NEVER
    door.ask(post("/v2/models/affine/versions/v1/infer", affine()))
    assert last(door).version == "v1"


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        (("slipway-timeout-ms: 30",), {}),
        ((), {"timeout": 30_000}),
        (("slipway-timeout-ms: 60000",), {"timeout": 30_000}),
        (("slipway-timeout-ms: 30",), {"timeout": 60_000_000}),
    ],
)
def test_the_sooner_deadline_counts(door: Stand, headers: tuple[str, ...], parameters: dict[str, Any]) -> None:
    door.set(hold=True)
    answer = door.ask(infer(headers=headers, parameters=parameters))
    assert (answer.status, answer.code) == (504, "deadline_exceeded")


def test_deadlines_that_make_no_sense(door: Stand) -> None:
    assert door.ask(infer(headers=("slipway-timeout-ms: 0",))).code == "deadline_exceeded"
    for wrong in ("-1", "1.5", "soon", "", "9" * 5000, "\xb2"):
        assert door.ask(infer(headers=(f"slipway-timeout-ms: {wrong}",))).code == "malformed_request"
    assert door.ask(infer(parameters={"timeout": -1})).code == "invalid_input"


def test_a_full_queue_says_when_to_come_back(door: Stand) -> None:
    door.set(refuse=Overloaded("the queue is full", retry_after_s=3))
    answer = door.ask(infer())
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "overloaded", "3")
    door.set(refuse=NotReady("no replica"))
    assert "retry-after" not in door.ask(infer()).headers


def test_outputs_come_as_asked(door: Stand) -> None:
    inputs = [tensor("INT8", [1], [number], name=name) for number, name in enumerate("abc")]
    for names in ("ca", "b", "aa", ""):
        answer = door.ask(post(ECHO, {"inputs": inputs, "outputs": [{"name": name} for name in names]}))
        assert [output["name"] for output in answer.json["outputs"]] == list(names or "abc")
    answer = door.ask(post(ECHO, {"inputs": inputs, "outputs": [{"name": "d"}]}))
    assert (answer.status, answer.code) == (400, "invalid_input")
    assert "'d'" in answer.json["error"]


def test_binary_tensors_both_ways(door: Stand) -> None:
    raw = bytes(range(8))
    inputs = [
        {"name": "b", "datatype": "INT16", "shape": [4], "parameters": {"binary_data_size": 8}},
        tensor("BYTES", [2], ["text", "ü"], name="t"),
    ]
    outputs = [{"name": "t"}, {"name": "b", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    answer = door.ask(post(ECHO, head + raw, f"Inference-Header-Content-Length: {len(head)}"))
    assert answer.headers["content-type"] == "application/octet-stream"
    size = int(answer.headers["inference-header-content-length"])
    text, binary = json.loads(answer.body[:size])["outputs"]
    assert text["data"] == ["text", "ü"]
    assert binary == {"name": "b", "datatype": "INT16", "shape": [4], "parameters": {"binary_data_size": 8}}
    assert answer.body[size:] == raw


def test_what_the_door_refuses_is_in_the_books(door: Stand) -> None:
    door.ask(post(AFFINE, b"{"))
    door.ask(post(AFFINE, affine() | {"imputs": []}))
    door.ask(post(AFFINE, affine(), "content-type: text/plain"))
    door.ask(post(AFFINE, affine(), "slipway-timeout-ms: 0"))
    door.ask(get(AFFINE, method="POST"))
    assert door.do(lambda: door.service.refusals) == [
        ("affine", "http", code)
        for code in (
            "malformed_request",
            "malformed_request",
            "unsupported_media",
            "deadline_exceeded",
            "length_required",
        )
    ]


def test_errors_of_a_model_do_not_end_the_connection(door: Stand) -> None:
    client = door.client()
    for wrong in ({}, {"inputs": []}, affine(1, 2), {"inputs": [tensor("FP64", [1, 4], [1, 2, 3, 4])]}):
        answer = client.ask(post(AFFINE, wrong))
        assert (answer.status, answer.code in ("invalid_input", "malformed_request")) == (400, True)
    assert msgspec.json.decode(client.ask(infer()).body)["outputs"][0]["data"] == [3, 5, 7, 9]
