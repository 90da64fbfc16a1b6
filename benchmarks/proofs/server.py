"""A `slipway up` of its own for each proof, and what it costs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

import slipway

ENOUGH_S = 120


class Server:
    """`http`: a URL. `pid`: the supervisor's."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path, page: str) -> None:
        self.pid = process.pid
        self.data_dir = data_dir
        found = re.search(r"^  HTTP +(\S+)$", page, re.M)
        if found is None:
            raise RuntimeError(f"slipway up did not get ready:\n{page}")
        self.http = found[1]

    def admin(self) -> slipway.Admin:
        return slipway.Admin(data_dir=str(self.data_dir))

    def processes(self, kind: str) -> list[psutil.Process]:
        """Those whose title begins with `kind`, such as controller or `worker b`."""
        found = []
        for child in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                if child.cmdline()[0].startswith(f"slipway: {kind}"):
                    found.append(child)
        return found

    def resident_bytes(self) -> int:
        """Of all its processes together; pages that several share count once."""
        total = psutil.Process(self.pid).memory_full_info().pss
        for process in self.processes(""):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="proof-", dir="/tmp"))
    ports = ["--port", "0", "--grpc-port", "-1", "--admin-port", "0"]
    command = [sys.executable, "-m", "slipway", "up", "--data-dir", str(folder / "data"), *ports, *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        yield Server(process, folder / "data", "".join(lines) + (folder / "log").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(ENOUGH_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
