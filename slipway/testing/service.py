"""A whole house in one object: the Service that doors and clients are tested against.

It answers from memory in microseconds, and has knobs for what is hard to provoke in a real server: a slow
model, a full queue, a dead replica. Two models: `affine` (FP32 `x` [rows, 4] → `y` = 2x + 1, checked against
its signature) and `echo` (gives back whatever tensors it gets, so that every datatype and shape can travel).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from difflib import get_close_matches

import msgspec

from slipway.errors import DeadlineExceeded, InvalidInput, NotFound, NotReady, SlipwayError
from slipway.infer.guard import UNGUARDED, Guard, Identity
from slipway.infer.request import NEVER, Done, Request, Response
from slipway.infer.service import (
    BatchStatistic,
    DurationStatistic,
    IndexEntry,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
    Ticket,
)
from slipway.infer.signature import Signature, TensorSpec, count_rows
from slipway.infer.tensor import Tensor

Compute = Callable[[Sequence[Tensor]], list[Tensor]]


def _affine(inputs: Sequence[Tensor]) -> list[Tensor]:
    tensor = inputs[0]
    form = f"<{len(tensor.data) // 4}f"
    data = struct.pack(form, *[2 * item + 1 for item in struct.unpack(form, tensor.data)])
    return [Tensor("y", "FP32", tensor.shape, data)]


class StubModel(msgspec.Struct):
    """`checked`: inputs must fit the signature."""

    signature: Signature
    compute: Compute
    checked: bool = True
    ready: bool = True
    inferences: int = 0
    failures: int = 0


def _stub_models() -> dict[str, StubModel]:
    four = (-1, 4)
    affine = Signature((TensorSpec("x", "FP32", four),), (TensorSpec("y", "FP32", four),))
    echo = Signature((TensorSpec("any", "BYTES", (-1,)),), (TensorSpec("any", "BYTES", (-1,)),), batchable=False)
    return {"affine": StubModel(affine, _affine), "echo": StubModel(echo, list, checked=False)}


class StubService:
    """A Service (see slipway.infer.service). Knobs, all of which may change at any moment:

    - `fail`: what every infer answers; `refuse`: what every infer raises at once
    - `delay_s`: answer that much later; `hold`: answer only at `release()`
    - `is_live`, `is_ready`; `models[name].ready`
    - `load_outcome`: what load and unload end with
    - `guard`: who is asked about callers; nobody by default

    For a test to look at: `requests` (all that came), `cancelled` (those whose client went away), `held`.
    """

    def __init__(self) -> None:
        self.models = _stub_models()
        self.guard: Guard = UNGUARDED
        self.fail: SlipwayError | None = None
        self.refuse: Exception | None = None
        self.delay_s = 0.0
        self.hold = False
        self.is_live = True
        self.is_ready = True
        self.load_outcome: SlipwayError | None = None
        self.requests: list[Request] = []
        self.cancelled: list[Request] = []
        self.refusals: list[tuple[str, str, str]] = []
        self.held: list[_Pending] = []

    def live(self) -> bool:
        return self.is_live

    def ready(self) -> bool:
        return self.is_ready and all(model.ready for model in self.models.values())

    def model_ready(self, model: str, version: str = "", *, caller: Identity | None = None) -> bool:
        return self._find(model, version, caller).ready

    def server_metadata(self) -> ServerMetadata:
        return ServerMetadata("slipway", "0.0.0", ("model_repository", "statistics"))

    def model_metadata(self, model: str, version: str = "", *, caller: Identity | None = None) -> ModelMetadata:
        return ModelMetadata(model, ("v1",), "stub", self._find(model, version, caller).signature)

    def statistics(
        self, model: str = "", version: str = "", *, caller: Identity | None = None
    ) -> list[ModelStatistics]:
        names = [model] if model else self._seen(caller)
        found = {name: self._find(name, version, caller) for name in names}
        return [
            ModelStatistics(
                name,
                "v1",
                last_inference_ms=1_700_000_000_000 if stub.inferences else 0,
                inferences=stub.inferences,
                executions=stub.inferences,
                success=DurationStatistic(stub.inferences, 1000 * stub.inferences),
                fail=DurationStatistic(stub.failures, 1000 * stub.failures),
                batches=[BatchStatistic(1, DurationStatistic(stub.inferences, 500 * stub.inferences))],
            )
            for name, stub in found.items()
        ]

    def index(self, *, ready_only: bool = False, caller: Identity | None = None) -> list[IndexEntry]:
        return [
            IndexEntry(name, "v1", "READY" if model.ready else "UNAVAILABLE", "" if model.ready else "unloaded")
            for name, model in self.models.items()
            if (model.ready or not ready_only) and self.guard.sees(caller, name)
        ]

    def load(self, model: str, done: Callable[[SlipwayError | None], None], *, caller: Identity | None = None) -> None:
        self._switch(model, True, done, caller)

    def unload(
        self, model: str, done: Callable[[SlipwayError | None], None], *, caller: Identity | None = None
    ) -> None:
        self._switch(model, False, done, caller)

    def infer(self, request: Request, done: Done) -> Ticket | None:
        self.requests.append(request)
        if self.refuse is not None:
            raise self.refuse
        model = self._find(request.model, request.version, request.caller)
        if not model.ready:
            raise NotReady(f"model {request.model!r} is unloaded")
        if self.hold or self.delay_s > 0:
            return _Pending(self, model, request, done)
        done(self.answer(model, request))
        return None

    def refused(self, model: str, protocol: str, error: SlipwayError) -> None:
        self.refusals.append((model, protocol, error.code))

    def release(self) -> None:
        """Answer everything that is held."""
        for pending in list(self.held):
            pending.finish()

    def answer(self, model: StubModel, request: Request) -> Response | SlipwayError:
        try:
            if self.fail is not None:
                raise self.fail
            if model.checked:
                count_rows(model.signature, request.inputs)
            outputs = _choose(model.compute(request.inputs), request.outputs)
        except SlipwayError as error:
            model.failures += 1
            return error
        model.inferences += 1
        return Response(request.model, "v1", outputs, request.id)

    def _seen(self, caller: Identity | None) -> list[str]:
        return [name for name in self.models if self.guard.sees(caller, name)]

    def _find(self, name: str, version: str, caller: Identity | None) -> StubModel:
        found = self.models.get(name)
        if found is None:
            near = get_close_matches(name, self._seen(caller), n=1)
            raise NotFound(f"no model {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if version not in ("", "v1"):
            raise NotFound(f"model {name!r} has no version {version!r}; it has 'v1'")
        return found

    def _switch(
        self, name: str, ready: bool, done: Callable[[SlipwayError | None], None], caller: Identity | None
    ) -> None:
        model = self._find(name, "", caller)
        if self.load_outcome is None:
            model.ready = ready
        asyncio.get_running_loop().call_soon(done, self.load_outcome)


class _Pending:
    """A request on its way through a slow model, and its ticket."""

    def __init__(self, service: StubService, model: StubModel, request: Request, done: Done) -> None:
        self._service, self._model, self._request, self._done = service, model, request, done
        service.held.append(self)
        loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []
        if not service.hold:
            self._timers.append(loop.call_later(service.delay_s, self.finish))
        if request.deadline != NEVER:
            late = DeadlineExceeded("the deadline passed while the request was queued")
            # The loop's clock is the monotonic clock that deadlines are given on.
            self._timers.append(loop.call_at(request.deadline, self._end, late))

    def finish(self) -> None:
        self._end(self._service.answer(self._model, self._request))

    def cancel(self) -> None:
        if self._leave():
            self._service.cancelled.append(self._request)

    def _end(self, outcome: Response | SlipwayError) -> None:
        if self._leave():
            self._done(outcome)

    def _leave(self) -> bool:
        """False when it has left already: exactly one of answer, deadline and cancel counts."""
        if self not in self._service.held:
            return False
        self._service.held.remove(self)
        for timer in self._timers:
            timer.cancel()
        return True


def _choose(outputs: list[Tensor], wanted: tuple[str, ...] | None) -> list[Tensor]:
    if wanted is None:
        return outputs
    by_name = {tensor.name: tensor for tensor in outputs}
    for name in wanted:
        if name not in by_name:
            raise InvalidInput(f"no output {name!r}; the model gives {sorted(by_name)}")
    return [by_name[name] for name in wanted]
