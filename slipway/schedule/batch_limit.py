"""How many rows a batch may have, so that answers keep an SLO; and how long a batch will take.

Additive increase, multiplicative decrease, per model, as in Clipper (Crankshaw et al., NSDI 2017, section 4.3). What
cannot meet its deadline is dropped before it is computed, as in Clockwork (Gujarati et al., OSDI 2020).
"""

from __future__ import annotations

DECREASE = 0.9
"""Clipper backs off by a tenth."""
RESOLUTION_S = 1e-6
"""A wait that is shorter is none: a timer for it would ring before the clock has moved, again and again."""


class BatchLimit:
    """`rows` is the limit now. Without an SLO it stays at `max_rows`.

    A request may wait for one whole batch before its own, so a batch may take half of the SLO.
    """

    def __init__(self, *, max_rows: int, slo_s: float = 0.0) -> None:
        self._max_rows = max_rows
        self._budget_s = slo_s / 2
        self._adapts = slo_s > 0
        self.rows = 1 if self._adapts else max_rows
        self._step = max(1, max_rows // 32)

    def observe(self, *, rows: int, took_s: float) -> None:
        """A batch of `rows` was answered `took_s` after it left."""
        if not self._adapts:
            return
        if took_s > self._budget_s:
            if rows >= self.rows * DECREASE:  # a smaller batch that was slow says nothing about the limit
                self.rows = max(1, int(self.rows * DECREASE))
        elif rows >= self.rows:
            self.rows = min(self._max_rows, self.rows + self._step)


class ComputeEstimate:
    """Moving averages of how long batches take, in classes of size (1, 2, 3-4, 5-8, … rows)."""

    def __init__(self, *, weight: float = 0.2) -> None:
        self._weight = weight
        self._seconds: dict[int, float] = {}

    def observe(self, *, rows: int, took_s: float) -> None:
        size = (rows - 1).bit_length()
        before = self._seconds.get(size)
        self._seconds[size] = took_s if before is None else before + self._weight * (took_s - before)

    def seconds(self, rows: int) -> float:
        """What a batch of `rows` will take: its own class, else the nearest smaller one, else 0 (unknown)."""
        for size in range((rows - 1).bit_length(), -1, -1):
            if size in self._seconds:
                return self._seconds[size]
        return 0.0

    def doubt(self) -> None:
        """Nothing was begun because of these averages, so nothing will correct them: believe them half as much."""
        for size in self._seconds:
            self._seconds[size] /= 2


def hold_s(*, rows: int, limit: int, oldest_age_s: float, busy_replicas: int, max_delay_s: float) -> float:
    """Seconds that a batch of `rows` should still wait to fill, though a replica is free; 0: send it now.

    A lone request never waits: only while other batches are under way may further requests be expected.
    """
    if not max_delay_s or rows >= limit or not busy_replicas:
        return 0.0
    wait_s = max_delay_s - oldest_age_s
    return wait_s if wait_s > RESOLUTION_S else 0.0
