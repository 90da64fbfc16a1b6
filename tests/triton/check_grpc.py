"""tritonclient.grpc against a running server; see test_tritonclient.py."""

import os
import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
from tensors import EVERY, FLOWER, SETOSA
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def client():
    opened = triton.InferenceServerClient(os.environ["SERVER"])
    yield opened
    opened.close()


def flower():
    given = triton.InferInput("input", [1, 4], "FP32")
    given.set_data_from_numpy(FLOWER)
    return [given]


def every():
    given = []
    for datatype, array in EVERY.items():
        tensor = triton.InferInput(datatype, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        given.append(tensor)
    return given


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "v1")
    assert client.get_server_metadata().name == "slipway"
    (given,) = client.get_model_metadata("iris").inputs
    assert (given.name, given.datatype, list(given.shape)) == ("input", "FP32", [-1, 4])
    assert client.get_model_config("iris").config.name == "iris"


def test_unknown_models(client):
    with pytest.raises(InferenceServerException, match="did you mean 'iris'") as caught:
        client.infer("iriss", flower())
    assert caught.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize("algorithm", [None, "gzip"])
def test_infer(client, algorithm):
    wanted = [triton.InferRequestedOutput(name) for name in ("probabilities", "label")]
    answer = client.infer(
        "iris", flower(), outputs=wanted, request_id="mine", client_timeout=10, timeout=10_000_000,
        compression_algorithm=algorithm, parameters={"note": "text"},
    )  # fmt: skip
    assert answer.as_numpy("label").tolist() == [SETOSA]
    assert answer.as_numpy("probabilities").sum() == pytest.approx(1, abs=1e-5)
    assert answer.get_response().id == "mine"


def test_every_datatype(client):
    answer = client.infer("echo", every())
    for datatype, sent in EVERY.items():
        np.testing.assert_array_equal(answer.as_numpy(datatype), sent)


def test_many_at_once(client):
    done = queue.Queue()
    for _ in range(20):
        client.async_infer("iris", flower(), callback=lambda result, error: done.put((result, error)))
    for _ in range(20):
        answer, error = done.get(timeout=20)
        assert error is None
        assert answer.as_numpy("label").tolist() == [SETOSA]


def test_a_stream(client):
    done = queue.Queue()
    client.start_stream(callback=lambda result, error: done.put((result, error)))
    for number in range(10):
        client.async_stream_infer("iris", flower(), request_id=str(number))
    client.async_stream_infer("nobody", flower(), request_id="wrong")
    got = [done.get(timeout=20) for _ in range(11)]
    client.stop_stream()
    assert {answer.get_response().id for answer, error in got if error is None} == {str(n) for n in range(10)}
    (error,) = [error for _, error in got if error is not None]
    assert "nobody" in str(error)


def test_an_error_says_what_was_wrong(client):
    given = triton.InferInput("input", [1, 3], "FP32")
    given.set_data_from_numpy(FLOWER[:, :3])
    with pytest.raises(InferenceServerException, match="expected") as caught:
        client.infer("iris", [given])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_statistics(client):
    def count():
        return client.get_inference_statistics("iris").model_stats[0].inference_count

    before = count()
    client.infer("iris", flower())
    assert count() == before + 1


def test_the_repository(client):
    assert {entry.name: entry.state for entry in client.get_model_repository_index().models}["iris"] == "READY"
    client.unload_model("echo")
    assert not client.is_model_ready("echo")
    client.load_model("echo")
    assert client.is_model_ready("echo")
