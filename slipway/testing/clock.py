"""A clock that stands still until it is told to move: five minutes cost a microsecond in a test."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class FakeClock:
    """A `slipway.clock.Clock`. `sleep` returns at once and moves it; so does `advance`, for the test itself.

    Callbacks of `call_at` run while it moves, in the order of their times, each with `now()` at its own time.
    """

    def __init__(self, now: float = 1_000.0) -> None:
        self._now = now
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """A time in the past is due at the next move."""
        heapq.heappush(self._calls, (when, next(self._count), call))

    def advance(self, seconds: float) -> None:
        """Raises ValueError for a step back: no monotonic clock makes one."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back by {-seconds} s")
        until = self._now + seconds
        while self._calls and self._calls[0][0] <= until:
            when, _, call = heapq.heappop(self._calls)
            self._now = max(self._now, when)
            call()
        self._now = until
