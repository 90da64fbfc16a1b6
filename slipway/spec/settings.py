"""Which half of a spec makes a version, and what a worker hears of it.

A version is immutable: artifact and settings. Everything else of a spec (who may call, how many replicas, labels)
applies to a deployment as it runs. This file is the one place that draws the line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from slipway.spec.deployment import DeploymentSpec
from slipway.spec.quantities import bytes_of, format_bytes, parse_bytes
from slipway.spec.serve import Batching, CacheLimits, ModelSpec, QueueLimits, ReplicaSpec

OF_VERSION = (
    "model",
    "digest",
    "runtime",
    "options",
    "files",
    "env",
    "batching",
    "queue",
    "cache",
    "idempotent",
    "health",
    "sandbox",
)
OF_REPLICAS = ("device", "cpus", "memory")
FILES_VARIABLE = "SLIPWAY_FILES"


def version_settings(spec: DeploymentSpec) -> dict[str, Any]:
    """The half of `spec` that makes a version, as plain JSON. Defaults are written out, so that a version stays what it
    was when a default changes; sizes are in one form, so that `1Gi` and `1024Mi` are no change."""
    settings = {field: _plain(getattr(spec, field)) for field in OF_VERSION}
    settings["replicas"] = {field: _plain(getattr(spec.replicas, field)) for field in OF_REPLICAS}
    for part in (settings["replicas"], settings["queue"], settings["cache"]):
        part["memory"] = _one_form(part["memory"])
    return settings


def same_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two versions would run alike. What an older release did not know yet counts as its default."""
    return version_settings(_as_spec(one)) == version_settings(_as_spec(other))


def with_settings(spec: DeploymentSpec, settings: Mapping[str, Any]) -> DeploymentSpec:
    """`spec` with its version's half as in `settings`: what a rollback declares."""
    earlier = _as_spec(settings)
    replicas = msgspec.structs.replace(
        spec.replicas, **{field: getattr(earlier.replicas, field) for field in OF_REPLICAS}
    )
    return msgspec.structs.replace(spec, replicas=replicas, **{field: getattr(earlier, field) for field in OF_VERSION})


def model_spec(
    settings: DeploymentSpec | Mapping[str, Any],
    *,
    name: str,
    number: int,
    path: str,
    replicas: int,
    environment: Mapping[str, str],
    files: str = "",
) -> ModelSpec:
    """What workers and gateways of version `number` are told.

    `path`: of the artifact on this machine, or `module:Class`. `environment`: with secrets in place of their names.
    `files`: the folder with what the spec's `files` names, '' where it names none; replicas may read it, and find it in
    SLIPWAY_FILES. A share of a core rounds up to a thread.
    """
    spec = settings if isinstance(settings, DeploymentSpec) else _as_spec(settings)
    environment = dict(environment) | ({FILES_VARIABLE: files} if files else {})
    return ModelSpec(
        name=name,
        version=f"v{number}",
        path=path,
        runtime=spec.runtime,
        replicas=ReplicaSpec(
            count=replicas,
            threads=math.ceil(spec.replicas.cpus),
            memory_bytes=bytes_of(spec.replicas.memory),
            device=spec.replicas.device,
            hang_s=spec.health.hang_s,
            startup_s=spec.health.startup_s,
            sandbox=spec.sandbox.enabled,
            allow_read=(*spec.sandbox.allow_read, *([files] if files else ())),
            allow_write=spec.sandbox.allow_write,
        ),
        batching=Batching(
            max_rows=spec.batching.max_rows,
            max_delay_s=spec.batching.max_delay_ms / 1000,
            slo_s=spec.batching.slo_ms / 1000,
        ),
        queue=QueueLimits(rows=spec.queue.rows, bytes=bytes_of(spec.queue.memory)),
        cache=CacheLimits(bytes=bytes_of(spec.cache.memory), ttl_s=spec.cache.ttl_s),
        idempotent=spec.idempotent,
        trust_pickle=spec.sandbox.trust_pickle,
        options=dict(spec.options),
        environment=environment,
        drain_s=spec.health.drain_s,
    )


def _as_spec(settings: Mapping[str, Any]) -> DeploymentSpec:
    return msgspec.convert({**settings, "name": "settings"}, DeploymentSpec)


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {field: _plain(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value


def _one_form(quantity: str) -> str:
    return format_bytes(parse_bytes(quantity)) if quantity else ""
