"""`slipway up` as its operator runs it, for the stories that deploy to it, kill parts of it and start it again."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper
from serving import ROOT

import slipway

COMMAND = [sys.executable, "-c", "from slipway.cli.main import run; run()"]
ANY_PORTS = ("--port", "0", "--grpc-port", "0", "--admin-port", "0")
DEADLINE_S = 60.0


def eventually(condition: Callable[[], Any], what: str, *, within_s: float = DEADLINE_S) -> Any:
    """The first true value of `condition`; fails with `what` when none comes in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never came true: {what}")


class Up:
    """One server on one data directory, that may be started several times. Its log is `folder/log`. `powerless`: the
    modes of files stop it, even where these tests run as root."""

    def __init__(self, folder: Path, *arguments: str, powerless: bool = False, **environment: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.page = ""
        self._arguments = arguments
        self._as: list[str] = []
        if powerless and os.getuid() == 0:
            self._as = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        self._environment = environment
        self._seen: list[psutil.Process] = []
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Up:
        """Returns when the ready page was printed."""
        self.begin()
        return self.await_ready()

    def begin(self) -> None:
        runtime = self.folder / "run"
        runtime.mkdir(exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*self._as, *COMMAND, "up", "--data-dir", str(self.data_dir), *ANY_PORTS, *self._arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                start_new_session=True,
                env=clean | {"XDG_RUNTIME_DIR": str(runtime), "PYTHONUNBUFFERED": "1"} | self._environment,
            )

    def await_ready(self) -> Up:
        assert self.process is not None and self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        self.page = "".join(lines)
        assert lines and lines[-1].startswith("Ctrl-C"), f"it did not get ready:\n{self.page}\n{self.log}"
        return self

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def address(self, label: str) -> str:
        """Of the ready page: HTTP, gRPC, Metrics, Status."""
        found = re.search(rf"^  {label} +(\S+)$", self.page, re.M)
        assert found, self.page
        return found[1]

    @property
    def http(self) -> str:
        return self.address("HTTP")

    @property
    def grpc(self) -> str:
        return f"grpc://{self.address('gRPC')}"

    def admin(self) -> slipway.Admin:
        """The owner's client, found by the data directory."""
        return slipway.Admin(data_dir=str(self.data_dir))

    def processes(self, kind: str) -> list[psutil.Process]:
        """Children whose title begins with `kind`: controller, gateway, worker, or `worker iris v1`."""
        found = []
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                    if child.cmdline()[0].startswith(f"slipway: {kind}"):
                        found.append(child)
        return found

    def remember(self) -> None:
        """Note all processes that run now, to look later what became of them."""
        self._seen = self.processes("")

    def orphans(self) -> list[psutil.Process]:
        """Those noted that still run."""
        return [seen for seen in self._seen if seen.is_running() and seen.status() != psutil.STATUS_ZOMBIE]

    def kill(self) -> None:
        """SIGKILL of the supervisor, as when the machine goes; returns when nothing of it is left."""
        assert self.process is not None
        self.remember()
        self.process.kill()
        self.process.wait()
        eventually(lambda: not self.orphans(), "every process ends with its supervisor")

    def stop(self) -> int:
        """SIGTERM and the drain; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None


@contextlib.contextmanager
def upped(*arguments: str, powerless: bool = False, **environment: str) -> Iterator[Up]:
    """A server with a new data directory, ready; it has to end well."""
    folder = Path(tempfile.mkdtemp(prefix="up-", dir="/tmp"))  # short, for the sockets' sake
    up = Up(folder, *arguments, powerless=powerless, **environment)
    try:
        up.start()
        yield up
        if up.runs:
            assert up.stop() == 0, up.log
    finally:
        if up.runs and up.process is not None:
            up.process.kill()
            up.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def constant_model(path: Path, value: float, *, width: int = 64) -> Path:
    """An ONNX file that answers `y` [rows, width] full of `value`, whatever `x` [rows, 1] holds."""
    zeros = numpy_helper.from_array(np.zeros((1, width), np.float32), "zeros")
    constant = numpy_helper.from_array(np.full((1, width), value, np.float32), "value")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "zeros"], ["nothing"]), helper.make_node("Add", ["nothing", "value"], ["y"])],
        "constant",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", width])],
        [zeros, constant],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path
