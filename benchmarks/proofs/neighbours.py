"""What one deployment costs another: response times of a while b, a large model, comes, changes and goes.

Windows alone and windows beside alternate, so that the machine's own moods hit both; the verdict is on the medians.
A third window says what this machine can keep apart: beside a process that has nothing to do with Slipway, has the
lowest priority there is and the last core only, and copies as much memory as b has, about as often.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from benchmarks.proofs.asker import Asker
from benchmarks.proofs.models import large, tiny
from benchmarks.proofs.server import Server, running
from slipway.launchers.courtesy import LONG_SLICE_NS, last_half, set_slice

PER_S = 200
MEGABYTES = 200
ROUNDS = 8
WINDOW_S = 5.0
CYCLES = 50
COPIER = """
import os, sys, time
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
content = os.urandom(2**20) * int(sys.argv[1])
while True:
    copies = [bytearray(content), bytearray(content)]
    del copies
    time.sleep(0.3)
"""
P99_RATIO = 1.2
MEMORY_RATIO = 1.05


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def prove(*, quick: bool = False) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="proof-models-", dir="/tmp"))
    try:
        a = tiny(folder / "a" / "a.onnx")
        b = [large(folder / str(n) / "b.onnx", megabytes=MEGABYTES, bias=n) for n in (1, 2)]
        with running() as server:
            with server.admin() as admin:
                admin.deploy(a, name="a", wait=True)
            held = _response_times(server, b, rounds=2 if quick else ROUNDS)
            returned = _memory(server, b[0], cycles=5 if quick else CYCLES)
        return held and returned
    finally:
        shutil.rmtree(folder)


def _response_times(server: Server, b: list[Path], *, rounds: int) -> bool:
    asker = Asker(server.http, "a", per_s=PER_S)
    alone, beside, floor = [], [], []
    try:
        asker.window(WINDOW_S)  # the first window warms everything up
        asker.times()
        with server.admin() as admin:
            admin.deploy(b[0], name="b", wait=True)  # upload once: the cost of copying it is the client's
            admin.deploy(b[1], name="b", wait=True)
            admin.delete("b", wait=True)
        for number in range(rounds):
            asker.window(WINDOW_S)
            alone.append(p99(asker.times()))
            with _copier():
                asker.window(WINDOW_S)
                floor.append(p99(asker.times()))
            over = threading.Event()
            cycles = threading.Thread(target=_come_and_go, args=(server, b, over))
            asker.window(WINDOW_S)
            cycles.start()
            beside.append(p99(asker.times()))
            over.set()
            cycles.join()
            print(
                f"  round {number + 1}: p99 alone {alone[-1] * 1000:.2f} ms, beside b {beside[-1] * 1000:.2f} ms, "
                f"beside the copier {floor[-1] * 1000:.2f} ms",
                flush=True,
            )
    finally:
        asker.close()
    ratio = statistics.median(beside) / statistics.median(alone)
    lowest = statistics.median(floor) / statistics.median(alone)
    kept = ratio <= P99_RATIO
    print(f"neighbours: p99 of a beside a process of the lowest priority that copies memory ÷ alone: {lowest:.2f}")
    print(f"neighbours: p99 of a beside b's loads, swaps and unloads ÷ alone: {ratio:.2f} ({_word(kept)} {P99_RATIO})")
    return kept


@contextlib.contextmanager
def _copier() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", COPIER, str(MEGABYTES)]) as process:
        try:
            yield
        finally:
            process.kill()


def _come_and_go(server: Server, b: list[Path], over: threading.Event) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # who deploys is elsewhere, as a rule
    set_slice(LONG_SLICE_NS)
    os.sched_setaffinity(0, last_half(os.sched_getaffinity(0)))
    with server.admin() as admin:
        while not over.is_set():
            admin.deploy(b[0], name="b", wait=True)
            admin.deploy(b[1], name="b", wait=True)
            admin.delete("b", wait=True)


def _memory(server: Server, b: Path, *, cycles: int) -> bool:
    with server.admin() as admin:
        for _ in range(3):  # caches fill up
            admin.deploy(b, name="b", wait=True)
            admin.delete("b", wait=True)
        before = server.resident_bytes()
        for _ in range(cycles):
            admin.deploy(b, name="b", wait=True)
            admin.delete("b", wait=True)
    ratio = server.resident_bytes() / before
    kept = ratio <= MEMORY_RATIO
    print(f"neighbours: memory after {cycles} loads and unloads ÷ before: {ratio:.3f} ({_word(kept)} {MEMORY_RATIO})")
    return kept


def _word(kept: bool) -> str:
    return "within" if kept else "NOT within"
