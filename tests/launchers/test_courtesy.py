"""A process that loads behind others steps back with all its threads, and comes forward again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slipway.launchers.courtesy import (
    LONG_SLICE_NS,
    MIDDLE_SLICE_NS,
    NICE,
    OWN_SLICE,
    Courtesy,
    last_half,
    may_move_forward,
    set_slice,
    slice_of,
    stand_aside,
)

PROGRAM = """
import sys, threading
over = threading.Event()
print(0, flush=True)
sys.stdin.readline()
threading.Thread(target=over.wait, daemon=True).start()
print(1, flush=True)
sys.stdin.readline()
"""
RELEASE = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
HAS_SLICES = RELEASE >= (6, 12)
"""Linux before that takes the wish and forgets it."""


def threads_of(pid: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]


def niceness(pid: int) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads_of(pid)]


def cores(pid: int) -> list[set[int]]:
    return [os.sched_getaffinity(thread) for thread in threads_of(pid)]


def slices(pid: int) -> set[int]:
    return {slice_of(thread) for thread in threads_of(pid)}


@pytest.mark.parametrize("lowers", [True, False])
def test_it_steps_back_and_comes_forward_also_with_threads_that_began_meanwhile(lowers: bool) -> None:
    ours, own_slice = os.getpriority(os.PRIO_PROCESS, 0), slice_of()
    courtesy = Courtesy()
    courtesy.lowers = lowers and courtesy.lowers
    all_cores = os.sched_getaffinity(0)
    behind = ours + NICE if courtesy.lowers else ours
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        courtesy.step_back(child.pid)
        assert niceness(child.pid) == [behind]
        child.stdin.write("go on\n")
        child.stdin.flush()
        child.stdout.readline()
        assert niceness(child.pid) == [behind] * 2
        assert slices(child.pid) == {LONG_SLICE_NS if HAS_SLICES else own_slice}
        assert cores(child.pid) == [last_half(all_cores)] * 2
        courtesy.come_forward(child.pid)
        assert cores(child.pid) == [all_cores] * 2
        assert niceness(child.pid) == [ours] * 2
        assert slices(child.pid) == {own_slice}
        child.stdin.write("end\n")


def test_standing_aside_is_of_the_thread_that_does_and_of_those_it_starts_and_keeps_the_priority() -> None:
    seen: list[tuple[int, set[int], int]] = []

    def look() -> None:
        seen.append((slice_of(), os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))

    def other() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        stand_aside()
        look()
        later = threading.Thread(target=look)
        later.start()
        later.join()

    before, all_cores = slice_of(), os.sched_getaffinity(0)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [(MIDDLE_SLICE_NS if HAS_SLICES else before, last_half(all_cores), 5)] * 2
    assert (slice_of(), os.sched_getaffinity(0)) == (before, all_cores)


@pytest.mark.parametrize(
    ("all_cores", "half"), [({0}, {0}), ({4, 7}, {7}), ({0, 1, 2}, {1, 2}), ({5, 1, 3, 2}, {3, 5})]
)
def test_the_last_half_of_the_cores_is_never_none(all_cores: set[int], half: set[int]) -> None:
    assert last_half(all_cores) == half


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be told from all")
def test_a_thread_that_chose_its_core_meanwhile_keeps_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        Courtesy().step_back(child.pid)
        own = {min(os.sched_getaffinity(0))}
        os.sched_setaffinity(child.pid, own)
        Courtesy().come_forward(child.pid)
        assert cores(child.pid) == [own]
        child.kill()


def test_a_thread_under_another_policy_is_left_alone() -> None:
    seen: list[object] = []

    def other() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        seen.extend([set_slice(LONG_SLICE_NS), os.sched_getscheduler(0)])

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [False, os.SCHED_IDLE]


def test_asking_whether_it_may_changes_nothing() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    may_move_forward()
    assert os.getpriority(os.PRIO_PROCESS, 0) == ours


def test_a_process_that_is_gone_is_no_error() -> None:
    Courtesy().step_back(2**22 + 1)
    Courtesy().come_forward(2**22 + 1)
    assert not set_slice(OWN_SLICE, 2**22 + 1)
