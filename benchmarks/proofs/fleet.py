"""Many deployments on one server: how long `status` takes, and what the controller costs when nothing happens."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.proofs.models import tiny
from benchmarks.proofs.server import Server, running

DECLARED, RUNNING = 500, 100
STATUS_S = 1.0
IDLE_CPU = 0.02
IDLE_S = 30.0


def prove(*, quick: bool = False) -> bool:
    declared, on = (50, 10) if quick else (DECLARED, RUNNING)
    folder = Path(tempfile.mkdtemp(prefix="proof-models-", dir="/tmp"))
    try:
        model = tiny(folder / "m.onnx")
        with running() as server:
            began = time.monotonic()
            with server.admin() as admin:
                for number in range(declared):
                    spec = {"name": f"d{number:03}", "model": str(model), "enabled": number < on}
                    admin.deploy({"apiVersion": "slipway.dev/v1", **spec, "replicas": {"cpus": 1}})
                for number in range(on):
                    admin.wait(f"d{number:03}", timeout_s=600)
            took_s = time.monotonic() - began
            print(f"fleet: {declared} declared, {on} of them running, after {took_s:.0f} s")
            return all([_status(server), _idle(server, seconds=5 if quick else IDLE_S)])
    finally:
        shutil.rmtree(folder)


def _status(server: Server) -> bool:
    """The command as a person types it, start of the interpreter included; the best of three is what it takes."""
    command = [sys.executable, "-m", "slipway", "status", "--data-dir", str(server.data_dir)]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    kept = min(times) < STATUS_S
    print(f"fleet: `slipway status` takes {min(times):.2f} s ({'under' if kept else 'NOT under'} {STATUS_S:g} s)")
    return kept


def _idle(server: Server, *, seconds: float) -> bool:
    (controller,) = server.processes("controller")
    before = controller.cpu_times()
    time.sleep(seconds)
    after = controller.cpu_times()
    share = (after.user + after.system - before.user - before.system) / seconds
    kept = share < IDLE_CPU
    word = "under" if kept else "NOT under"
    print(f"fleet: an idle controller takes {share:.1%} of a core ({word} {IDLE_CPU:.0%})")
    return kept
