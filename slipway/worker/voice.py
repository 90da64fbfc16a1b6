"""What a model prints is never a reason to fail: not on a full disk, not when its terminal was closed."""

from __future__ import annotations

import io
import sys


class Outlet(io.FileIO):
    """A file descriptor that takes what it can, and lets the rest go."""

    def write(self, text: object, /) -> int:
        size = memoryview(text).nbytes  # type: ignore[arg-type]
        try:
            return super().write(text) or 0  # type: ignore[arg-type]
        except OSError:
            return size


def loosen_tongue() -> None:
    """Standard output and error of this process from now on; lines leave at once, for those who follow a log."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        outlet = io.BufferedWriter(Outlet(fd, "wb", closefd=False))
        setattr(sys, name, io.TextIOWrapper(outlet, encoding="utf-8", errors="backslashreplace", line_buffering=True))
