"""A process that loads behind others steps back with all its threads, and comes forward again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from slipway.supervisor.courtesy import NICE, come_forward, may_move_forward, step_back

PROGRAM = """
import sys, threading
over = threading.Event()
print(0, flush=True)
sys.stdin.readline()
threading.Thread(target=over.wait, daemon=True).start()
print(1, flush=True)
sys.stdin.readline()
"""


def niceness(pid: int) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()]


def test_it_steps_back_and_comes_forward_also_with_threads_that_began_meanwhile() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        step_back(child.pid)
        assert niceness(child.pid) == [ours + NICE]
        child.stdin.write("go on\n")
        child.stdin.flush()
        child.stdout.readline()
        assert niceness(child.pid) == [ours + NICE] * 2
        come_forward(child.pid)
        assert niceness(child.pid) == ([ours] * 2 if may_move_forward() else [ours + NICE] * 2)
        child.stdin.write("end\n")


def test_asking_whether_it_may_changes_nothing() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    may_move_forward()
    assert os.getpriority(os.PRIO_PROCESS, 0) == ours


def test_a_process_that_is_gone_is_no_error() -> None:
    step_back(2**22 + 1)
    come_forward(2**22 + 1)
