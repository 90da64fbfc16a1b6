"""What happened, for those who ask later and those who watch: appended to the store first, then told."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from slipway.controller.store_thread import StoreThread
from slipway.errors import NotLeader, StoreUnavailable
from slipway.spec.resources import Event
from slipway.store.records import EventRecord
from slipway.store.store import Store

KEEP = 50_000
"""How many the store remembers."""
IN_MEMORY = 2_000
MOST_WAITING = 10_000
BATCH = 200
RETRY_S = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """An event before it has a number. `data`: the numbers that caused it; never a secret."""

    kind: str
    message: str
    deployment: str = ""
    version: int = 0
    data: dict[str, Any] = field(default_factory=dict)


class EventBook:
    """Notes of what was seen go by `add`, which never waits; those of a change are written with it by `write`, and told
    by `tell`."""

    def __init__(self, store: StoreThread, *, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self._recent: deque[Event] = deque(maxlen=IN_MEMORY)
        self._floor = 0  # everything after this is in `_recent`
        self.last = 0
        self._past = 0  # how often what was told came to nothing
        self._pulse = asyncio.Event()
        self._waiting: deque[tuple[Note, float]] = deque(maxlen=MOST_WAITING)
        self._something = asyncio.Event()

    def add(self, notes: Iterable[Note]) -> None:
        """To be written as soon as the store lets us; the oldest are lost where it does not for long."""
        now = self._wall()
        for note in notes:
            self._waiting.append((note, now))
            self._something.set()

    def write(self, store: Store, notes: Iterable[Note]) -> list[EventRecord]:
        """In the store's thread, right behind the change that they tell of; what waited comes first, as it happened."""
        return [*self._write_waiting(store), *(_write(store, note, self._wall()) for note in notes)]

    def _write_waiting(self, store: Store) -> list[EventRecord]:
        """Only ever in the store's thread, which makes it the only one that takes from the queue."""
        written: list[EventRecord] = []
        while self._waiting and len(written) < BATCH:
            note, at = self._waiting[0]
            try:
                written.append(_write(store, note, at))
            except StoreUnavailable:
                if written:
                    break  # these are in the store, and have to be told
                raise
            self._waiting.popleft()
        return written

    def tell(self, records: Iterable[EventRecord]) -> None:
        for record in records:
            event = event_of(record)
            if len(self._recent) == IN_MEMORY:
                self._floor = max(self._floor, self._recent[0].id)
            self._recent.append(event)
            self.last = max(self.last, event.id)
            logger.info(
                "%s", event.message, extra={"fields": {"event": event.kind, "model": event.deployment, **_short(event)}}
            )
        self._beat()

    async def begin(self) -> None:
        """Find out where the store's events end."""
        found = await self._store.call(lambda store: store.events(limit=1))
        newest = found[-1].id if found else 0
        if newest < self.last:  # a backup was put in the store's place
            self._recent.clear()
            self._past += 1
            self._beat()
        self.last = self._floor = newest

    async def run(self) -> None:
        """Write what waits, for ever."""
        while True:
            await self._something.wait()
            if not self._waiting:
                self._something.clear()
                continue
            try:
                written = await self._store.call(self._write_waiting)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            except NotLeader:
                self._waiting.clear()  # another controller sees the same world now, and tells of it
                continue
            except Exception:
                logger.exception("an event could not be written, and is lost")
                self._waiting.popleft()
                continue
            self.tell(written)

    async def poll(self) -> bool:
        """Take over what another controller wrote; whether there was anything."""
        found = await self._store.call(lambda store: store.events(after=self.last or -1, limit=BATCH))
        self.tell(found)
        return bool(found)

    async def read(self, *, deployment: str, after: int, before: int, limit: int) -> list[Event]:
        found = await self._store.call(
            lambda store: store.events(deployment=deployment, after=after, before=before, limit=limit)
        )
        return [event_of(record) for record in found]

    async def subscribe(self, *, deployment: str, after: int | None) -> AsyncIterator[Event]:
        """A slow reader costs nothing but its place: what it missed it gets from memory, or from the store."""
        last, past = self.last if after is None else after, self._past
        while True:
            if past != self._past:
                last, past = min(last, self.last), self._past
            pulse = self._pulse
            found = await self._after(last, deployment)
            for event in found:
                last = max(last, event.id)
                yield event
            if not found:
                last = max(last, self._floor)
                await pulse.wait()

    async def _after(self, last: int, deployment: str) -> list[Event]:
        if last < self._floor:
            return await self.read(deployment=deployment, after=last or -1, before=0, limit=BATCH)
        return [event for event in self._recent if event.id > last and deployment in ("", event.deployment)]

    def _beat(self) -> None:
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()


def event_of(record: EventRecord) -> Event:
    return Event(
        id=record.id,
        at=record.at,
        kind=record.kind,
        deployment=record.deployment,
        version=f"v{record.version}" if record.version else "",
        message=record.message,
        data=record.data,
    )


def _write(store: Store, note: Note, at: float) -> EventRecord:
    return store.add_event(
        kind=note.kind, deployment=note.deployment, version=note.version, message=note.message, data=note.data, now=at
    )


def _short(event: Event) -> dict[str, Any]:
    return {"version": event.version}
