"""Every call of the client, over both protocols, blocking and asyncio, against real doors."""

from __future__ import annotations

import inspect
import threading
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from client_doors import LiveDoors

from slipway.client import AsyncClient, Client, Retry
from slipway.errors import (
    DeadlineExceeded,
    InvalidInput,
    LoadFailure,
    ModelFailure,
    NotFound,
    Overloaded,
    SetupError,
    Unavailable,
    Unsupported,
)

EVERY_DATATYPE = {
    "BOOL": np.array([[True], [False]]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([1.5, np.inf], np.float16),
    "FP32": np.array([1e-45, np.nan], np.float32),
    "FP64": np.array([0.1, -np.inf], np.float64),
}


def test_an_array_goes_in_and_arrays_by_name_come_out(client: Any) -> None:
    prediction = client.predict("affine", np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32), id="mine")
    assert list(prediction) == ["y"]
    np.testing.assert_array_equal(prediction["y"], [[3, 5, 7, 9], [11, 13, 15, 17]])
    assert prediction["y"].dtype == np.float32
    assert (prediction.model, prediction.version, prediction.id) == ("affine", "v1", "mine")


def test_lists_and_float64_become_what_the_model_takes(client: Any) -> None:
    np.testing.assert_array_equal(client.predict("affine", [[1, 2, 3, 4]])["y"], [[3, 5, 7, 9]])
    np.testing.assert_array_equal(client.predict("affine", {"x": np.zeros((1, 4))})["y"], [[1, 1, 1, 1]])


def test_a_dataframe_goes_in_and_comes_out_under_its_index(client: Any) -> None:
    frame = pd.DataFrame(np.arange(8).reshape(2, 4), index=["first", "second"])
    answer = client.predict("affine", frame).to_pandas()
    assert answer.index.tolist() == ["first", "second"]
    assert answer.columns.tolist() == ["y_0", "y_1", "y_2", "y_3"]
    assert answer.loc["second"].tolist() == [9, 11, 13, 15]


@pytest.mark.parametrize("datatype", EVERY_DATATYPE)
@pytest.mark.parametrize("rows", [1, 2000], ids=["small", "large"])
def test_every_datatype_survives_the_journey(client: Any, datatype: str, rows: int) -> None:
    sent = np.repeat(EVERY_DATATYPE[datatype], rows, axis=0)
    got = client.predict("echo", {datatype: sent})[datatype]
    assert got.dtype == sent.dtype
    np.testing.assert_array_equal(got, sent)


@pytest.mark.parametrize("element", [b"", "text ü €".encode(), b"\xff\x00 not text", b"long" * 1000])
def test_bytes_survive_the_journey(client: Any, element: bytes) -> None:
    sent = np.array([[element, b"b"]], dtype=object)
    got = client.predict("echo", {"words": sent})["words"]
    assert got.tolist() == sent.tolist()


def test_strings_are_text_again_in_pandas(client: Any) -> None:
    answer = client.predict("echo", {"words": np.array(["å", "b"]), "n": np.array([1, 2])}).to_pandas()
    assert answer["words"].tolist() == ["å", "b"]
    assert answer["n"].tolist() == [1, 2]


def test_options_reach_the_server(client: Any, doors: LiveDoors) -> None:
    client.predict("echo", {"a": [1.0]}, version="v1", outputs=["a"], priority=0, parameters={"k": "v", "n": 3})
    request = doors.do(lambda service: service.requests[-1])
    assert (request.version, request.outputs, request.priority) == ("v1", ("a",), 0)
    assert request.parameters is not None
    assert (request.parameters["k"], request.parameters["n"]) == ("v", 3)


def test_only_the_outputs_asked_for_come(client: Any) -> None:
    assert list(client.predict("echo", {"a": [1], "b": [2]}, outputs=["b"])) == ["b"]


def test_the_deadline_reaches_the_server(client: Any, doors: LiveDoors) -> None:
    client.predict("affine", [[1, 2, 3, 4]], timeout_s=20)
    left_s = doors.do(lambda service: service.requests[-1].deadline - time.monotonic())
    assert 10 < left_s < 21  # gRPC rounds up


def test_health_and_metadata(client: Any, doors: LiveDoors) -> None:
    assert client.live()
    assert client.ready()
    assert client.ready("affine", version="v1")
    metadata = client.metadata("affine")
    assert (metadata.name, metadata.versions, metadata.platform) == ("affine", ("v1",), "stub")
    (spec,) = metadata.signature.inputs
    assert (spec.name, spec.datatype, spec.shape) == ("x", "FP32", (-1, 4))
    assert client.server_metadata().name == "slipway"
    doors.set(is_ready=False)
    assert client.live()
    assert not client.ready()
    doors.set(is_live=False)
    assert not client.live()


def test_the_repository(client: Any, doors: LiveDoors) -> None:
    client.unload("affine")
    assert not client.ready("affine")
    assert {entry.name: entry.state for entry in client.index()} == {"affine": "UNAVAILABLE", "echo": "READY"}
    assert [entry.name for entry in client.index(ready_only=True)] == ["echo"]
    client.load("affine")
    assert client.ready("affine")
    doors.set(load_outcome=LoadFailure("the file is cut short"))
    with pytest.raises(LoadFailure, match="the file is cut short"):
        client.load("affine")


def test_statistics_count_what_was_computed(client: Any) -> None:
    before = client.statistics("affine")[0].inferences
    client.predict("affine", [[1, 2, 3, 4]])
    (after,) = client.statistics("affine")
    assert after.inferences == after.success.count == before + 1
    assert {one.name for one in client.statistics()} == {"affine", "echo"}


