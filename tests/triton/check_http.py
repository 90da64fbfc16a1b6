"""tritonclient.http against a running server; see test_tritonclient.py."""

import os

import numpy as np
import pytest
import tritonclient.http as triton
from tensors import EVERY, FLOWER, SETOSA
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def client():
    opened = triton.InferenceServerClient(os.environ["SERVER"], concurrency=4)
    yield opened
    opened.close()


def flower(binary=True):
    given = triton.InferInput("input", [1, 4], "FP32")
    given.set_data_from_numpy(FLOWER, binary_data=binary)
    return [given]


def every(binary):
    given = []
    for datatype, array in EVERY.items():
        tensor = triton.InferInput(datatype, list(array.shape), datatype)
        as_binary = binary or datatype in ("FP16", "BF16", "BYTES") or not np.isfinite(array).all()
        tensor.set_data_from_numpy(array, binary_data=as_binary)
        given.append(tensor)
    return given


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "v1")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("iris")
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
    assert client.get_model_config("iris")["max_batch_size"] > 0


def test_unknown_models(client):
    assert not client.is_model_ready("nobody")
    with pytest.raises(InferenceServerException, match="did you mean 'iris'") as caught:
        client.infer("iriss", flower())
    assert caught.value.status() == "404"


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_infer(client, binary_in, binary_out):
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "label")]
    answer = client.infer("iris", flower(binary_in), outputs=wanted, request_id="mine", timeout=10_000_000, priority=1)
    assert answer.as_numpy("label").tolist() == [SETOSA]
    assert answer.as_numpy("probabilities").sum() == pytest.approx(1, abs=1e-5)
    assert answer.get_response()["id"] == "mine"
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["probabilities", "label"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_both_ways(client, algorithm):
    given = triton.InferInput("input", [500, 4], "FP32")
    given.set_data_from_numpy(np.repeat(FLOWER, 500, axis=0))
    answer = client.infer(
        "iris", [given], request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
    )
    assert (answer.as_numpy("label") == SETOSA).all()


@pytest.mark.parametrize("binary", [False, True])
def test_every_datatype(client, binary):
    answer = client.infer("echo", every(binary))
    for datatype, sent in EVERY.items():
        np.testing.assert_array_equal(answer.as_numpy(datatype), sent)


def test_many_at_once(client):
    waiting = [client.async_infer("iris", flower()) for _ in range(20)]
    assert all(pending.get_result().as_numpy("label").tolist() == [SETOSA] for pending in waiting)


def test_an_error_says_what_was_wrong(client):
    given = triton.InferInput("input", [1, 3], "FP32")
    given.set_data_from_numpy(FLOWER[:, :3])
    with pytest.raises(InferenceServerException, match="expected") as caught:
        client.infer("iris", [given])
    assert caught.value.status() == "400"


def test_statistics(client):
    def count():
        return client.get_inference_statistics("iris")["model_stats"][0]["inference_count"]

    before = count()
    client.infer("iris", flower())
    assert count() == before + 1


def test_the_repository(client):
    assert {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}["iris"] == "READY"
    client.unload_model("echo")
    assert not client.is_model_ready("echo")
    with pytest.raises(InferenceServerException):
        client.infer("echo", every(True))
    client.load_model("echo")
    assert client.is_model_ready("echo")
