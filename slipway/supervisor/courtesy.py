"""Loading behind those who serve: a model on its way in must not cost the others their response times.

The supervisor moves a worker back and forward again, since the worker itself gives up every right before it loads.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NICE = 10
"""About a tenth of a core against each process that serves, where there is not enough for all: it gets ready later, and
still gets ready."""


def may_move_forward() -> bool:
    """Whether this process may raise a priority again that it has lowered. Without that right, which only root has,
    everything loads at the priority that it serves at."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, before - 1)
    except OSError:
        return False
    os.setpriority(os.PRIO_PROCESS, 0, before)
    return True


def step_back(pid: int) -> None:
    """Call it as soon as the process is there: the threads that it starts later begin where it stands."""
    _set_all(pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)


def come_forward(pid: int) -> None:
    """All its threads: libraries start theirs while they load, and Linux keeps the value for each."""
    _set_all(pid, os.getpriority(os.PRIO_PROCESS, 0))


def _set_all(pid: int, nice: int) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
