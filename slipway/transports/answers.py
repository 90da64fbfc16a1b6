"""What the house says of itself, as the fields of the protocol's messages: JSON over HTTP, protobuf over gRPC."""

from __future__ import annotations

from typing import Any

from slipway.infer.service import DurationStatistic, IndexEntry, ModelMetadata, ModelStatistics
from slipway.infer.signature import TensorSpec

_SPECIAL_TYPES = {"BYTES": "TYPE_STRING"}


def model_metadata(found: ModelMetadata) -> dict[str, Any]:
    return {
        "name": found.name,
        "versions": found.versions,
        "platform": found.platform,
        "inputs": [tensor(spec) for spec in found.signature.inputs],
        "outputs": [tensor(spec) for spec in found.signature.outputs],
    }


def model_config(found: ModelMetadata) -> dict[str, Any]:
    """What tools made for Triton read before they send: with a `max_batch_size`, shapes do not count the rows."""
    signature = found.signature
    skip = 1 if signature.batchable else 0
    return {
        "name": found.name,
        "platform": found.platform,
        "max_batch_size": found.max_rows if signature.batchable else 0,
        "input": [{**_config(spec, skip), "optional": spec.optional} for spec in signature.inputs],
        "output": [_config(spec, skip) for spec in signature.outputs],
    }


def index_entry(entry: IndexEntry) -> dict[str, Any]:
    return {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}


def statistics(one: ModelStatistics) -> dict[str, Any]:
    """Moving tensors in and out is part of our `compute`, so the protocol's two fields for it hold no time."""
    nothing = {"count": one.compute.count, "ns": 0}
    return {
        "name": one.name,
        "version": one.version,
        "last_inference": one.last_inference_ms,
        "inference_count": one.inferences,
        "execution_count": one.executions,
        "inference_stats": {
            "success": _duration(one.success),
            "fail": _duration(one.fail),
            "queue": _duration(one.queue),
            "compute_input": nothing,
            "compute_infer": _duration(one.compute),
            "compute_output": nothing,
            "cache_hit": _duration(one.cache_hit),
            "cache_miss": _duration(one.cache_miss),
        },
        "batch_stats": [{"batch_size": batch.rows, "compute_infer": _duration(batch.compute)} for batch in one.batches],
    }


def tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _config(spec: TensorSpec, skip: int) -> dict[str, Any]:
    data_type = _SPECIAL_TYPES.get(spec.datatype, f"TYPE_{spec.datatype}")
    return {"name": spec.name, "data_type": data_type, "dims": spec.shape[skip:]}


def _duration(statistic: DurationStatistic) -> dict[str, int]:
    return {"count": statistic.count, "ns": statistic.ns}
