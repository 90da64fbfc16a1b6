"""BentoML: a service with adaptive batching."""

import json
from collections.abc import Mapping

import numpy as np

from benchmarks.contender import Codec, Command, Model, Outputs, Peer, Request, Start


def start(start: Start) -> Command:
    address = ("--host", "127.0.0.1", "--port", str(start.ports.http))
    home = start.scratch / "bentoml"
    home.mkdir()
    return Command(
        argv=(start.script("bentoml"), "serve", "server:Model", "--working-dir", str(PEER.folder), *address),
        env={"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
    )


def encode(model: Model) -> Request:
    numbers = (np.format_float_positional(x, unique=True, trim="0") for x in model.rows.ravel())
    array = np.array(list(numbers), object).reshape(model.rows.shape).tolist()
    body = json.dumps({"rows": array}).replace('"', "").replace("rows", '"rows"')
    return Request(path="/infer", headers=(("content-type", "application/json"),), body=body.encode())


def decode(model: Model, _headers: Mapping[str, str], body: bytes) -> Outputs:
    return {model.main_output: np.asarray(json.loads(body), np.float32)}


PEER = Peer(
    name="bentoml",
    title="BentoML",
    how="batchable API over arrays (its own JSON form), 2 workers, access log off",
    packages=("bentoml", "starlette", "uvicorn", "onnxruntime"),
    start=start,
    codecs={"json": Codec(encode=encode, decode=decode)},
    ready_path="/readyz",
)
