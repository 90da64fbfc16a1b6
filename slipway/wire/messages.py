"""Everything that processes of one server say to each other, as typed messages.

Two corridors. The *link* joins a gateway to a worker: Run, then Ran or Failed. The *control* line joins the
supervisor to each of its children. Both carry frames (`wire.framing`); tensors travel behind a frame's head as raw
buffers.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from slipway.infer.runtime import ReplicaFacts
from slipway.infer.service import ModelStatistics
from slipway.spec.access import Access
from slipway.spec.serve import ModelSpec, ServerSpec
from slipway.spec.server import ServerConfig


class TensorHead(msgspec.Struct, array_like=True, gc=False):
    """A tensor without its bytes, which follow the frame's head in the order of the heads."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    nbytes: Annotated[int, msgspec.Meta(ge=0)]


# --- link: gateway and worker ------------------------------------------------------------------------------------


class Run(msgspec.Struct, tag="run", array_like=True, gc=False):
    """Compute a batch. `batch` numbers it for the answer."""

    batch: int
    tensors: list[TensorHead]


class Ran(msgspec.Struct, tag="ran", array_like=True, gc=False):
    """The outputs of a batch. `compute_ns`: time inside the runtime."""

    batch: int
    tensors: list[TensorHead]
    compute_ns: int


class Failed(msgspec.Struct, tag="failed", array_like=True, gc=False):
    """`code` is that of an error of `slipway.errors`; `correlation` finds the traceback in the worker's log."""

    batch: int
    code: str
    message: str
    correlation: str


LinkMessage = Run | Ran | Failed

# --- control: supervisor and children ----------------------------------------------------------------------------


class BeginWorker(msgspec.Struct, tag="begin_worker"):
    """First to a worker: what to load and how. `scratch`: the one folder it may write to. `threads`: ≥ 1. `token`: what
    a gateway says first on its link, '' for nothing."""

    spec: ModelSpec
    index: int
    generation: int
    scratch: str
    threads: int
    log_json: bool = False
    log_level: str = "info"
    token: str = ""


class BeginGateway(msgspec.Struct, tag="begin_gateway"):
    """First to a gateway: the doors to open, with their ports already chosen (-1: shut). `number` counts from 1.

    `runtime_folder` holds the sockets of this server; the gateway removes it if the supervisor dies. `limits_folder`:
    where all its gateways share what callers have used up of their limits, '' for each on its own.
    """

    spec: ServerSpec
    number: int
    runtime_folder: str
    limits_folder: str = ""


class Progress(msgspec.Struct, tag="progress"):
    """A child on its way to ready, for the person who waits. `stage`: import, load, warm-up."""

    stage: str


class Ready(msgspec.Struct, tag="ready"):
    """A worker has loaded and warmed up, or a gateway has opened its doors (`facts` is None, ports are bound)."""

    facts: ReplicaFacts | None = None
    http_port: int = -1
    grpc_port: int = -1


class SetupFailed(msgspec.Struct, tag="setup_failed"):
    """A child cannot begin; it exits after this. `code` is that of a SetupError."""

    code: str
    message: str


class Beat(msgspec.Struct, tag="beat"):
    """A worker's sign of life, about twice a second.

    `busy_s`: how long the batch at hand has been computing, 0 when idle. Without a beat, or with too long a batch, a
    replica counts as hung. `computed_s`: time inside the model so far, without the batch at hand.
    """

    busy_s: float
    batches: int
    rss_bytes: int
    cpu_s: float
    computed_s: float = 0.0


class ReplicaAddress(msgspec.Struct):
    """Where a gateway reaches a replica that is ready. `index` counts from 1 and stays with the place, while
    `generation` grows with each process that takes it. `token`: known to this replica and to gateways alone. A sandbox
    leaves Unix sockets open, and models of others would talk to a replica past all doors."""

    index: int
    generation: int
    socket: str
    token: str = ""


class VersionRoutes(msgspec.Struct):
    """`facts` is None until a replica was ready once. `failure`: why there is none, in words for a person.

    `wanted` False: unloaded on purpose; it is in the repository but does not serve. `live`: it takes the requests that
    name no version. `leaving`: it finishes what it accepted and takes nothing new.
    """

    spec: ModelSpec
    replicas: list[ReplicaAddress] = []
    facts: ReplicaFacts | None = None
    failure: str = ""
    wanted: bool = True
    live: bool = True
    leaving: bool = False


class Routes(msgspec.Struct, tag="routes"):
    """The whole truth for a gateway: every version that should serve, and where. Replaces what was before. `absent`:
    models that are declared though nothing of them runs, and why."""

    versions: list[VersionRoutes]
    absent: dict[str, str] = {}


class Serving(msgspec.Struct, tag="serving"):
    """From a gateway, whenever it changes: whether every version that should serve has a replica attached here."""

    ready: bool


class Drain(msgspec.Struct, tag="drain"):
    """To a gateway: refuse new work with Draining, finish what was accepted, then exit with 0."""


