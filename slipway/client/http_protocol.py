"""The Open Inference Protocol v2 over HTTP, from the caller's side: requests to bytes, answers to values. No I/O.

Small tensors travel as JSON, which every server of the protocol reads; large ones, and those that JSON cannot hold
exactly (NaN, half floats, bytes that are not text), as raw bytes behind it, by the binary tensor data extension.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Literal
from urllib.parse import quote

import orjson

from slipway.client.exchange import Exchange, Incoming, Outgoing
from slipway.client.failures import BY_HTTP_STATUS, make_error
from slipway.client.http_answers import (
    JSON_LENGTH,
    read_index,
    read_metadata,
    read_nothing,
    read_response,
    read_server,
    read_statistics,
    read_yes,
)
from slipway.errors import SlipwayError
from slipway.infer.arrays import to_array
from slipway.infer.request import Request, Response
from slipway.infer.service import IndexEntry, ModelMetadata, ModelStatistics, ServerMetadata
from slipway.infer.tensor import Tensor

Format = Literal["auto", "json", "binary"]

TIMEOUT = "slipway-timeout-ms"
JSON_UP_TO_BYTES = 1024


class HttpProtocol:
    """`prefix`: path that stands before `/v2`. `tensors`: how tensors travel; auto as the module says."""

    def __init__(self, prefix: str = "", *, tensors: Format = "auto") -> None:
        self._prefix = prefix.rstrip("/")
        self._tensors = tensors

    def failure(self, incoming: Incoming) -> SlipwayError | None:
        if incoming.status < 300:
            return None
        try:
            said = orjson.loads(incoming.body)
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict):
            said = {}
        message = said.get("error") or said.get("detail")  # FastAPI-based servers say `detail`
        return make_error(
            str(said.get("code", "")),
            str(message or f"the server answered with status {incoming.status}"),
            fallback=BY_HTTP_STATUS.get(incoming.status),
            headers=incoming.headers,
            correlation=str(said.get("correlation", "")),
        )

    def with_timeout(self, outgoing: Outgoing, timeout_s: float) -> Outgoing:
        headers = outgoing.headers | {TIMEOUT: str(max(1, int(timeout_s * 1000)))}
        return Outgoing(outgoing.path, outgoing.body, outgoing.method, headers)

    def infer(self, request: Request) -> Exchange[Response]:
        binary = self._tensors == "binary" or (
            self._tensors == "auto" and not all(_suits_json(tensor) for tensor in request.inputs)
        )
        parameters = dict(request.parameters or {})
        if self._tensors != "json":
            parameters["binary_data_output"] = True
        content: dict[str, Any] = {"inputs": [_input(tensor, binary=binary) for tensor in request.inputs]}
        if request.id:
            content["id"] = request.id
        if parameters:
            content["parameters"] = parameters
        if request.outputs is not None:
            content["outputs"] = [{"name": name} for name in request.outputs]
        body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = {"content-type": "application/json"}
        if binary:
            headers = {"content-type": "application/octet-stream", JSON_LENGTH: str(len(body))}
            body = b"".join([body, *[tensor.data for tensor in request.inputs]])
        path = self._model_path(request.model, request.version) + "/infer"
        return Exchange(Outgoing(path, body, headers=headers), read_response)

    def live(self) -> Exchange[bool]:
        return Exchange(self._get("/v2/health/live"), read_yes)

    def ready(self, model: str, version: str) -> Exchange[bool]:
        path = self._model_path(model, version) + "/ready" if model else self._prefix + "/v2/health/ready"
        return Exchange(Outgoing(path, method="GET"), read_yes)

    def server_metadata(self) -> Exchange[ServerMetadata]:
        return Exchange(self._get("/v2"), read_server)

    def model_metadata(self, model: str, version: str) -> Exchange[ModelMetadata]:
        return Exchange(Outgoing(self._model_path(model, version), method="GET"), read_metadata)

    def statistics(self, model: str, version: str) -> Exchange[list[ModelStatistics]]:
        path = self._model_path(model, version) + "/stats" if model else self._prefix + "/v2/models/stats"
        return Exchange(Outgoing(path, method="GET"), read_statistics)

    def index(self, *, ready_only: bool) -> Exchange[list[IndexEntry]]:
        body = b'{"ready":true}' if ready_only else b"{}"
        return Exchange(self._post("/v2/repository/index", body), read_index)

    def load(self, model: str) -> Exchange[None]:
        return Exchange(self._post(f"/v2/repository/models/{quote(model, safe='')}/load"), read_nothing)

    def unload(self, model: str) -> Exchange[None]:
        return Exchange(self._post(f"/v2/repository/models/{quote(model, safe='')}/unload"), read_nothing)

    def _model_path(self, model: str, version: str) -> str:
        path = f"{self._prefix}/v2/models/{quote(model, safe='')}"
        return f"{path}/versions/{quote(version, safe='')}" if version else path

    def _get(self, path: str) -> Outgoing:
        return Outgoing(self._prefix + path, method="GET")

    def _post(self, path: str, body: bytes = b"{}") -> Outgoing:
        return Outgoing(self._prefix + path, body, headers={"content-type": "application/json"})


# --- requests ----------------------------------------------------------------------------------------------------


def _suits_json(tensor: Tensor) -> bool:
    """It is small, and JSON holds it exactly."""
    if len(tensor.data) > JSON_UP_TO_BYTES or not _has_json(tensor):
        return False
    if tensor.datatype in ("FP32", "FP64"):
        return all(map(isfinite, to_array(tensor).ravel().tolist()))
    if tensor.datatype == "BYTES":
        return all(_is_text(element) for element in to_array(tensor).ravel().tolist())
    return True


def _has_json(tensor: Tensor) -> bool:
    return tensor.datatype not in ("FP16", "BF16")


def _is_text(element: bytes) -> bool:
    try:
        element.decode()
    except UnicodeDecodeError:
        return False
    return True


def _input(tensor: Tensor, *, binary: bool) -> dict[str, Any]:
    form: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if binary:
        form["parameters"] = {"binary_data_size": len(tensor.data)}
    elif tensor.datatype == "BYTES":
        form["data"] = [element.decode("utf-8", "replace") for element in to_array(tensor).ravel().tolist()]
    elif _has_json(tensor):
        form["data"] = to_array(tensor).ravel()
    else:
        form["data"] = to_array(tensor).ravel().astype("<f4")
    return form
