"""Every call of tritonclient's gRPC clients that Slipway serves, over the models of StubService.

Run by tests/conformance/test_grpc_tritonclient.py, in the environment that tritonclient needs, with the port.
"""

from __future__ import annotations

import asyncio
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


def given(name: str, array: Any, datatype: str) -> triton.InferInput:
    tensor = triton.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def refused(call: Any) -> InferenceServerException:
    try:
        found = call()
    except InferenceServerException as error:
        return error
    raise AssertionError(f"expected an error, got {found!r}")


def ask_about_everything(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affine", "v1")
    assert client.get_server_metadata().name == "slipway"
    assert client.get_model_metadata("affine", as_json=True)["inputs"][0]["shape"] == ["-1", "4"]
    assert client.get_model_config("affine").config.input[0].name == "x"
    assert client.get_inference_statistics("affine").model_stats[0].version == "v1"
    assert {model.name for model in client.get_model_repository_index().models} == {"affine", "echo"}
    client.unload_model("echo")
    assert not client.is_model_ready("echo")
    client.load_model("echo")
    assert client.is_model_ready("echo")
    assert refused(client.get_trace_settings).status() == "StatusCode.UNIMPLEMENTED"


def infer_in_every_way(client: triton.InferenceServerClient) -> None:
    options = {"request_id": "r1", "priority": 1, "timeout": 5_000_000, "client_timeout": 10, "parameters": {"k": "v"}}
    outputs = [triton.InferRequestedOutput("y")]
    answer = client.infer("affine", [given("x", ROWS, "FP32")], outputs=outputs, **options)
    assert (answer.as_numpy("y") == 2 * ROWS + 1).all()
    assert answer.get_response().id == "r1"
    answer = client.infer("affine", [given("x", ROWS, "FP32")], compression_algorithm="gzip")
    assert (answer.as_numpy("y") == 2 * ROWS + 1).all()
    answers: queue.Queue[Any] = queue.Queue()
    client.async_infer("affine", [given("x", ROWS, "FP32")], callback=lambda **found: answers.put(found))
    found = answers.get(timeout=10)
    assert found["error"] is None
    assert (found["result"].as_numpy("y") == 2 * ROWS + 1).all()
    error = refused(lambda: client.infer("afine", [given("x", ROWS, "FP32")]))
    assert (error.status(), error.message()) == ("StatusCode.NOT_FOUND", "no model 'afine'; did you mean 'affine'?")
    wrong = given("x", ROWS.astype(np.float64), "FP64")
    assert refused(lambda: client.infer("affine", [wrong])).status() == "StatusCode.INVALID_ARGUMENT"


def send_every_datatype(client: triton.InferenceServerClient) -> None:
    text = np.array([[b"a", b"bc"], ["grüße".encode(), b""]], dtype=object)
    samples = {"BYTES": text, "BOOL": np.array([True, False]), "FP16": np.array([1.5, -2], np.float16)}
    for kind, name in (("i", "INT"), ("u", "UINT")):
        samples |= {f"{name}{8 * size}": np.array([1, 2], f"{kind}{size}") for size in (1, 2, 4, 8)}
    samples |= {"FP32": ROWS, "FP64": ROWS.astype(np.float64)}
    for datatype, array in samples.items():
        answer = client.infer("echo", [given("t", array, datatype)]).as_numpy("t")
        assert (answer == array).all(), datatype


def stream(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(50):
        client.async_stream_infer(
            "nope" if number == 2 else "affine",
            [given("x", ROWS + number, "FP32")],
            request_id=str(number),
            enable_empty_final_response=True,
        )
    found = [answers.get(timeout=10) for _ in range(50)]
    client.stop_stream()
    assert [error.message() for _, error in found if error] == ["no model 'nope'"]
    for result, _ in found:
        if result is not None:
            response = result.get_response()
            assert response.parameters["triton_final_response"].bool_param
            assert (result.as_numpy("y") == 2 * (ROWS + int(response.id)) + 1).all()


async def with_asyncio(url: str) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(5):
            yield {"model_name": "affine", "inputs": [given("x", ROWS, "FP32")], "request_id": str(number)}

    async with triton_aio.InferenceServerClient(url) as client:
        assert await client.is_server_ready()
        calls = [client.infer("affine", [given("x", ROWS + number, "FP32")]) for number in range(20)]
        for number, answer in enumerate(await asyncio.gather(*calls)):
            assert (answer.as_numpy("y") == 2 * (ROWS + number) + 1).all()
        seen = [(result.get_response().id, error) async for result, error in client.stream_infer(requests())]
        assert sorted(seen) == [(str(number), None) for number in range(5)]


def main(port: str) -> None:
    url = f"127.0.0.1:{port}"
    with triton.InferenceServerClient(url) as client:
        ask_about_everything(client)
        infer_in_every_way(client)
        send_every_datatype(client)
        stream(client)
    asyncio.run(with_asyncio(url))
    print("tritonclient is served")


if __name__ == "__main__":
    main(sys.argv[1])
