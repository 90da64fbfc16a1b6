"""How the Open Inference Protocol v2 over HTTP answers, read leniently: other servers nest data or leave fields out."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson

from slipway.client.exchange import Incoming
from slipway.errors import InvalidOutput, SlipwayError
from slipway.infer.arrays import NUMPY, to_tensor
from slipway.infer.request import Response
from slipway.infer.service import (
    BatchStatistic,
    DurationStatistic,
    IndexEntry,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
)
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import DATATYPES, Tensor, check_size, pack_bytes

JSON_LENGTH = "inference-header-content-length"

T = TypeVar("T")


class OutputBody(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any = None
    parameters: dict[str, Any] | None = None


class ResponseBody(msgspec.Struct):
    model_name: str = ""
    outputs: list[OutputBody] = []
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


class SpecBody(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[int, ...]


class MetadataParameters(msgspec.Struct):
    columns: list[SpecBody] = []


class MetadataBody(msgspec.Struct):
    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: list[SpecBody] = []
    outputs: list[SpecBody] = []
    parameters: MetadataParameters | None = None


class InferenceStatsBody(msgspec.Struct):
    success: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    fail: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    queue: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    compute_infer: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    cache_hit: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    cache_miss: DurationStatistic = msgspec.field(default_factory=DurationStatistic)


class BatchStatsBody(msgspec.Struct):
    batch_size: int
    compute_infer: DurationStatistic


class ModelStatsBody(msgspec.Struct):
    name: str
    version: str = ""
    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: InferenceStatsBody = msgspec.field(default_factory=InferenceStatsBody)
    batch_stats: list[BatchStatsBody] = []


class StatisticsBody(msgspec.Struct):
    model_stats: list[ModelStatsBody] = []


class IndexBody(msgspec.Struct):
    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


def read_response(answer: Incoming) -> Response:
    text, binary = memoryview(answer.body), memoryview(b"")
    try:
        json_bytes = answer.headers.get(JSON_LENGTH)
        if json_bytes is not None:
            text, binary = text[: int(json_bytes)], text[int(json_bytes) :]
        body = msgspec.json.decode(text, type=ResponseBody)
        outputs, at = [], 0
        for output in body.outputs:
            size = (output.parameters or {}).get("binary_data_size")
            if size is None:
                outputs.append(_from_json(output))
            else:
                outputs.append(Tensor(output.name, output.datatype, output.shape, binary[at : at + size]))
                at += size
        for tensor in outputs:
            check_size(tensor)
    except (msgspec.DecodeError, SlipwayError, LookupError, ValueError, TypeError) as error:
        raise _not_an_answer(error) from error
    return Response(body.model_name, body.model_version or "", outputs, body.id or "", body.parameters)


def _from_json(output: OutputBody) -> Tensor:
    flat = output.data if isinstance(output.data, list) else [output.data]
    while any(isinstance(item, list) for item in flat):
        flat = [inner for item in flat for inner in (item if isinstance(item, list) else [item])]
    if output.datatype == "BYTES":
        data = pack_bytes([item.encode() if isinstance(item, str) else orjson.dumps(item) for item in flat])
        return Tensor(output.name, "BYTES", output.shape, data)
    if DATATYPES[output.datatype].kind == "f":
        flat = [np.nan if item is None else item for item in flat]  # JSON has no other word for it
    kind = NUMPY.get(output.datatype, np.dtype("<f4"))
    return to_tensor(output.name, np.asarray(flat, kind).reshape(output.shape), datatype=output.datatype)


def read_metadata(answer: Incoming) -> ModelMetadata:
    body = _decode(answer, MetadataBody)
    columns = body.parameters.columns if body.parameters is not None else []
    signature = Signature(_specs(body.inputs), _specs(body.outputs), _specs(columns))
    return ModelMetadata(body.name, body.versions, body.platform, signature)


def _specs(bodies: list[SpecBody]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(body.name, body.datatype, body.shape) for body in bodies)


def read_statistics(answer: Incoming) -> list[ModelStatistics]:
    return [
        ModelStatistics(
            body.name,
            body.version,
            body.last_inference,
            body.inference_count,
            body.execution_count,
            success=body.inference_stats.success,
            fail=body.inference_stats.fail,
            queue=body.inference_stats.queue,
            compute=body.inference_stats.compute_infer,
            cache_hit=body.inference_stats.cache_hit,
            cache_miss=body.inference_stats.cache_miss,
            batches=[BatchStatistic(batch.batch_size, batch.compute_infer) for batch in body.batch_stats],
        )
        for body in _decode(answer, StatisticsBody).model_stats
    ]


def read_index(answer: Incoming) -> list[IndexEntry]:
    return [IndexEntry(body.name, body.version, body.state, body.reason) for body in _decode(answer, list[IndexBody])]


def read_server(answer: Incoming) -> ServerMetadata:
    return _decode(answer, ServerMetadata)


def read_yes(answer: Incoming) -> bool:  # noqa: ARG001
    return True  # a no has an error status


def read_nothing(answer: Incoming) -> None:
    """What matters was in the status."""


def _decode(answer: Incoming, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        raise _not_an_answer(error) from error


def _not_an_answer(error: Exception) -> SlipwayError:
    return InvalidOutput(f"the server's answer is not one of the Open Inference Protocol v2: {error}")
