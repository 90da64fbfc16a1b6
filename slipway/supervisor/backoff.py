"""How long to wait before a process that keeps ending is started again."""

from __future__ import annotations

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """The first restart comes almost at once, each next one `factor` times later, never more than `cap_s` apart.

    After `healthy_s` of good service the count starts again. There is no jitter: the places of one machine end
    for reasons of their own, and each has a count of its own.
    """

    first_s: float = 0.1
    factor: float = 3.0
    cap_s: float = 30.0
    healthy_s: float = 60.0

    def delay_s(self, failures: int) -> float:
        """Wait after the `failures`-th failure in a row (≥ 1)."""
        exponent = min(failures - 1, 64)  # beyond it any cap is long reached, and the power would overflow
        return float(min(self.cap_s, self.first_s * self.factor**exponent))
