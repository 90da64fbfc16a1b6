"""Ctrl-C while Python could not hear it."""

from __future__ import annotations

import subprocess
import sys

from serving import ROOT

SWALLOWED = """
import io, signal, threading
from slipway.cli.interrupts import heard, insist

class Answer(io.IOBase):
    def close(self):
        if not self.closed:
            super().close()
            signal.raise_signal(signal.SIGINT)

{before}
insist()
Answer()
print("dropped")
try:
    threading.Event().wait({within_s})
    print("never heard")
except KeyboardInterrupt:
    heard()
    print("heard", signal.getitimer(signal.ITIMER_REAL))
"""


def said(*, before: str = "", within_s: float = 30) -> list[str]:
    script = SWALLOWED.format(before=before, within_s=within_s)
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_one_that_fell_into_a_finalizer_is_raised_again_until_it_is_heard() -> None:
    assert said() == ["dropped", "heard (0.0, 0.0)"]


def test_who_has_it_ignored_is_not_interrupted() -> None:
    assert said(before="signal.signal(signal.SIGINT, signal.SIG_IGN)", within_s=1) == ["dropped", "never heard"]


LOCKED = """
import atexit, threading
from slipway.cli.interrupts import leave

lock = threading.Lock()
lock.acquire()
atexit.register(lock.acquire)
print("goes", end="")
leave(130)
"""


def test_a_lock_that_an_interrupt_left_shut_keeps_nobody() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOCKED], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout) == (130, "goes")
