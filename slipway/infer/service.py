"""What a public door may ask of the house behind it. Doors know this page and nothing deeper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from slipway.errors import SlipwayError
from slipway.infer.guard import Guard, Identity
from slipway.infer.request import Done, Request
from slipway.infer.signature import Signature


class ModelMetadata(msgspec.Struct):
    """`platform` names runtime and format, such as `onnx_onnxruntime` or `sklearn_pickle`.

    `max_rows`: rows that share a batch at most; a larger request is computed in parts.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    signature: Signature
    max_rows: int = 64


class IndexEntry(msgspec.Struct):
    """`state`: READY, LOADING, UNAVAILABLE. `reason`: why not READY, in words for a person."""

    name: str
    version: str
    state: str
    reason: str = ""


class DurationStatistic(msgspec.Struct):
    """`ns`: the sum of all `count` durations, in nanoseconds."""

    count: int = 0
    ns: int = 0


class BatchStatistic(msgspec.Struct):
    rows: int
    compute: DurationStatistic


class ModelStatistics(msgspec.Struct):
    """Since the gateway started. `inferences` counts rows, `executions` counts batches."""

    name: str
    version: str
    last_inference_ms: int = 0
    inferences: int = 0
    executions: int = 0
    success: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    fail: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    queue: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    compute: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    cache_hit: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    cache_miss: DurationStatistic = msgspec.field(default_factory=DurationStatistic)
    batches: list[BatchStatistic] = []


class ServerMetadata(msgspec.Struct):
    name: str
    version: str
    extensions: tuple[str, ...]


class Ticket(Protocol):
    """What the caller keeps of a request on its way."""

    def cancel(self) -> None:
        """The client is gone: do not compute it if it was not begun. `done` is not called any more."""
        ...


class Service(Protocol):
    """All methods are called on the event loop's thread and do not block.

    Methods that name a model raise NotFound (with the nearest name) for an unknown model or version, and
    NotReady where the answer needs a replica that has loaded and none has. `version` '' is the live policy's.
    `caller`: for whose eyes the answer is; what he may not see is left out, also of hints. None sees everything.
    Whether he may ask at all is not looked at here: doors have asked the `guard` before.
    """

    guard: Guard

    def live(self) -> bool: ...

    def ready(self) -> bool:
        """Every model that should serve has a replica that can."""
        ...

    def model_ready(self, model: str, version: str = "", *, caller: Identity | None = None) -> bool: ...

    def server_metadata(self) -> ServerMetadata: ...

    def model_metadata(self, model: str, version: str = "", *, caller: Identity | None = None) -> ModelMetadata: ...

    def statistics(
        self, model: str = "", version: str = "", *, caller: Identity | None = None
    ) -> list[ModelStatistics]:
        """Of one version, of all of one model's, or of every one."""
        ...

    def index(self, *, ready_only: bool = False, caller: Identity | None = None) -> list[IndexEntry]: ...

    def load(self, model: str, done: Callable[[SlipwayError | None], None], *, caller: Identity | None = None) -> None:
        """(Re)load a model of the repository; `done` when it serves or has failed."""
        ...

    def unload(
        self, model: str, done: Callable[[SlipwayError | None], None], *, caller: Identity | None = None
    ) -> None: ...

    def infer(self, request: Request, done: Done) -> Ticket | None:
        """Check, queue, compute. `done` is called exactly once, perhaps before this returns (then None)."""
        ...

    def refused(self, model: str, protocol: str, error: SlipwayError) -> None:
        """A door refused an inference request by itself, before `infer`: for the books. `model` '' is unknown."""
        ...
