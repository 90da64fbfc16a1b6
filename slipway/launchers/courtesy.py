"""Work that should not cost those who serve their response times: a model on its way in or out, and the control plane.

Three means. Such work is done on the last half of the cores, so that who serves finds another one free; a worker is
moved there as soon as it is born, and back again when it serves. A long slice gives way: under EEVDF, Linux's scheduler
since 6.6, who wakes up and asks for a shorter turn than the one that runs gets the core at once, if it has not had its
share already, and not at the next tick of the clock up to 4 ms later; over a while each has its share all the same.
That takes no right, and Linux before 6.12 ignores it (`sched_runtime` of sched_setattr(2), and PREEMPT_SHORT in
kernel/sched/features.h). And niceness gives up most of the share. Only root may raise a priority again, so only root
lowers one that has to come back.

The supervisor moves a worker back and forward again, since the worker itself gives up every right before it loads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Set
from pathlib import Path

NICE = 10
"""About a tenth of a core against each process that serves, where there is not enough for all: it gets ready later, and
still gets ready."""
LONG_SLICE_NS = 100_000_000
"""The longest that Linux takes: for who loads."""
MIDDLE_SLICE_NS = 10_000_000
"""For who decides: lets pass who serves, and is let pass by who loads."""
OWN_SLICE = 0
"""The system's, some milliseconds."""

_SYSCALLS = {"x86_64": 314, "aarch64": 274}
"""sched_setattr; sched_getattr is the next."""


_libc = ctypes.CDLL(None)


class _Attributes(ctypes.Structure):
    """struct sched_attr of sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


class Courtesy:
    """`lowers`: processes that step back get a lower priority too, since this one may raise it again. Made before this
    process stands aside itself: who comes forward has the cores that there were then."""

    def __init__(self) -> None:
        self.lowers = may_move_forward()
        self._every = os.sched_getaffinity(0)

    def step_back(self, pid: int) -> None:
        """When it is born, to load, and when it ends: the threads that it starts later begin where it stands."""
        self._set_all(pid, NICE, LONG_SLICE_NS, aside=True)

    def come_forward(self, pid: int) -> None:
        """All its threads: libraries start theirs while they load, and Linux keeps the values for each. A core that
        the model chose itself stays chosen."""
        self._set_all(pid, 0, OWN_SLICE, aside=False)

    def _set_all(self, pid: int, nice: int, slice_ns: int, *, aside: bool) -> None:
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        half = last_half(self._every)
        with contextlib.suppress(OSError):  # it is gone already
            for entry in Path(f"/proc/{pid}/task").iterdir():
                thread = int(entry.name)
                with contextlib.suppress(OSError):
                    if self.lowers:
                        os.setpriority(os.PRIO_PROCESS, thread, ours + nice)
                    set_slice(slice_ns, thread)
                    if aside:
                        os.sched_setaffinity(thread, half)
                    elif os.sched_getaffinity(thread) == half:
                        os.sched_setaffinity(thread, self._every)


def may_move_forward() -> bool:
    """Whether this process may raise a priority again that it has lowered."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, before - 1)
    except OSError:
        return False
    os.setpriority(os.PRIO_PROCESS, 0, before)
    return True


def stand_aside() -> None:
    """For the control plane: this thread, and what it starts from now on, decides on the last half of the cores and
    lets pass who serves. Its priority stays."""
    set_slice(MIDDLE_SLICE_NS)
    with contextlib.suppress(OSError):  # where a container may not choose
        os.sched_setaffinity(0, last_half(os.sched_getaffinity(0)))


def last_half(cores: Set[int]) -> Set[int]:
    """Of three cores the last two; of one that one."""
    return set(sorted(cores)[len(cores) // 2 :])


def set_slice(slice_ns: int, thread: int = 0) -> bool:
    """How long a turn the thread asks for, 0: this one; its priority stays. False where the system does not know how,
    or the thread is under another policy than the common one."""
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        return False
    found = _read(number + 1, thread)
    if found is None or found.policy != os.SCHED_OTHER:
        return False
    found.flags, found.runtime = 0, slice_ns
    failed: int = _libc.syscall(number, thread, ctypes.byref(found), 0)
    return not failed


def slice_of(thread: int = 0) -> int:
    """In nanoseconds; 0 where the system does not say."""
    number = _SYSCALLS.get(platform.machine())
    found = None if number is None else _read(number + 1, thread)
    return 0 if found is None else found.runtime


def _read(number: int, thread: int) -> _Attributes | None:
    found = _Attributes()
    size = ctypes.sizeof(found)
    return found if _libc.syscall(number, thread, ctypes.byref(found), size, 0) == 0 else None
