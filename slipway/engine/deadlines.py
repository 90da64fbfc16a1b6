"""One timer for many deadlines, so that a request without one pays nothing and one with it a heap's push."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from slipway.engine.batch import Pending

SLACK_S = 0.001
MIN_COMPACT = 1024


class Deadlines:
    """Calls `passed(entry)` soon after the deadline of an entry that is not done by then."""

    def __init__(self, passed: Callable[[Pending], None], *, now: Callable[[], float]) -> None:
        self._passed = passed
        self._now = now
        self._heap: list[tuple[float, int, Pending]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._compact_at = MIN_COMPACT

    def watch(self, entry: Pending) -> None:
        if len(self._heap) >= self._compact_at:
            # Most requests are answered long before their deadline: forget those now and then.
            self._heap = [waiting for waiting in self._heap if waiting[2].done is not None]
            heapq.heapify(self._heap)
            self._compact_at = max(MIN_COMPACT, 2 * len(self._heap))
        heapq.heappush(self._heap, (entry.deadline, next(self._numbers), entry))
        if entry.deadline < self._timer_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._heap[0][0]
        wait_s = max(0.0, self._timer_at - self._now()) + SLACK_S
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._now()
        while self._heap and (self._heap[0][2].done is None or self._heap[0][0] <= now):
            entry = heapq.heappop(self._heap)[2]
            if entry.done is not None:
                self._passed(entry)
        if self._heap:
            self._set_timer()
