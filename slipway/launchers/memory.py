"""How much memory a process of the plan has in use, as it says of itself."""

from __future__ import annotations

import os
from pathlib import Path

STATM = "/proc/self/statm"


def resident_bytes() -> int:
    """0 where the system does not tell."""
    try:
        return int(Path(STATM).read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Memory:
    """For who looks often, or behind a sandbox: from a file that is opened once, so that each look costs one read."""

    def __init__(self) -> None:
        self._statm = os.open(STATM, os.O_RDONLY | os.O_CLOEXEC)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def resident_bytes(self) -> int:
        return self._pages(1)

    def data_bytes(self) -> int:
        """Private writable memory and the stack: what RLIMIT_DATA bounds, or a little more."""
        return self._pages(5)

    def _pages(self, field: int) -> int:
        return int(os.pread(self._statm, 256, 0).split()[field]) * self._page_bytes
