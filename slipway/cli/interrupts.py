"""Ctrl-C that is heard. Python drops what is raised inside a finalizer, such as the one that closes an HTTP answer amid
the next request: of the interrupts of a verb that polls, one in a few hundred was lost that way. So it is raised again
until somebody has caught it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

AGAIN_S = 0.3


def insist() -> None:
    """From now on; but not where whoever started the command has Ctrl-C ignored. In the main thread only."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGALRM, _interrupt)
        signal.signal(signal.SIGINT, _interrupt)


def heard() -> None:
    """It was caught: what is left to do is done in peace."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def leave(status: int) -> NoReturn:
    """Without the shutdown of Python, where a lock that the interrupt left shut, such as that of a pool of connections,
    would be waited for without end."""
    heard()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    raise KeyboardInterrupt
