"""A supervisor that runs nothing: it follows plans in memory, and a test says how each load ends.

    fake = FakeSupervisor()
    controller = Controller(begin, say=fake.heard, clock=SystemClock())
    fake.attach(controller.heard)       # from now on it answers by itself, as fast as the loop turns
    fake.fail("iris", "v2", "the model is broken")

Without `attach` nothing moves by itself: `step` moves every version by one stage, and `observed` is what it would say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from slipway.infer.runtime import ReplicaFacts
from slipway.infer.signature import Signature
from slipway.spec.access import Access
from slipway.spec.serve import ModelSpec
from slipway.wire.messages import (
    ControlMessage,
    GatewaySeen,
    Metrics,
    MetricsRequest,
    Observed,
    Plan,
    ReplicaSeen,
    Series,
    VersionSeen,
)

LOADING, PROBING, READY, LEAVING = "loading", "probing", "ready", "leaving"
_NEXT = {LOADING: PROBING, PROBING: READY, READY: READY}
FIRST_PID = 100_000_000
SAY_EVERY_S = 1.0


@dataclass
class FakeVersion:
    """`loads`: how often it was started; one that is only scaled, or made live, is not."""

    spec: ModelSpec
    live: bool
    stage: str = LOADING
    error_code: str = ""
    error: str = ""
    loads: int = 1
    restarts: int = 0
    last_end: str = ""
    was_ready: bool = False
    pids: list[int] = field(default_factory=list)

    @property
    def takes_requests(self) -> bool:
        return self.was_ready and self.stage == READY


class FakeSupervisor:
    """`plans` and `accesses`: all that it was told. `follows`: the plan that its gateways follow. `paused`: it hears
    and moves nothing."""

    def __init__(self, *, gateways: int = 1) -> None:
        self.plans: list[Plan] = []
        self.accesses: list[Access] = []
        self.versions: dict[tuple[str, str], FakeVersion] = {}
        self.follows = 0
        self.paused = False
        self.draining = False
        self.series: list[Series] = []
        self._gateways = gateways
        self._broken: dict[tuple[str, str], tuple[str, str]] = {}
        self._pids = FIRST_PID
        self._tell: Callable[[ControlMessage], None] | None = None
        self._due: asyncio.TimerHandle | None = None

    # --- for the test -----------------------------------------------------------------------------------------------

    def fail(self, model: str, version: str, error: str, *, code: str = "load_failure") -> None:
        """It fails to load, now or when it is planned."""
        self._broken[model, version] = (code, error)
        self._play()

    def mend(self, model: str, version: str) -> None:
        self._broken.pop((model, version), None)
        found = self.versions.get((model, version))
        if found is not None:
            found.error = found.error_code = ""
        self._play()

    def die(self, model: str, version: str, *, why: str = "exit by signal 9 (SIGKILL)") -> None:
        """Its replicas end; they are started again by the next step."""
        found = self.versions[model, version]
        found.restarts += 1
        found.last_end = why
        if found.stage != LEAVING:
            found.stage = LOADING
        found.pids = self._new_pids(found.spec.replicas.count)
        self._play()

    def adopt(self, *specs: ModelSpec) -> None:
        """As `slipway serve` has it: they run before there is a controller; the last of a name is live."""
        live = {spec.name: spec.version for spec in specs}
        for spec in specs:
            found = FakeVersion(spec, live[spec.name] == spec.version, READY, was_ready=True)
            found.pids = self._new_pids(spec.replicas.count)
            self.versions[spec.name, spec.version] = found

    def attach(self, tell: Callable[[ControlMessage], None]) -> None:
        """Answer by itself from now on: say what is there, then move by each turn of the loop."""
        self._tell = tell
        self._play()

    def detach(self) -> None:
        """The controller is gone; what runs goes on."""
        self._tell = None
        if self._due is not None:
            self._due.cancel()
            self._due = None

    @property
    def live(self) -> dict[str, str]:
        """Deployment to the version that takes its requests, by what the gateways were told."""
        return {model: version for (model, version), found in self.versions.items() if found.live}

    # --- as the supervisor does -------------------------------------------------------------------------------------

    def heard(self, message: ControlMessage) -> None:
        """What the controller says."""
        if isinstance(message, Plan):
            self._follow(message)
        elif isinstance(message, Access):
            self.accesses.append(message)
        elif isinstance(message, MetricsRequest) and self._tell is not None:
            self._tell(Metrics(message.number, self.series))

    def step(self) -> bool:
        """One stage for every version, and the gateways follow the newest plan; whether anything moved."""
        moved = bool(self.plans) and self.follows != self.plans[-1].number
        if self.plans:
            self.follows = self.plans[-1].number
        for key, found in list(self.versions.items()):
            if found.stage == LEAVING:
                del self.versions[key]
                moved = True
                continue
            if key in self._broken and not found.was_ready:
                code, error = self._broken[key]
                moved = moved or found.error != error
                found.error_code, found.error = code, error
                continue
            after = _NEXT[found.stage]
            moved = moved or after != found.stage
            found.stage = after
            found.was_ready = found.was_ready or after == READY
        return moved

    def observed(self) -> Observed:
        gateways = [
            GatewaySeen(number, 1, FIRST_PID + number, "ready", 0, "", 50 * 2**20, 0.5)
            for number in range(1, self._gateways + 1)
        ]
        return Observed(self.follows, [self._seen(found) for found in self.versions.values()], gateways, self.draining)

    def _follow(self, plan: Plan) -> None:
        self.plans.append(plan)
        wanted = {(planned.spec.name, planned.spec.version): planned for planned in plan.versions}
        for key, planned in wanted.items():
            found = self.versions.get(key)
            if found is None:
                found = self.versions[key] = FakeVersion(planned.spec, planned.live)
                found.pids = self._new_pids(planned.spec.replicas.count)
            elif found.stage == LEAVING:  # it was still there, and stays
                found.stage = READY if found.was_ready else LOADING
            found.live = planned.live
            if found.spec.replicas.count != planned.spec.replicas.count:
                found.pids = (found.pids + self._new_pids(planned.spec.replicas.count))[: planned.spec.replicas.count]
            found.spec = planned.spec
        for key, found in self.versions.items():
            if key not in wanted:
                found.live, found.stage = False, LEAVING
        self._play()

    def _seen(self, found: FakeVersion) -> VersionSeen:
        ready = found.stage in (PROBING, READY, LEAVING)
        return VersionSeen(
            model=found.spec.name,
            version=found.spec.version,
            stage=found.stage,
            live=found.live,
            wanted=True,
            error_code=found.error_code,
            error=found.error,
            facts=ReplicaFacts(Signature((), ()), "stub") if ready else None,
            replicas=[
                ReplicaSeen(
                    index=index,
                    generation=found.restarts + 1,
                    pid=pid,
                    state="ready" if ready else ("backing_off" if found.error else "starting"),
                    stage="" if ready else "load",
                    restarts=found.restarts,
                    trouble=found.error,
                    last_end=found.last_end,
                    threads=1,
                    sandbox="full",
                    memory_bytes=80 * 2**20,
                    cpu_s=1.0,
                    busy_s=0.0,
                    load=0.0,
                    batches=0,
                )
                for index, pid in enumerate(found.pids, start=1)
            ],
        )

    def _new_pids(self, count: int) -> list[int]:
        first, self._pids = self._pids + 100, self._pids + count
        return [first + number for number in range(count)]

    def _play(self) -> None:
        if self._tell is not None:
            if self._due is not None:
                self._due.cancel()  # it may be a second away
            self._due = asyncio.get_running_loop().call_later(0, self._turn)

    def _turn(self) -> None:
        self._due = None
        if self._tell is None:
            return
        self._tell(self.observed())
        moved = not self.paused and self.step()
        self._due = asyncio.get_running_loop().call_later(0 if moved else SAY_EVERY_S, self._turn)
