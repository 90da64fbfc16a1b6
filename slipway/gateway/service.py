"""The Service behind the public doors: check, route, and hand over to the engine of a version."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from slipway.errors import Draining, InvalidInput, SlipwayError, every_error
from slipway.gateway.version import Version
from slipway.infer.guard import UNGUARDED, Guard, Identity
from slipway.infer.request import Done, Request
from slipway.infer.service import (
    DurationStatistic,
    IndexEntry,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
    Ticket,
)
from slipway.infer.signature import describe
from slipway.routing.table import VersionTable
from slipway.wire.messages import RepositoryChange, RepositoryChanged, Routes

if TYPE_CHECKING:
    from slipway.gateway.tracing import Tracing

EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")
_ERRORS = {kind.code: kind for kind in every_error()}
Loaded = Callable[[SlipwayError | None], None]


class GatewayService:
    """Implements `infer.service.Service`. `ask`: sends a RepositoryChange to the supervisor.

    `serving_changed` is called whenever it has changed whether everything serves. `guard`: looks at callers.
    `tracing`: None sends no spans. `unrouted`: requests that named no model of ours or could not be read, by
    (protocol, error code).
    """

    def __init__(
        self,
        *,
        version: str,
        ask: Callable[[RepositoryChange], None],
        serving_changed: Callable[[bool], None],
        guard: Guard = UNGUARDED,
    ) -> None:
        self._version = version
        self._ask = ask
        self._serving_changed = serving_changed
        self._table: VersionTable[Version] = VersionTable()
        self._versions: dict[tuple[str, str], Version] = {}
        self._numbers = itertools.count(1)
        self._asked: dict[int, Loaded] = {}
        self._serving = self._told = False
        self.draining = False
        self.unrouted: Counter[tuple[str, str]] = Counter()
        self.tracing: Tracing | None = None
        self.guard = guard

    # --- routes ---------------------------------------------------------------------------------------------------

    def apply(self, routes: Routes) -> None:
        """Take over the whole truth of which versions should serve, and where."""
        self._told = False  # until all of it is taken over
        kept: dict[tuple[str, str], Version] = {}
        for entry in routes.versions:
            key = (entry.spec.name, entry.spec.version)
            known = self._versions.pop(key) if key in self._versions else None
            kept[key] = known or Version(entry, changed=self._changed)
        gone, self._versions = self._versions, kept
        for version in gone.values():
            version.close()
        entries = []
        for entry in routes.versions:
            spec = entry.spec
            entries.append((spec.name, spec.version, entry.live and not entry.leaving, kept[spec.name, spec.version]))
            kept[spec.name, spec.version].apply(entry)
        self._table = VersionTable(entries, absent=routes.absent)
        self._told = True
        self._changed()

    def _changed(self) -> None:
        if not self._told:
            return
        ready = self._serves()
        if ready != self._serving:
            self._serving = ready
            self._serving_changed(ready)

    def changed(self, answer: RepositoryChanged) -> None:
        """The supervisor's answer to a load or unload."""
        done = self._asked.pop(answer.number, None)
        if done is not None:
            kind = _ERRORS.get(answer.code, SlipwayError)
            done(kind(answer.message) if answer.code else None)

    def _find(self, model: str, version: str, caller: Identity | None) -> Version:
        """For the eyes of `caller`: what he may not see is not named to him."""
        return self._table.find(model, version, sees=partial(self.guard.sees, caller))

    def version_of(self, model: str, version: str) -> Version:
        """Raises NotFound, NotReady."""
        return self._table.find(model, version)

    def versions(self) -> list[Version]:
        return list(self._versions.values())

    @property
    def unanswered(self) -> int:
        return sum(version.engine.unanswered for version in self._versions.values() if version.engine is not None)

    # --- Service --------------------------------------------------------------------------------------------------

    def live(self) -> bool:
        return True

    def ready(self) -> bool:
        return self.guard.told and self._serves()

    def _serves(self) -> bool:
        """Routes were told, and everything that should serve can."""
        return self._told and not self.draining and all(version.settled for version in self._versions.values())

    def model_ready(self, model: str, version: str = "", *, caller: Identity | None = None) -> bool:
        return self._find(model, version, caller).ready and not self.draining

    def server_metadata(self) -> ServerMetadata:
        return ServerMetadata("slipway", self._version, EXTENSIONS)

    def model_metadata(self, model: str, version: str = "", *, caller: Identity | None = None) -> ModelMetadata:
        found = self._find(model, version, caller)
        facts = found.routes.facts
        if facts is None:
            raise found.not_ready()
        versions = tuple(self._table.versions(model))
        return ModelMetadata(model, versions, facts.platform, facts.signature, found.routes.spec.batching.max_rows)

    def statistics(
        self, model: str = "", version: str = "", *, caller: Identity | None = None
    ) -> list[ModelStatistics]:
        if version:
            found = [self._find(model, version, caller)]
        elif model:
            found = list(self._table.versions(model, sees=partial(self.guard.sees, caller)).values())
        else:
            found = [item for item in self._table.all() if self.guard.sees(caller, item.routes.spec.name)]
        return [_statistics(item) for item in found]

    def index(self, *, ready_only: bool = False, caller: Identity | None = None) -> list[IndexEntry]:
        entries = []
        for version in self._table.all():
            routes = version.routes
            if not self.guard.sees(caller, routes.spec.name):
                continue
            if version.ready:
                entries.append(IndexEntry(routes.spec.name, routes.spec.version, "READY"))
            elif not ready_only:
                state = "LOADING" if routes.wanted and not routes.failure else "UNAVAILABLE"
                reason = routes.failure if routes.wanted else "unloaded"
                entries.append(IndexEntry(routes.spec.name, routes.spec.version, state, reason))
        return entries

    def load(self, model: str, done: Loaded, *, caller: Identity | None = None) -> None:
        self._change(model, done, load=True, caller=caller)

    def unload(self, model: str, done: Loaded, *, caller: Identity | None = None) -> None:
        self._change(model, done, load=False, caller=caller)

    def _change(self, model: str, done: Loaded, *, load: bool, caller: Identity | None) -> None:
        self._find(model, "", caller)
        number = next(self._numbers)
        self._asked[number] = done
        self._ask(RepositoryChange(number, model, load))

    def infer(self, request: Request, done: Done) -> Ticket | None:
        if self.tracing is None:
            return self._infer(request, done)
        watched = self.tracing.watch(request, done)
        try:
            watched.ticket = self._infer(request, watched.done)
        except SlipwayError as error:
            watched.done(error)
            return None
        return watched

    def refused(self, model: str, protocol: str, error: SlipwayError) -> None:
        try:
            self._table.find(model).refused[protocol, error.code] += 1
        except SlipwayError:  # a name that a client made up must not become a label
            self.unrouted[protocol, error.code] += 1

    def _infer(self, request: Request, done: Done) -> Ticket | None:
        caller = request.caller
        try:
            version = self._table.find(request.model, request.version)
        except SlipwayError as error:
            self.unrouted[request.protocol, error.code] += 1
            if caller is not None:
                self._find(request.model, request.version, caller)  # raises the same, with hints for his eyes
            raise
        try:
            if self.draining:
                raise Draining("the server is shutting down and takes no new requests", retry_after_s=1.0)
            engine = version.accepting
            if engine is None or not engine.replicas:
                raise version.not_ready()
            rows, key = version.measure(request.inputs)
            if request.outputs is not None and not version.output_names.issuperset(request.outputs):
                raise InvalidInput(_unknown_output(version, request.outputs))
            if caller is not None:
                left = self.guard.spend(caller, request.model, rows)
                request.allowance = left or request.allowance
            try:
                if version.cached is not None:
                    return version.cached.submit(request, rows=rows, done=done, key=key)
                return engine.submit(request, rows=rows, done=done, key=key)
            except SlipwayError:
                if caller is not None:
                    self.guard.refund(caller, request.model, rows)
                raise
        except SlipwayError as error:
            version.refused[request.protocol, error.code] += 1
            raise


def _unknown_output(version: Version, names: tuple[str, ...]) -> str:
    assert version.signature is not None
    unknown = next(name for name in names if name not in version.output_names)
    return f"unknown output {unknown!r}; the model gives {', '.join(map(describe, version.signature.outputs))}"


def _statistics(version: Version) -> ModelStatistics:
    spec = version.routes.spec
    found = ModelStatistics(spec.name, spec.version)
    if version.engine is None:
        return found
    meter = version.engine.meter
    meter.fold()
    found.last_inference_ms = meter.last_ms
    found.inferences = meter.inferences
    found.executions = sum(count for count, _ in meter.batches.values())
    found.success = DurationStatistic(meter.success, int(meter.success_s * 1e9))
    found.fail = DurationStatistic(meter.fail, int(meter.fail_s * 1e9))
    found.queue = DurationStatistic(meter.success, int(meter.queue.total * 1e9))
    found.compute = DurationStatistic(meter.computed, meter.computed_ns)
    found.batches = meter.batch_statistics()
    if version.cached is not None:
        found.cache_hit = DurationStatistic(version.cached.hits)
        found.cache_miss = DurationStatistic(version.cached.misses)
    return found
