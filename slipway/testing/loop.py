"""An event loop whose time passes only when it is told to: timers of minutes run in a microsecond, in their order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class _Impatient(selectors.BaseSelector):
    """Asks the real selector without waiting: there is nothing to wait for in a world that stands still."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:  # noqa: ARG002
        return self._real.select(0)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


class FakeLoop(asyncio.SelectorEventLoop):
    """`settle()` runs what is due now; `advance(seconds)` moves the time and runs all that becomes due on the way.

    `time()` is the clock to give to the code under test. `do(call, ...)` calls a plain function as if from a callback,
    so that it finds the running loop, and runs nothing else; `run(call, ...)` settles afterwards.
    """

    def __init__(self, now: float = 1_000.0) -> None:
        super().__init__(_Impatient())
        self._now = now

    def time(self) -> float:
        return self._now

    def do(self, call: Any, *args: Any, **keywords: Any) -> Any:
        asyncio._set_running_loop(self)
        try:
            return call(*args, **keywords)
        finally:
            asyncio._set_running_loop(None)

    def run(self, call: Any, *args: Any, **keywords: Any) -> Any:
        try:
            return self.do(call, *args, **keywords)
        finally:
            self.settle()

    def settle(self) -> None:
        """Run callbacks, and those that they cause, until nothing is due."""
        while self._due():
            self.run_until_complete(_one_turn())

    def advance(self, seconds: float) -> None:
        until = self._now + seconds
        self.settle()
        while (at := self._next_timer()) is not None and at <= until:
            self._now = max(self._now, at)
            self.settle()
        self._now = until
        self.settle()

    def _next_timer(self) -> float | None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)

    def _due(self) -> bool:
        at = self._next_timer()
        return bool(self._ready) or (at is not None and at <= self._now)  # type: ignore[attr-defined]


async def _one_turn() -> None:
    await asyncio.sleep(0)
