"""The controller's heart: what is declared and what is seen go in, steps are taken, and a plan goes out.

It turns when something moved and once in a while, takes one step of each deployment after the other, and tells the
supervisor the whole plan when it differs from the one before. One deployment's failure holds up only itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from slipway.clock import Clock
from slipway.controller import decide
from slipway.controller.decide import Flip, Forget, MarkFailed, MarkProven, MarkRetired, Seen, Step, Told
from slipway.controller.events import EventBook, Note
from slipway.controller.ledger import Ledger
from slipway.controller.observe import moved_names, seen_of, what_moved
from slipway.controller.specs import SpecMaker
from slipway.controller.world import World
from slipway.errors import SlipwayError, StoreUnavailable
from slipway.spec.serve import ModelSpec
from slipway.store.records import DeploymentRecord, VersionRecord
from slipway.store.store import Store
from slipway.wire.messages import ControlMessage, Observed, Plan

TICK_S = 10.0
AGAIN_S = 1.0
ACTOR = "controller"

logger = logging.getLogger(__name__)


class Reconciler:
    """`observed` None: the supervisor has not spoken yet, and nothing is decided. `tend`: called with each deployment
    that moved, to fetch what its versions lack."""

    def __init__(
        self,
        *,
        world: World,
        ledger: Ledger,
        events: EventBook,
        specs: SpecMaker,
        say: Callable[[ControlMessage], None],
        tend: Callable[[Iterable[str]], None],
        leading: Callable[[], bool],
        clock: Clock,
        wall: Callable[[], float],
    ) -> None:
        self.observed: Observed | None = None
        self.seen: dict[str, Seen] = {}
        self.turns = 0
        self.turn_s = 0.0
        self._world = world
        self._ledger = ledger
        self._events = events
        self._specs = specs
        self._say = say
        self._tend = tend
        self._leading = leading
        self._clock = clock
        self._wall = wall
        self._told: dict[str, Told] = {}
        self._last: Plan | None = None
        self._broken: dict[tuple[str, int], SlipwayError] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()

    # --- what wakes it ----------------------------------------------------------------------------------------------

    def hear(self, observed: Observed) -> None:
        before, self.observed = self.observed, observed
        self.seen = seen_of(observed)
        if self._leading():
            self._events.add(what_moved(before, observed))
        if before is None or before.plan != observed.plan:
            self.wake(*self._world.deployments)
            self._wake.set()  # also where nothing is declared: that is a plan too
        else:
            self.wake(*moved_names(before, observed))

    def wake(self, *names: str) -> None:
        self._dirty.update(names)
        if names:
            self._wake.set()

    def begin_anew(self) -> None:
        """It leads from now on: nothing that it told before counts."""
        self._told.clear()
        self._last = None
        self._broken.clear()
        self._dirty.update(self._world.deployments)
        self._wake.set()

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TICK_S):  # wait_for of Python 3.11 may swallow that it is cancelled
                    await self._wake.wait()
            except TimeoutError:
                self._dirty.update(self._world.deployments)
            self._wake.clear()
            try:
                await self.turn()
            except StoreUnavailable as error:
                logger.debug("decisions wait for the store: %s", error.message)
                self._later(self._world.deployments)
            except Exception:
                logger.exception("a turn of the controller failed")
                self._later(self._world.deployments)

    async def turn(self) -> None:
        """Take the steps that are due, and tell the plan that follows from them."""
        if not self._leading() or self.observed is None:
            return
        begun = self._clock.now()
        await self._ledger.fresh()
        names, self._dirty = self._dirty, set()
        self._tend(names)
        for name in sorted(names):
            try:
                await self._advance(name)
            except SlipwayError as error:
                logger.warning("%s: no step could be taken: %s", name, error.message)
                self._later([name])
        self._tell()
        self.turns += 1
        self.turn_s += self._clock.now() - begun

    def _later(self, names: Iterable[str]) -> None:
        asyncio.get_running_loop().call_later(AGAIN_S, self.wake, *names)

    # --- steps ------------------------------------------------------------------------------------------------------

    async def _advance(self, name: str) -> None:
        async with self._world.lock(name):
            while (deployment := self._world.deployments.get(name)) is not None:
                steps = self._due(deployment)
                if not steps:
                    return
                if Forget() in steps:
                    await self._forget(name)
                    return
                await self._take(deployment, steps)

    def _due(self, deployment: DeploymentRecord) -> list[Step]:
        name, versions = deployment.name, self._world.of(deployment.name)
        broken = self._broken.pop((name, deployment.target), None)
        if broken is not None:
            return [MarkFailed(deployment.target, broken.code, broken.message)]
        seen = None
        if self.observed is not None:
            seen = self.seen.get(name, Seen(self.observed.plan, {}))
        return decide.advance(deployment, versions, seen, told=decide.told_to(name, self._told, self._last))

    async def _take(self, deployment: DeploymentRecord, steps: list[Step]) -> None:
        name, now = deployment.name, self._wall()
        plan = self.observed.plan if self.observed else 0
        notes = [note for step in steps if (note := note_of(deployment, step, plan)) is not None]

        def work(store: Store) -> None:
            for step in steps:
                take(store, deployment, step, now=now)

        await self._ledger.change(name, work, notes)

    async def _forget(self, name: str) -> None:
        def work(store: Store) -> None:
            store.forget(name, now=self._wall(), actor=ACTOR)

        await self._ledger.forget(name, work, [Note("deployment.gone", f"{name} is gone", name)])
        self._told.pop(name, None)
        self._specs.forget(name)

    # --- the plan ---------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """The whole truth, if it is a new one."""
        assert self.observed is not None
        self._broken.clear()
        planned, absent = decide.plan_of(
            (self._world.deployments[name] for name in sorted(self._world.deployments)),
            {name: versions.values() for name, versions in self._world.versions.items()},
            spec_of=self._spec_of,
        )
        self.wake(*(name for name, _ in self._broken))
        last = self._last
        if last is not None and last.versions == planned and last.absent == absent:
            return
        # Of one clock that never goes back while the machine runs, so no earlier controller had a larger number.
        number = max(self.observed.plan + 1, int(self._clock.now() * 1000), last.number + 1 if last else 1)
        self._last = Plan(number, planned, absent)
        self._told = decide.told_of(self._told, self._last, self._world.deployments)
        self._say(self._last)

    def _spec_of(self, deployment: DeploymentRecord, version: VersionRecord) -> ModelSpec | None:
        try:
            return self._specs.make(deployment, version)
        except SlipwayError as error:
            runs = self.seen.get(deployment.name)
            if version.number == deployment.live or (runs and version.number in runs.versions):
                logger.error(
                    "%s v%d goes on, but cannot start again: %s", deployment.name, version.number, error.message
                )
                return self._specs.make_somehow(deployment, version)
            if version.number == deployment.target:
                self._broken[deployment.name, version.number] = error
            return None


def take(store: Store, deployment: DeploymentRecord, step: Step, *, now: float) -> None:
    name = deployment.name
    if isinstance(step, Flip):
        store.set_live(name, live=step.version, now=now, actor=ACTOR)
    elif isinstance(step, MarkFailed):
        store.set_version(name, step.version, state=decide.FAILED, error=step.error, now=now)
        if deployment.target == step.version:
            store.set_target(name, target=deployment.live, now=now, actor=ACTOR)
    elif isinstance(step, MarkRetired):
        store.set_version(name, step.version, state=decide.RETIRED, now=now)
    elif isinstance(step, MarkProven):
        store.set_version(name, step.version, platform=step.platform, now=now)


def note_of(deployment: DeploymentRecord, step: Step, plan: int) -> Note | None:
    """`plan`: the one that gateways followed when it was decided."""
    name = deployment.name
    data: dict[str, object] = {"plan": plan, "revision": deployment.revision}
    if isinstance(step, Flip):
        before = f" instead of v{step.before}" if step.before else ""
        words = f"{name}: v{step.version} takes the requests{before}"
        return Note("version.live", words, name, step.version, {**data, "before": f"v{step.before}" if before else ""})
    if isinstance(step, MarkFailed):
        goes_on = f"; v{deployment.live} goes on" if deployment.live else ""
        words = f"{name}: v{step.version} failed and gets no requests{goes_on}: {step.error}"
        return Note("version.failed", words, name, step.version, {**data, "code": step.code, "error": step.error})
    if isinstance(step, MarkRetired):
        return Note("version.retired", f"{name}: v{step.version} is let go", name, step.version, data)
    return None
