"""A replica's sign of life: what it is busy with, told to the supervisor twice a second from a thread of its own.

A stopped process and one whose model never lets go of the interpreter fall silent, which is the point. The same
thread notices that the supervisor is gone, and then ends the process: nobody would ever end it otherwise.
"""

from __future__ import annotations

import os
import select
import threading
import time

from slipway.launchers.launcher import EXIT_ORPHANED
from slipway.launchers.memory import Memory
from slipway.wire.control import ControlLine
from slipway.wire.messages import Beat

INTERVAL_S = 0.5


class Pulse:
    """`since`: when the batch at hand was begun (monotonic seconds), 0 while idle; `batches`: how many were begun;
    `computed_s`: how long those took that are over.

    Only the serving thread writes them and only the beating thread reads them, each a single reference: no lock.
    """

    def __init__(self) -> None:
        self.since = 0.0
        self.batches = 0
        self.computed_s = 0.0

    def busy_s(self) -> float:
        since = self.since
        return time.monotonic() - since if since else 0.0


def beat(line: ControlLine, pulse: Pulse, memory: Memory) -> threading.Thread:
    """Start beating."""
    thread = threading.Thread(target=_beat, args=(line, pulse, memory), name="pulse", daemon=True)
    thread.start()
    return thread


def _beat(line: ControlLine, pulse: Pulse, memory: Memory) -> None:
    watch = select.poll()
    watch.register(line.fileno(), select.POLLHUP | select.POLLERR)
    try:
        while True:
            rss_bytes, cpu_s = memory.resident_bytes(), time.process_time()
            line.say(Beat(pulse.busy_s(), pulse.batches, rss_bytes, cpu_s, pulse.computed_s))
            if watch.poll(INTERVAL_S * 1000):
                break
    except OSError:
        pass
    os._exit(EXIT_ORPHANED)
