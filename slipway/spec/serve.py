"""What `slipway serve` declares: some models, how each is batched and bounded, and where the doors are.

Strict: a value out of range is a SetupError that names the option, what came and what would be right.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from slipway.errors import SetupError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class Batching(msgspec.Struct, frozen=True):
    """`max_rows`: rows of a batch at most. `max_delay_s`: how long a batch may wait to fill while replicas are
    busy with others; 0 sends at once. `slo_s`: answer within, 0 is none: batch size then adapts, and requests
    that would come too late are refused before they are computed."""

    max_rows: int = 64
    max_delay_s: float = 0.0
    slo_s: float = 0.0


class QueueLimits(msgspec.Struct, frozen=True):
    rows: int = 4096
    bytes: int = 256 * 2**20


class CacheLimits(msgspec.Struct, frozen=True):
    """`bytes` 0: no cache. `ttl_s`: how long an answer may be given again."""

    bytes: int = 0
    ttl_s: float = 60.0


class ReplicaSpec(msgspec.Struct, frozen=True):
    """`threads` 0: the machine's cores divided by the replicas. `memory_bytes` 0: no limit.

    `hang_s`: a replica that gives no sign of life, or computes one batch, for longer is killed.
    """

    count: int = 1
    threads: int = 0
    memory_bytes: int = 0
    device: str = "cpu"
    hang_s: float = 10.0
    startup_s: float = 120.0
    sandbox: bool = True
    allow_read: tuple[str, ...] = ()
    allow_write: tuple[str, ...] = ()


class ModelSpec(msgspec.Struct, frozen=True):
    """`path`: a file or folder, or `module:Class`. `runtime` auto: recognised from the content. `environment`: what its
    replicas find there, beside what the server itself has. `drain_s`: how long a load that is replaced may take to
    finish what it accepted."""

    name: str
    path: str
    version: str = "v1"
    runtime: str = "auto"
    replicas: ReplicaSpec = ReplicaSpec()
    batching: Batching = Batching()
    queue: QueueLimits = QueueLimits()
    cache: CacheLimits = CacheLimits()
    idempotent: bool = True
    trust_pickle: bool = False
    options: dict[str, str] = {}
    environment: dict[str, str] = {}
    drain_s: float = 30.0


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths of PEM files, read again when they change. `client_ca`: whose client certificates are believed, '' for
    none. `client`: none, optional, or required."""

    certificate: str
    key: str
    client_ca: str = ""
    client: str = "none"


class Doors(msgspec.Struct, frozen=True):
    """Public addresses. Port 0: any free one; -1: this door stays shut. Times in seconds, sizes in bytes. `tls`: of all
    three doors."""

    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    admin_port: int = 8082
    grpc_door: str = "auto"  # native, grpcio, or auto: native where it is installed
    max_body_bytes: int = 256 * 2**20
    max_head_bytes: int = 64 * 2**10
    max_connections: int = 10_000
    idle_timeout_s: float = 75.0
    head_timeout_s: float = 20.0
    cors_origins: tuple[str, ...] = ()
    tls: Tls | None = None


class ServerSpec(msgspec.Struct, frozen=True):
    """`keep_going`: at the first start, serve the models that can be loaded though others cannot. `open`: nobody needs
    a credential, though the doors listen beyond this machine."""

    models: tuple[ModelSpec, ...]
    doors: Doors = Doors()
    gateways: int = 1
    drain_s: float = 30.0
    log_json: bool = False
    log_level: str = "info"
    otlp_endpoint: str = ""
    keep_going: bool = False
    open: bool = False


def check_server(spec: ServerSpec, *, needs_models: bool = True) -> None:
    """Raise SetupError for the first thing that cannot be served as declared."""
    if needs_models and not spec.models:
        raise SetupError("nothing to serve: give at least one PATH or NAME=PATH")
    seen: set[tuple[str, str]] = set()
    for model in spec.models:
        _check_model(model)
        if (model.name, model.version) in seen:
            raise SetupError(f"two models are called {model.name!r}; names must differ: NAME=PATH gives one")
        seen.add((model.name, model.version))
    _at_least("gateways", spec.gateways, 1)
    _at_least("drain-s", spec.drain_s, 0)
    doors = spec.doors
    for option, port in (
        ("port", doors.http_port),
        ("grpc-port", doors.grpc_port),
        ("admin-port", doors.admin_port),
    ):
        if not -1 <= port <= 65535:
            raise SetupError(f"--{option} is {port}; a port is 1 to 65535, 0 for any free one, -1 for none")
    fixed = [port for port in (doors.http_port, doors.grpc_port, doors.admin_port) if port > 0]
    if len(set(fixed)) != len(fixed):
        raise SetupError("--port, --grpc-port and --admin-port must differ")
    if doors.grpc_door not in ("auto", "native", "grpcio"):
        raise SetupError(f"--grpc-door is {doors.grpc_door!r}; it is auto, native or grpcio")


def _check_model(model: ModelSpec) -> None:
    if not NAME.match(model.name):
        raise SetupError(
            f"{model.name!r} cannot name a model: letters, digits, '.', '_' and '-' only, 128 at most, starting "
            "with a letter or digit"
        )
    _at_least("max-batch-rows", model.batching.max_rows, 1)
    _at_least("max-batch-delay-ms", model.batching.max_delay_s, 0)
    _at_least("slo-ms", model.batching.slo_s, 0)
    _at_least("queue-rows", model.queue.rows, 1)
    _at_least("queue-mb", model.queue.bytes, 1)
    _at_least("replicas", model.replicas.count, 1)
    _at_least("threads", model.replicas.threads, 0)
    _at_least("memory-mb", model.replicas.memory_bytes, 0)
    _at_least("hang-s", model.replicas.hang_s, 0.1)
    _at_least("cache-mb", model.cache.bytes, 0)


def _at_least(option: str, value: Any, least: float) -> None:
    if not value >= least:
        raise SetupError(f"--{option} is {value}; it must be at least {least}")
