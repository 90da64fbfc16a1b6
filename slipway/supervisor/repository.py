"""All versions that this server was given, loaded or not: what gateways are told, and what follows from a plan.

plan has it ──▶ loading ──▶ probing ──▶ ready          a shelf for each version
                                          │ plan drops it
                   gone ◀── processes ◀── leaving      gateways finish what they accepted first
                              end
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from difflib import get_close_matches

import msgspec

from slipway.clock import Clock
from slipway.errors import NotFound, SlipwayError, Unavailable
from slipway.spec.serve import ModelSpec
from slipway.supervisor.shelf import Shelf
from slipway.supervisor.version import Replica, Version
from slipway.wire.messages import Plan, PlannedVersion, RepositoryChange, RepositoryChanged, Routes

PROBE_AGAIN_S = 1.0
PROBE_TRIES = 3
"""A trial that met no replica, or lost it, says nothing about the model, unless that happens again and again."""

Key = tuple[str, str]


class Repository:
    """`make` builds a version from its spec, with generations that begin above the given one, to load behind those who
    serve or not. After `changed`, `told`
    waits until the gateways have taken note. `probe`: whether a version answers through every gateway. `quiet`: waits
    until no gateway has requests of a version, at most so many seconds; whether all of them said so.
    """

    def __init__(
        self,
        *,
        make: Callable[[ModelSpec, int, bool], Version],
        clock: Clock,
        changed: Callable[[], None],
        told: Callable[[], Awaitable[object]],
        probe: Callable[[str, str], Awaitable[SlipwayError | None]],
        quiet: Callable[[str, str, float], Awaitable[bool]],
    ) -> None:
        self._shelves: dict[Key, Shelf] = {}
        self._make = make
        self._clock = clock
        self._changed = changed
        self._told = told
        self._probe = probe
        self._quiet = quiet
        self._absent: dict[str, str] = {}
        self.plan_told = 0
        self._errands: set[asyncio.Task[None]] = set()

    # --- what should be -------------------------------------------------------------------------------------------

    def begin(self, specs: tuple[ModelSpec, ...]) -> None:
        """What `slipway serve` was given: the last version of each model is live. They are not probed: that one of
        them answers is what the person who waits will see."""
        live = {spec.name: spec.version for spec in specs}  # `specs` are in order
        for spec in specs:
            shelf = self._shelves[spec.name, spec.version] = Shelf(
                spec, live=live[spec.name] == spec.version, tried=True
            )
            shelf.current = self._make(spec, 0, False)

    def follow(self, plan: Plan) -> None:
        """Make it as `plan` says. The same plan again changes nothing."""
        wanted = {(planned.spec.name, planned.spec.version): planned for planned in plan.versions}
        for key, planned in wanted.items():
            shelf = self._shelves.get(key)
            if shelf is None:
                shelf = self._shelves[key] = Shelf(planned.spec, live=planned.live)
                shelf.current = self._make(planned.spec, 0, self._serves)
            else:
                self._adjust(shelf, planned)
        for key, shelf in self._shelves.items():
            if key not in wanted and not shelf.going:
                shelf.going, shelf.live = True, False
                self._run(self._take_down(shelf))
        self._absent = plan.absent
        self._changed()
        self._run(self._tell(plan.number))

    def _adjust(self, shelf: Shelf, planned: PlannedVersion) -> None:
        shelf.live, shelf.going = planned.live, False
        if planned.spec == shelf.spec:
            return
        other = not _same_model(planned.spec, shelf.spec)
        shelf.declare(planned.spec)
        if other:  # a store that was restored from a backup gives a number again
            shelf.stale = True
            self._run(self._replace(shelf))
            return
        load = shelf.current
        if load is not None:
            surplus = load.respec(planned.spec)
            if surplus:
                self._run(self._shrink(surplus))

    async def _tell(self, number: int) -> None:
        await self._told()
        self.plan_told = max(self.plan_told, number)
        self._changed()

    # --- turns ----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        now = self._clock.now()
        for shelf in list(self._shelves.values()):
            for load in shelf.loads():
                load.step()
            shelf.bury()
            load_ = shelf.current
            if load_ is None or shelf.going:
                continue
            if shelf.tried:
                load_.come_forward()
            if not load_.complete_once:
                shelf.trouble = shelf.trouble or load_.verdict()
            if not shelf.tried and not shelf.trying and load_.complete_once and now >= shelf.try_at:
                shelf.trying = True
                self._run(self._try(shelf, load_))

    async def _try(self, shelf: Shelf, load: Version) -> None:
        error = await self._probe(*shelf.key)
        shelf.trying = False
        shelf.try_at = self._clock.now() + PROBE_AGAIN_S
        if shelf.current is load and not shelf.going:
            shelf.tries += 1
            shelf.tried = error is None
            if error is None:
                shelf.trouble, shelf.tries = None, 0
            elif not isinstance(error, Unavailable) or shelf.tries >= PROBE_TRIES:
                shelf.trouble = shelf.trouble or error
        self._changed()

    async def _take_down(self, shelf: Shelf) -> None:
        """Gateways finish what they accepted, then the processes end. A plan that wants it back in the meantime gets it
        back: as it is while it only drains, else by a load of its own. Stopped twice before the first time is over, it
        is taken down once: by the second time another may stand in its place."""
        async with shelf.change:
            if self._shelves.get(shelf.key) is not shelf:
                return
            await self._told()
            load = shelf.current
            if load is not None and load.addresses() and not await self._quiet(*shelf.key, shelf.spec.drain_s):
                await load.rest()
            if not shelf.going and not shelf.stale:
                return
            generation = max((load.generation for load in shelf.loads()), default=0)
            shelf.leave()
            self._changed()
            await self._end(shelf)
            if shelf.going:
                self._shelves.pop(shelf.key, None)
            else:
                shelf.current = self._make(shelf.spec, generation, self._serves)
                shelf.tried, shelf.tries, shelf.trouble, shelf.stale = False, 0, None, False
            self._changed()

    async def _replace(self, shelf: Shelf) -> None:
        """What runs under this number is not what is meant by it: a load of the right one takes its place."""
        async with shelf.change:
            if not shelf.stale or shelf.going:
                return
            shelf.stale, shelf.tried, shelf.tries = False, False, 0
            try:
                await self._load(shelf)
            except SlipwayError as error:
                shelf.trouble = error
                self._changed()

    async def _shrink(self, surplus: list[Replica]) -> None:
        self._changed()
        await self._told()
        for replica in surplus:
            await replica.rest()
            replica.retire()

    async def _end(self, shelf: Shelf) -> None:
        for load in list(shelf.leaving):
            load.retire()
        while shelf.leaving:  # memory has really returned when the change is answered
            await asyncio.sleep(0.02)

    def _run(self, errand: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    # --- what is --------------------------------------------------------------------------------------------------

    @property
    def shelves(self) -> list[Shelf]:
        return list(self._shelves.values())

    def loads(self) -> list[Version]:
        return [load for shelf in self._shelves.values() for load in shelf.loads()]

    def settled(self) -> list[asyncio.Future[SlipwayError | None]]:
        """For each version the future of its first load, see `Version.settled`."""
        return [shelf.current.settled for shelf in self._shelves.values() if shelf.current is not None]

    def routes(self) -> Routes:
        return Routes([shelf.routes() for shelf in self._shelves.values()], self._absent)

    @property
    def _serves(self) -> bool:
        """Somebody's requests are computed here, whom a load should not hold up."""
        return any(shelf.live and shelf.current and shelf.current.addresses() for shelf in self._shelves.values())

    @property
    def ready(self) -> bool:
        """Every version that should serve has a replica that can."""
        live = [shelf for shelf in self._shelves.values() if shelf.live and shelf.wanted and not shelf.going]
        return all(shelf.current is not None and shelf.current.addresses() for shelf in live)

    # --- a model repository's door --------------------------------------------------------------------------------

    async def change(self, asked: RepositoryChange) -> RepositoryChanged:
        """Load or unload every version of a model; the answer for who asked."""
        try:
            shelves = self._find(asked.model)
            for shelf in shelves:
                async with shelf.change:
                    await (self._load(shelf) if asked.load else self._unload(shelf))
        except SlipwayError as error:
            return RepositoryChanged(asked.number, error.code, error.message)
        return RepositoryChanged(asked.number)

    def retire(self) -> None:
        for errand in self._errands:  # what they wait for happens all at once now
            errand.cancel()
        for load in self.loads():
            load.retire()

    def kill(self) -> None:
        for load in self.loads():
            load.kill()

    @property
    def gone(self) -> bool:
        return all(load.gone for load in self.loads())

    def _find(self, model: str) -> list[Shelf]:
        found = [shelf for shelf in self._shelves.values() if shelf.spec.name == model and not shelf.going]
        if not found:
            names = sorted({shelf.spec.name for shelf in self._shelves.values()})
            near = get_close_matches(model, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it holds {', '.join(map(repr, names)) or 'none'}"
            raise NotFound(f"the repository holds no model {model!r}; {hint}")
        return found

    async def _load(self, shelf: Shelf) -> None:
        """The load before keeps serving until the fresh one can, and stays where the fresh one fails."""
        generation = max((load.generation for load in shelf.loads()), default=0)
        fresh = shelf.fresh = self._make(shelf.spec, generation, self._serves)
        fresh.step()
        error = await asyncio.shield(fresh.settled)
        shelf.fresh = None
        if error is not None:
            shelf.leaving.append(fresh)
            shelf.failure = error.message
            await self._see_off(shelf)
            raise error
        before = shelf.current
        shelf.leave()
        shelf.current, shelf.wanted, shelf.failure = fresh, True, ""
        if before is not None and _alike(before, fresh):
            shelf.handing_over = before
            self._changed()
            await self._told()
            shelf.handing_over = None
        await self._see_off(shelf)

    async def _unload(self, shelf: Shelf) -> None:
        """To unload what is not loaded is no error: who asks wants it gone, and it is."""
        shelf.wanted, shelf.failure = False, "unloaded"
        shelf.leave()
        await self._see_off(shelf)

    async def _see_off(self, shelf: Shelf) -> None:
        """Gateways move over first; what they had sent before is still answered by those that leave."""
        self._changed()
        await self._told()
        for load in list(shelf.leaving):
            await load.rest()
        await self._end(shelf)


def _same_model(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether they differ in nothing that needs another load: the count of replicas, secrets, how long to drain."""

    def model(spec: ModelSpec) -> ModelSpec:
        replicas = msgspec.structs.replace(spec.replicas, count=1)
        return msgspec.structs.replace(spec, replicas=replicas, environment={}, drain_s=0.0)

    return model(one) == model(other)


def _alike(before: Version, fresh: Version) -> bool:
    """Whether a request fits both, so that for a moment either may answer it."""
    old, new = before.facts, fresh.facts
    return old is not None and new is not None and old.signature == new.signature
