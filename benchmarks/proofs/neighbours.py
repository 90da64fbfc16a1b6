"""What one deployment costs another: response times of a while b, a large model, comes, changes and goes.

Windows alone and windows beside alternate, so that the machine's own moods hit both; the verdict is on the medians.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import threading
from pathlib import Path

from benchmarks.proofs.asker import Asker
from benchmarks.proofs.models import large, tiny
from benchmarks.proofs.server import Server, running

PER_S = 200
MEGABYTES = 200
ROUNDS = 8
WINDOW_S = 5.0
CYCLES = 50
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
    alone, beside = [], []
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
            over = threading.Event()
            cycles = threading.Thread(target=_come_and_go, args=(server, b, over))
            asker.window(WINDOW_S)
            cycles.start()
            beside.append(p99(asker.times()))
            over.set()
            cycles.join()
            print(f"  round {number + 1}: p99 alone {alone[-1] * 1000:.2f} ms, beside {beside[-1] * 1000:.2f} ms")
    finally:
        asker.close()
    ratio = statistics.median(beside) / statistics.median(alone)
    kept = ratio <= P99_RATIO
    print(f"neighbours: p99 of a beside b's loads, swaps and unloads ÷ alone: {ratio:.2f} ({_word(kept)} {P99_RATIO})")
    return kept


def _come_and_go(server: Server, b: list[Path], over: threading.Event) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # who deploys is elsewhere, as a rule
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
