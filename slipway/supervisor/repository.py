"""All versions that this server was given, loaded or not: what gateways are told, and loading and unloading."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from difflib import get_close_matches

from slipway.errors import NotFound, SlipwayError
from slipway.infer.runtime import ReplicaFacts
from slipway.spec.serve import ModelSpec
from slipway.supervisor.version import Version
from slipway.wire.messages import RepositoryChange, RepositoryChanged, Routes, VersionRoutes


class Shelf:
    """One version's place in the repository. `leaving` are earlier loads that are on their way out; the one that is
    `handing_over` still serves, beside its successor."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.wanted = True
        self.current: Version | None = None
        self.fresh: Version | None = None
        self.leaving: list[Version] = []
        self.handing_over: Version | None = None
        self.facts: ReplicaFacts | None = None
        self.failure = ""
        self.past_restarts: dict[str, int] = {}
        self.change = asyncio.Lock()

    def loads(self) -> Iterator[Version]:
        """Every load that has processes, the serving one first."""
        yield from (load for load in (self.current, self.fresh, *self.leaving) if load is not None)

    def serving(self) -> Iterator[Version]:
        """Every load whose replicas get requests."""
        yield from (load for load in (self.current, self.handing_over) if load is not None)


class Repository:
    """`make` builds a version from its spec, with generations that begin above the given one. After
    `changed`, `told` waits until the gateways have taken note."""

    def __init__(
        self,
        *,
        specs: tuple[ModelSpec, ...],
        make: Callable[[ModelSpec, int], Version],
        changed: Callable[[], None],
        told: Callable[[], Awaitable[object]],
    ) -> None:
        self.shelves = [Shelf(spec) for spec in specs]
        for shelf in self.shelves:
            shelf.current = make(shelf.spec, 0)
        self._make = make
        self._changed = changed
        self._told = told

    def step(self) -> None:
        for shelf in self.shelves:
            for load in shelf.loads():
                load.step()
            for load in [load for load in shelf.leaving if load.bury()]:
                shelf.leaving.remove(load)
                for replica in load.replicas:
                    for reason, count in replica.post.place.restarts.items():
                        shelf.past_restarts[reason] = shelf.past_restarts.get(reason, 0) + count

    def loads(self) -> list[Version]:
        return [load for shelf in self.shelves for load in shelf.loads()]

    def settled(self) -> list[asyncio.Future[SlipwayError | None]]:
        """For each version the future of its first load, see `Version.settled`."""
        return [shelf.current.settled for shelf in self.shelves if shelf.current is not None]

    def routes(self) -> Routes:
        versions = []
        for shelf in self.shelves:
            load = shelf.current
            shelf.facts = (load and load.facts) or shelf.facts
            versions.append(
                VersionRoutes(
                    spec=shelf.spec,
                    replicas=[place for serving in shelf.serving() for place in serving.addresses()],
                    facts=shelf.facts,
                    failure=load.trouble() if load else shelf.failure,
                    wanted=shelf.wanted,
                )
            )
        return Routes(versions)

    @property
    def ready(self) -> bool:
        """Every version that should serve has a replica that can."""
        return all(shelf.current is not None and shelf.current.addresses() for shelf in self.shelves if shelf.wanted)

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
        for load in self.loads():
            load.retire()

    def kill(self) -> None:
        for load in self.loads():
            load.kill()

    @property
    def gone(self) -> bool:
        return all(replica.post.gone for load in self.loads() for replica in load.replicas)

    def _find(self, model: str) -> list[Shelf]:
        found = [shelf for shelf in self.shelves if shelf.spec.name == model]
        if not found:
            names = sorted({shelf.spec.name for shelf in self.shelves})
            near = get_close_matches(model, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it holds {', '.join(map(repr, names))}"
            raise NotFound(f"the repository holds no model {model!r}; {hint}")
        return found

    async def _load(self, shelf: Shelf) -> None:
        """The load before keeps serving until the fresh one can, and stays where the fresh one fails."""
        fresh = shelf.fresh = self._make(shelf.spec, max((load.generation for load in shelf.loads()), default=0))
        fresh.step()
        error = await asyncio.shield(fresh.settled)
        shelf.fresh = None
        if error is not None:
            shelf.leaving.append(fresh)
            shelf.failure = error.message
            await self._see_off(shelf)
            raise error
        before = shelf.current
        self._leave(shelf)
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
        self._leave(shelf)
        await self._see_off(shelf)

    async def _see_off(self, shelf: Shelf) -> None:
        """Gateways move over first; what they had sent before is still answered by those that leave."""
        self._changed()
        await self._told()
        for load in list(shelf.leaving):
            await load.rest()
            load.retire()
        while shelf.leaving:  # memory has really returned when the change is answered
            await asyncio.sleep(0.02)

    def _leave(self, shelf: Shelf) -> None:
        if shelf.current is not None:
            shelf.leaving.append(shelf.current)
            shelf.current = None


def _alike(before: Version, fresh: Version) -> bool:
    """Whether a request fits both, so that for a moment either may answer it."""
    old, new = before.facts, fresh.facts
    return old is not None and new is not None and old.signature == new.signature
