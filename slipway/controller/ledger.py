"""Changes to a deployment, written, remembered and told as one: the only way by which commands and decisions write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from slipway.controller.events import EventBook, Note
from slipway.controller.leader import Leadership
from slipway.controller.store_thread import StoreThread
from slipway.controller.world import World, read_all
from slipway.errors import NotLeader, PreconditionFailed, StoreUnavailable
from slipway.store.records import DeploymentRecord, EventRecord, VersionRecord
from slipway.store.store import Store

T = TypeVar("T")


class Ledger:
    """After StoreUnavailable nobody knows whether a change was made, so everything is read again before the next."""

    def __init__(self, store: StoreThread, world: World, events: EventBook, leadership: Leadership) -> None:
        self._store = store
        self._world = world
        self._events = events
        self._leadership = leadership

    async def refresh(self) -> None:
        self._world.take(await self._store.call(read_all))

    async def fresh(self) -> None:
        """Raises StoreUnavailable while what is known may not be true."""
        if self._world.stale or not self._world.known:
            await self.refresh()

    async def change(self, name: str, work: Callable[[Store], object], notes: Sequence[Note] = ()) -> DeploymentRecord:
        """`work` writes; whoever calls holds the lock of the deployment. Raises what `work` raises."""

        def whole(store: Store) -> tuple[DeploymentRecord, list[VersionRecord], list[EventRecord]]:
            work(store)
            return store.deployment(name), store.versions(name), self._events.write(store, notes)

        record, versions, written = await self.call(whole)
        self._world.put(record, versions)
        self._events.tell(written)
        return record

    async def forget(self, name: str, work: Callable[[Store], object], notes: Iterable[Note]) -> None:
        def whole(store: Store) -> list[EventRecord]:
            work(store)
            return self._events.write(store, notes)

        written = await self.call(whole)
        self._world.drop(name)
        self._events.tell(written)

    async def write(self, work: Callable[[Store], T], notes: Sequence[Note] = ()) -> T:
        """A change of something else than a deployment."""

        def whole(store: Store) -> tuple[T, list[EventRecord]]:
            return work(store), self._events.write(store, notes)

        result, written = await self.call(whole)
        self._events.tell(written)
        return result

    async def call(self, work: Callable[[Store], T]) -> T:
        try:
            return await self._store.call(work)
        except (StoreUnavailable, PreconditionFailed):  # the latter: what is known was not what is there
            self._world.stale = True
            raise
        except NotLeader:
            self._world.stale = True
            self._leadership.step_down()
            raise
