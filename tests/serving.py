"""A real server for the tests that need one: `slipway serve` as a newcomer starts it, on free ports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
IRIS = ROOT / "examples" / "iris" / "iris.onnx"
START_S = 60


class Served(NamedTuple):
    """`http`, `admin`: URLs. `grpc`: host:port. `page`: what was printed when it was ready. `pid`: the supervisor's."""

    http: str
    grpc: str
    admin: str
    page: str
    pid: int


@contextmanager
def serving(*arguments: str) -> Iterator[Served]:
    """`slipway serve` with these arguments on free ports, ready; drained at the end, which has to succeed."""
    ports = ["--port", "0", "--grpc-port", "0", "--admin-port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway", "serve", *arguments, *ports],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
    )
    killer = threading.Timer(START_S, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        killer.cancel()
        page = "".join(lines)
        assert lines and lines[-1].startswith("Ctrl-C"), f"slipway serve did not become ready:\n{page}"
        addresses = dict(re.findall(r"^  (HTTP|gRPC|Metrics) +(\S+)$", page, re.M))
        admin = addresses["Metrics"].removesuffix("/metrics")
        yield Served(addresses["HTTP"], addresses["gRPC"], admin, page, process.pid)
    finally:
        killer.cancel()
        process.send_signal(signal.SIGTERM)
        try:
            ended = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert ended == 0
