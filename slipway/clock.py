"""The one clock: monotonic seconds, the same for every process of a machine, and replaceable in tests."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """CLOCK_MONOTONIC, which all processes of one Linux machine share."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
