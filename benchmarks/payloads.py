"""One question as bytes: Open Inference Protocol v2 in its three forms, and plain octets for servers without it."""

import json
import struct
from collections.abc import Mapping

import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks.contender import Codec, Model, Outputs, Request

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
_DATATYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32}


def _json_body(model: Model) -> bytes:
    # Numbers as a person or a camera driver would send them: the shortest text that is the same FP32 again.
    numbers = ",".join(np.format_float_positional(x, unique=True, trim="0") for x in model.rows.ravel())
    shape = json.dumps(list(model.rows.shape))
    head = f'{{"inputs":[{{"name":"{model.input_name}","shape":{shape},"datatype":"FP32","data":['
    return f"{head}{numbers}]}}]}}".encode()


def json_request(model: Model, *, path: str) -> Request:
    return Request(path=path, headers=(("content-type", "application/json"),), body=_json_body(model))


def _tensor(entry: Mapping[str, object], raw: bytes | None) -> np.ndarray:
    dtype = _DATATYPES[str(entry["datatype"])]
    flat = np.frombuffer(raw, dtype) if raw is not None else np.asarray(entry["data"], dtype)
    return flat.reshape(entry["shape"])  # type: ignore[call-overload, no-any-return]


def read_json(_model: Model, _headers: Mapping[str, str], body: bytes) -> Outputs:
    return {entry["name"]: _tensor(entry, None) for entry in json.loads(body)["outputs"]}


def binary_request(model: Model, *, path: str) -> Request:
    """The protocol's binary tensor extension: a JSON head, then the tensor's bytes; the answer likewise."""
    raw = model.rows.astype("<f4").tobytes()
    tensor = {
        "name": model.input_name,
        "shape": list(model.rows.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = (
        ("content-type", "application/octet-stream"),
        ("inference-header-content-length", str(len(head))),
    )
    return Request(path=path, headers=headers, body=head + raw)


def read_binary(_model: Model, headers: Mapping[str, str], body: bytes) -> Outputs:
    split = int(headers.get("inference-header-content-length", len(body)))
    rest = memoryview(body)[split:]
    outputs: dict[str, np.ndarray] = {}
    for entry in json.loads(body[:split])["outputs"]:
        size = entry.get("parameters", {}).get("binary_data_size")
        outputs[entry["name"]] = _tensor(entry, None if size is None else bytes(rest[:size]))
        rest = rest[size or 0 :]
    return outputs


def grpc_request(model: Model) -> Request:
    """One ModelInfer call as an HTTP/2 body: the message behind gRPC's five bytes of frame head."""
    call = service_pb2.ModelInferRequest(model_name=model.key)
    call.inputs.add(name=model.input_name, datatype="FP32", shape=list(model.rows.shape))
    call.raw_input_contents.append(model.rows.astype("<f4").tobytes())
    message = call.SerializeToString()
    headers = (("content-type", "application/grpc"), ("te", "trailers"))
    return Request(path=GRPC_PATH, headers=headers, body=struct.pack(">BI", 0, len(message)) + message)


def read_grpc(_model: Model, _headers: Mapping[str, str], body: bytes) -> Outputs:
    """`body` is the answer's message without its frame head."""
    answer = service_pb2.ModelInferResponse.FromString(body)
    outputs: dict[str, np.ndarray] = {}
    for index, tensor in enumerate(answer.outputs):
        if answer.raw_output_contents:
            flat = np.frombuffer(answer.raw_output_contents[index], _DATATYPES[tensor.datatype])
        else:
            contents = tensor.contents.int64_contents or tensor.contents.fp32_contents
            flat = np.asarray(contents, _DATATYPES[tensor.datatype])
        outputs[tensor.name] = flat.reshape(tensor.shape)
    return outputs


def octets_request(model: Model, *, path: str) -> Request:
    """Plain FP32 bytes in, plain FP32 bytes of the main output back: the cheapest door one can write by hand."""
    return Request(
        path=path,
        headers=(("content-type", "application/octet-stream"),),
        body=model.rows.astype("<f4").tobytes(),
    )


def read_octets(model: Model, _headers: Mapping[str, str], body: bytes) -> Outputs:
    expected = model.expected[model.main_output]
    return {model.main_output: np.frombuffer(body, "<f4").reshape(expected.shape)}


def _v2_path(model: Model) -> str:
    return f"/v2/models/{model.key}/infer"


V2_JSON = Codec(encode=lambda model: json_request(model, path=_v2_path(model)), decode=read_json)
V2_BINARY = Codec(encode=lambda model: binary_request(model, path=_v2_path(model)), decode=read_binary)
V2_GRPC = Codec(encode=grpc_request, decode=read_grpc)
# The hand-written servers (FastAPI, Flask, ...) take the same JSON at /infer and octets at /raw.
PLAIN_JSON = Codec(encode=lambda model: json_request(model, path="/infer"), decode=read_json)
PLAIN_OCTETS = Codec(encode=lambda model: octets_request(model, path="/raw"), decode=read_octets)
