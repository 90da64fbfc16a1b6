"""tritonclient.http.aio against a running server; see test_tritonclient.py."""

import asyncio
import os

import pytest
import tritonclient.http.aio as triton
from check_http import every, flower
from tensors import EVERY, SETOSA
from tritonclient.utils import InferenceServerException


def run(calls):
    async def inside():
        async with triton.InferenceServerClient(os.environ["SERVER"]) as client:
            return await calls(client)

    return asyncio.run(inside())


def test_health_and_metadata():
    async def calls(client):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("iris")
        return await client.get_model_metadata("iris"), await client.get_model_repository_index()

    metadata, index = run(calls)
    assert metadata["name"] == "iris"
    assert "iris" in [entry["name"] for entry in index]


def test_many_at_once():
    async def calls(client):
        return await asyncio.gather(*[client.infer("iris", flower(number % 2 == 0)) for number in range(40)])

    assert all(answer.as_numpy("label").tolist() == [SETOSA] for answer in run(calls))


def test_every_datatype():
    async def calls(client):
        return await client.infer("echo", every(True), request_compression_algorithm="gzip")

    answer = run(calls)
    for datatype, sent in EVERY.items():
        assert answer.as_numpy(datatype).tolist() == sent.tolist()


def test_an_error_says_what_was_wrong():
    async def calls(client):
        await client.infer("iris", flower(), outputs=[triton.InferRequestedOutput("nothing")])

    with pytest.raises(InferenceServerException, match="nothing") as caught:
        run(calls)
    assert caught.value.status() == "400"