class RepositoryChange(msgspec.Struct, tag="repository_change"):
    """From a gateway: a client asked to load or unload a model. Answered by RepositoryChanged."""

    number: int
    model: str
    load: bool


class RepositoryChanged(msgspec.Struct, tag="repository_changed"):
    """`code` '' is success, otherwise that of an error with `message`."""

    number: int
    code: str = ""
    message: str = ""


class Probe(msgspec.Struct, tag="probe"):
    """To a gateway: send a made-up request through your own engine to this version. Answered by Probed."""

    number: int
    model: str
    version: str


class Probed(msgspec.Struct, tag="probed"):
    """`code` '' is success, otherwise that of the error with `message`."""

    number: int
    code: str = ""
    message: str = ""


class SnapshotRequest(msgspec.Struct, tag="snapshot_request"):
    """To a gateway: say your numbers. `number` comes back with the Snapshot."""

    number: int


class Series(msgspec.Struct, array_like=True):
    """One metric's value under one set of labels; for a histogram the counts per bucket and the sum."""

    name: str
    labels: tuple[str, ...]
    value: float = 0.0
    buckets: tuple[int, ...] = ()


class Snapshot(msgspec.Struct, tag="snapshot"):
    """A gateway's counters since it started; summed over gateways they are exact."""

    number: int
    series: list[Series]
    statistics: list[ModelStatistics]
    cpu_s: float = 0.0
    rss_bytes: int = 0


# --- control: supervisor and controller --------------------------------------------------------------------------


class BeginController(msgspec.Struct, tag="begin_controller"):
    """First to a controller. `addresses`: http, grpc and admin as a client calls them. `adopt`: what `slipway serve`
    runs already; a store that is empty takes it over. The listening socket of the admin door comes with the process."""

    config: ServerConfig
    data_dir: str
    database: str
    artifacts: str
    addresses: tuple[str, str, str]
    owner_hash: str
    supervisor_pid: int
    adopt: list[ModelSpec] = []
    log_json: bool = False
    log_level: str = "info"


class PlannedVersion(msgspec.Struct):
    """A version that should run. `live`: it takes the requests that name no version."""

    spec: ModelSpec
    live: bool


class Plan(msgspec.Struct, tag="plan"):
    """From the controller: every version that should run, the whole truth. What is missing drains and ends. A
    difference in `spec.replicas.count` alone scales; a version's other settings never change. `number` grows.
    `absent`: deployments of which nothing should run, and why, for those who call them: `it is stopped`."""

    number: int
    versions: list[PlannedVersion]
    absent: dict[str, str] = {}


class ReplicaSeen(msgspec.Struct):
    """See `spec.resources.Replica`."""

    index: int
    generation: int
    pid: int
    state: str
    stage: str
    restarts: int
    trouble: str
    last_end: str
    threads: int
    sandbox: str
    memory_bytes: int
    cpu_s: float
    busy_s: float
    load: float
    batches: int


class VersionSeen(msgspec.Struct):
    """`stage`: loading (not every replica was ready yet), probing (gateways try it), ready (every gateway got an answer
    from it), leaving (it finishes what it accepted). `error_code`, `error`: why its load or probe failed for the first
    time, the model's own words; it is tried again until the plan drops it. `live`: the gateways were told so."""

    model: str
    version: str
    stage: str
    live: bool
    wanted: bool
    error_code: str
    error: str
    facts: ReplicaFacts | None
    replicas: list[ReplicaSeen]


class GatewaySeen(msgspec.Struct):
    number: int
    generation: int
    pid: int
    state: str
    restarts: int
    trouble: str
    memory_bytes: int
    cpu_s: float


class Observed(msgspec.Struct, tag="observed"):
    """To the controller, whenever something moved (soon, several changes at once) and at least once in 5 s: everything
    that runs. `plan`: the number of the last plan that every gateway follows; 0 before the first."""

    plan: int
    versions: list[VersionSeen]
    gateways: list[GatewaySeen]
    draining: bool


class MetricsRequest(msgspec.Struct, tag="metrics_request"):
    """From the controller: ask every gateway for its numbers. Answered by Metrics with the same number."""

    number: int


class Metrics(msgspec.Struct, tag="metrics"):
    """Summed over the gateways, exactly, and what the supervisor itself counts. `statistics` likewise."""

    number: int
    series: list[Series]


class AccessSeen(msgspec.Struct, tag="access_seen"):
    """From a gateway, at most once a second and only where there is something: who was let in (Caller.id to seconds
    since 1970) and who was not: (kind of failure, credential's prefix or name, address of the peer) to how often."""

    used: dict[str, float] = {}
    refused: list[tuple[str, str, str, int]] = []


ControlMessage = (
    BeginWorker
    | BeginGateway
    | Progress
    | Ready
    | SetupFailed
    | Beat
    | Routes
    | Serving
    | Drain
    | RepositoryChange
    | RepositoryChanged
    | SnapshotRequest
    | Snapshot
    | Probe
    | Probed
    | BeginController
    | Plan
    | Observed
    | MetricsRequest
    | Metrics
    | Access
    | AccessSeen
)