def test_wait_ready_returns_when_it_is(client: Any, doors: LiveDoors) -> None:
    doors.set(is_ready=False)
    with pytest.raises(DeadlineExceeded, match=r"not ready after 0\.2 s"):
        client.wait_ready(timeout_s=0.2)
    timer = threading.Timer(0.1, lambda: doors.set(is_ready=True))
    timer.start()
    client.wait_ready(timeout_s=10)
    assert client.ready()
    timer.join()


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_errors_are_the_servers_own(client: Any, doors: LiveDoors) -> None:
    with pytest.raises(NotFound, match="did you mean 'affine'"):
        client.predict("afine", [[1, 2, 3, 4]])
    with pytest.raises(NotFound, match="no version 'v9'"):
        client.predict("affine", [[1, 2, 3, 4]], version="v9")
    with pytest.raises(NotFound):
        client.ready("nobody")
    with pytest.raises(InvalidInput, match=r"shape \[1, 3\], expected \[-1, 4\]"):
        client.predict("affine", [[1, 2, 3]])
    doors.set(fail=ModelFailure("division by zero", correlation="abc123"))
    with pytest.raises(ModelFailure, match="division by zero") as caught:
        client.predict("affine", [[1, 2, 3, 4]])
    assert caught.value.correlation == "abc123"


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"z": [[1.0]]}, "unknown input 'z'"),
        ([["a", "b", "c", "d"]], r"dtype <U1.*the model takes 'x' \(FP32 \[-1, 4\]\)"),
        ([[1, 2], [3]], "cannot be read as an array"),
        (np.array([[1j]]), "dtype complex128"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_what_would(client: Any, inputs: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        client.predict("affine", inputs)


def test_a_full_queue_is_asked_again(client: Any, doors: LiveDoors) -> None:
    client.predict("affine", [[1, 2, 3, 4]])
    doors.set(fail=Overloaded("the queue is full"))
    timer = threading.Timer(0.05, lambda: doors.set(fail=None))
    timer.start()
    assert client.predict("affine", [[1, 2, 3, 4]])["y"].shape == (1, 4)
    timer.join()


def test_a_retry_hint_beyond_the_deadline_is_an_answer(client: Any, doors: LiveDoors) -> None:
    client.predict("affine", [[1, 2, 3, 4]])
    doors.set(fail=Overloaded("the queue is full", retry_after_s=30))
    before = len(doors.do(lambda service: service.requests))
    with pytest.raises(Overloaded, match="the queue is full") as caught:
        client.predict("affine", [[1, 2, 3, 4]], timeout_s=5)
    assert caught.value.retry_after_s == 30
    assert len(doors.do(lambda service: service.requests)) == before + 1


def test_a_slow_model_meets_the_deadline(client: Any, doors: LiveDoors) -> None:
    client.predict("affine", [[1, 2, 3, 4]])
    doors.set(hold=True)
    with pytest.raises(DeadlineExceeded):
        client.predict("affine", [[1, 2, 3, 4]], timeout_s=0.1)
    with pytest.raises(InvalidInput, match="timeout_s is 0"):
        client.predict("affine", [[1, 2, 3, 4]], timeout_s=0)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there(kind: Any, scheme: str) -> None:
    with kind(f"{scheme}://127.0.0.1:1", retry=Retry(attempts=2, first_wait_s=0.01)) as client:
        assert not client.live()
        assert not client.ready("affine")
        with pytest.raises(Unavailable, match=f"cannot reach {scheme}://127.0.0.1:1"):
            client.predict("affine", [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://host", "http://", "http://host:port", "http://u:p@host", "grpc://host/path"]
)
def test_a_url_that_is_none(kind: Any, url: str) -> None:
    with pytest.raises(SetupError, match=r"http://127\.0\.0\.1:8080"):
        kind(url)


def test_many_threads_share_a_client(doors: LiveDoors) -> None:
    for url in (doors.http, doors.grpc):
        with Client(url, connections=4) as client:
            wrong: list[object] = []

            def call(number: int, client: Client = client, wrong: list[object] = wrong) -> None:
                for _ in range(20):
                    got = client.predict("affine", np.full((2, 4), number))["y"]
                    if not (got == 2 * number + 1).all():
                        wrong.append(got)

            threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong


# --- streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["grpc-blocking", "grpc-asyncio"], indirect=True)
class TestStreams:
    def test_every_item_is_answered(self, client: Any) -> None:
        items = (np.full((1, 4), number) for number in range(50))
        answers = {int(prediction.id): prediction["y"][0, 0] for prediction in client.stream("affine", items)}
        assert answers == {number: 2 * number + 1 for number in range(50)}

    def test_an_error_names_its_item(self, client: Any) -> None:
        with pytest.raises(InvalidInput, match=r"request 1 of the stream: .*shape \[1, 3\]"):
            list(client.stream("affine", [[[1, 2, 3, 4]], [[1, 2, 3]]]))

    def test_an_item_that_cannot_be_sent(self, client: Any) -> None:
        with pytest.raises(InvalidInput, match="does not become FP32"):
            list(client.stream("affine", [[["a", "b", "c", "d"]]]))


@pytest.mark.parametrize("client", ["http-blocking", "http-asyncio"], indirect=True)
def test_no_stream_over_http(client: Any) -> None:
    with pytest.raises(Unsupported, match="grpc://"):
        list(client.stream("affine", []))


# --- the public face ---------------------------------------------------------------------------------------------


def test_both_clients_have_the_same_methods_and_arguments() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        methods = {name: method for name, method in inspect.getmembers(kind, callable) if not name.startswith("_")}
        methods["__init__"] = kind.__init__
        return {name: [str(p) for p in inspect.signature(m).parameters.values()] for name, m in methods.items()}

    blocking, awaited = surface(Client), surface(AsyncClient)
    del blocking["stream"], awaited["stream"]  # differ in what they iterate over
    assert blocking == awaited
