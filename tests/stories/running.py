"""`slipway serve` as its user runs it, for stories that end it in every possible way and look what remains."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
IRIS = ROOT / "examples" / "iris" / "iris.onnx"
FLOWER = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
DEADLINE_S = 60.0
ANY_PORTS = ("--port", "0", "--grpc-port", "-1", "--admin-port", "0")
COMMAND = [sys.executable, "-c", "from slipway.cli.main import run; run()"]

FRAGILE = '''
import os, signal, time
import numpy as np
import slipway

class Fragile(slipway.Model):
    """Doubles, unless the number tells it to die (-1), to stop (-2), to sleep (-3) or to hang for ever (-4)."""
    inputs = {"x": "FP32[-1]"}
    outputs = {"y": "FP32[-1]"}
    batchable = False

    def predict(self, x):
        told = float(x[0])
        if told == -1: os.kill(os.getpid(), signal.SIGKILL)
        if told == -2: os.kill(os.getpid(), signal.SIGSTOP)
        if told == -3: time.sleep(1.0)
        if told == -4: time.sleep(600)
        return x * 2
'''


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails with `what` when none comes in time."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never came true: {what}")


class Running:
    """A server from its start to its last trace. `folder`: all that it may write to."""

    def __init__(self, *arguments: str, ports: tuple[str, ...] = ANY_PORTS, **environment: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sw-", dir="/tmp"))  # short, for the sockets' sake
        self.lines: list[str] = []
        self._log = (self.folder / "log").open("w+")
        self._runtime = self.folder / "run"
        self._runtime.mkdir()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
        self.process = subprocess.Popen(
            [*COMMAND, "serve", *arguments, *ports],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env=clean | {"XDG_RUNTIME_DIR": str(self._runtime), "PYTHONUNBUFFERED": "1"} | environment,
        )
        self._said: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # --- how it is ---

    def wait_ready(self) -> Running:
        deadline = time.monotonic() + DEADLINE_S
        while not self.lines or not self.lines[-1].startswith("Ctrl-C"):
            line = self._said.get(timeout=max(0.1, deadline - time.monotonic()))
            if line is None:
                break
            self.lines.append(line)
        assert self.lines and self.lines[-1].startswith("Ctrl-C"), f"it did not get ready:\n{self.log}"
        return self

    def read_all(self) -> list[str]:
        """What it printed until it ended."""
        while (line := self._said.get(timeout=DEADLINE_S)) is not None:
            self.lines.append(line)
        return self.lines

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def address(self, label: str) -> str:
        """Of the ready page: HTTP, gRPC, Metrics, Status."""
        found = re.search(rf"^  {label} +(\S+)$", "\n".join(self.lines), re.M)
        assert found, "\n".join(self.lines)
        return found[1]

    @property
    def http(self) -> str:
        return self.address("HTTP")

    def status(self) -> dict[str, Any]:
        return json.loads(get(self.address("Status"))[1])  # type: ignore[no-any-return]

    def replicas(self) -> list[dict[str, Any]]:
        """Those that run; asked again until the controller, which starts last, has seen them."""
        return eventually(self._replicas, "the controller sees what runs")  # type: ignore[no-any-return]

    def _replicas(self) -> list[dict[str, Any]]:
        versions = [version for found in self.status()["deployments"] for version in found["versions"]]
        return [replica for version in versions for replica in version["replicas"]]

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Sample name -> sorted labels -> value."""
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(get(self.address("Metrics"))[1].decode()):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def infer(self, model: str = "iris", body: object = FLOWER) -> tuple[int, dict[str, Any]]:
        status, answer = post(f"{self.http}/v2/models/{model}/infer", body)
        return status, json.loads(answer)

    def double(self, number: float) -> tuple[int, dict[str, Any]]:
        """Ask the fragile model."""
        return self.infer("fragile", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [number]}]})

    def processes(self) -> list[psutil.Process]:
        """Everything that was started for this server, whoever its parent is now: all of its session."""
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(pid) == self.process.pid:
                    process = psutil.Process(pid)
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def titles(self) -> list[str]:
        titles = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                titles.append(" ".join(process.cmdline()).strip())
        return sorted(title for title in titles if title.startswith("slipway: "))

    # --- how it ends ---

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        return self.process.wait(DEADLINE_S)

    def check_nothing_remains(self) -> None:
        """No process, socket or file; the ports are free again."""
        eventually(lambda: not self.processes(), f"everything ended; left: {self.titles()}")
        eventually(lambda: not list(self._runtime.iterdir()), f"the folder is gone: {list(self._runtime.rglob('*'))}")
        for line in self.lines:
            for port in re.findall(r"127\.0\.0\.1:(\d+)", line):
                with socket.socket() as free:
                    free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    free.bind(("127.0.0.1", int(port)))
                    free.listen()

    def clean_up(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line.rstrip("\n"))
        self._said.put(None)


@contextlib.contextmanager
def running(*arguments: str, **more: Any) -> Iterator[Running]:
    """A server that is started and, if the story has not ended it, drained; nothing of it may remain."""
    server = Running(*arguments, **more)
    try:
        yield server
        if server.process.poll() is None:
            server.signal(signal.SIGTERM)
            assert server.ended() == 0, server.log
        server.check_nothing_remains()
    finally:
        server.clean_up()


def get(url: str) -> tuple[int, bytes]:
    return _ask(urllib.request.Request(url))


def post(url: str, body: object = None) -> tuple[int, bytes]:
    return _ask(urllib.request.Request(url, data=json.dumps(body).encode() if body else b"", method="POST"))


def _ask(request: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
