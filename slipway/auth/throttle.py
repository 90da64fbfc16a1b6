"""How long somebody who failed must wait: counted failures, growing waits, and memory that no attacker can grow.

Pure: `now` is an argument, in seconds on any clock. A clock that jumps back ends the waits instead of stretching them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Failures:
    count: int
    last: float
    until: float


class Throttle:
    """After `free` failures each further one doubles the wait, from `first_s` up to `longest_s`; `forget_s` without a
    failure forgives them all. Remembers the last `entries` that failed."""

    def __init__(
        self, *, free: int, first_s: float = 1.0, longest_s: float = 60.0, forget_s: float = 60.0, entries: int = 4096
    ) -> None:
        self._free = free
        self._first_s = first_s
        self._longest_s = longest_s
        self._forget_s = forget_s
        self._entries = entries
        self._failed: OrderedDict[Hashable, _Failures] = OrderedDict()

    def wait_s(self, key: Hashable, *, now: float) -> float:
        """Seconds until `key` may try again; 0: now."""
        known = self._failed.get(key)
        if known is None or now < known.last:
            return 0.0
        return max(0.0, known.until - now)

    def failed(self, key: Hashable, *, now: float) -> float:
        """Count a failure. Seconds to wait from now."""
        known = self._failed.pop(key, None)
        if known is None or now < known.last or now - max(known.last, known.until) >= self._forget_s:
            known = _Failures(0, now, now)
        known.count += 1
        known.last = now
        wait_s = 0.0
        if known.count > self._free:
            doublings = min(known.count - self._free - 1, 62)
            wait_s = min(self._longest_s, self._first_s * 2.0**doublings)
        known.until = now + wait_s
        self._failed[key] = known
        if len(self._failed) > self._entries:
            self._failed.popitem(last=False)
        return wait_s

    def succeeded(self, key: Hashable) -> None:
        self._failed.pop(key, None)

    def __len__(self) -> int:
        return len(self._failed)
