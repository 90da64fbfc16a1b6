"""A real worker process, launched as the supervisor launches it, and a gateway's end of its link."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from slipway.infer.arrays import to_array, to_tensor
from slipway.infer.runtime import ReplicaFacts
from slipway.launchers.launcher import ChildPlan
from slipway.launchers.local import LocalLauncher
from slipway.spec.serve import ModelSpec, ReplicaSpec
from slipway.wire.control import ControlLine
from slipway.wire.framing import encode, heads_of, recv_frame, tensors_of
from slipway.wire.messages import Beat, BeginWorker, Failed, LinkMessage, Progress, Ran, Ready, Run, SetupFailed

ROOT = Path(__file__).parent.parent.parent
IRIS = str(ROOT / "examples" / "iris" / "iris.onnx")

Arrays = dict[str, npt.NDArray[Any]]
_decode = msgspec.msgpack.Decoder(LinkMessage).decode


class WorkerProcess:
    """`said`: what it said on its control line so far, other than beats."""

    def __init__(self, spec: ModelSpec, folder: Path, *, index: int, environment: dict[str, str]) -> None:
        self.socket = str(folder / "link")
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        title = f"slipway: worker {spec.name} {spec.version} #{index}"
        plan = ChildPlan(module="slipway.worker", title=title, listen=self.socket, environment=environment)
        self.child = LocalLauncher().launch(plan)
        self.pid = self.child.pid
        self.child.line.settimeout(30)
        self.line = ControlLine(self.child.line)
        self.said: list[Any] = []
        threads = spec.replicas.threads or 1
        self.line.say(BeginWorker(spec, index=index, generation=1, scratch=str(self.scratch), threads=threads))

    def hear(self) -> Any:
        message = self.line.hear()
        if not isinstance(message, Beat):
            self.said.append(message)
        return message

    def ready(self) -> ReplicaFacts:
        while isinstance(message := self.hear(), Progress):
            pass
        assert isinstance(message, Ready), message
        assert message.facts is not None
        return message.facts

    def refusal(self) -> SetupFailed:
        while isinstance(message := self.hear(), Progress):
            pass
        assert isinstance(message, SetupFailed), message
        return message

    def beat(self) -> Beat:
        while not isinstance(message := self.hear(), Beat):
            assert message is not None, "the worker ended"
        return message

    def gateway(self) -> GatewayEnd:
        return GatewayEnd(self.socket)

    def exit_status(self, timeout_s: float = 15.0) -> int:
        until = time.monotonic() + timeout_s
        while (status := self.child.poll()) is None:
            assert time.monotonic() < until, "the worker does not end"
            time.sleep(0.01)
        return status


class GatewayEnd:
    def __init__(self, path: str) -> None:
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(30)
        self.link.connect(path)

    def ask(self, batch: int, **inputs: Any) -> None:
        tensors = [to_tensor(name, np.asarray(value)) for name, value in inputs.items()]
        for part in encode(Run(batch, heads_of(tensors)), [tensor.data for tensor in tensors]):
            self.link.sendall(part)

    def answer(self) -> tuple[Ran | Failed, Arrays] | None:
        """None where the worker hung up."""
        try:
            frame = recv_frame(self.link)
        except ConnectionError:
            return None
        if frame is None:
            return None
        message = _decode(frame[0])
        assert isinstance(message, Ran | Failed)
        tensors = tensors_of(message.tensors, frame[1]) if isinstance(message, Ran) else []
        return message, {tensor.name: to_array(tensor) for tensor in tensors}

    def run(self, **inputs: Any) -> Arrays:
        self.ask(1, **inputs)
        answer = self.answer()
        assert answer is not None, "the worker hung up"
        assert isinstance(answer[0], Ran), answer[0]
        return answer[1]

    def failure(self, **inputs: Any) -> Failed:
        self.ask(1, **inputs)
        answer = self.answer()
        assert answer is not None, "the worker hung up"
        assert isinstance(answer[0], Failed), answer
        return answer[0]


Launch = Callable[..., WorkerProcess]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    workers: list[WorkerProcess] = []

    def start(path: str, *, replicas: ReplicaSpec | None = None, index: int = 1, **more: Any) -> WorkerProcess:
        folder = tmp_path / f"worker-{len(workers)}"
        folder.mkdir()
        environment = more.pop("environment", {})  # of the process; `given` is that of its spec
        given = more.pop("given", {})
        spec = ModelSpec(more.pop("name", "iris"), path, replicas=replicas or ReplicaSpec(), environment=given, **more)
        worker = WorkerProcess(spec, folder, index=index, environment=environment)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.child.kill()
        worker.exit_status()
        worker.child.close()


@pytest.fixture
def python_model(tmp_path: Path) -> Callable[[str], str]:
    """The path of a Python model whose `predict(self, x)` is the given body; `x` and what it returns are FP32 [-1]."""

    def write(body: str, *, load: str = "pass", head: str = "", options: str = "") -> str:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        file = folder / "model.py"

        def indent(text: str) -> str:
            return "\n".join(f"        {line}" for line in text.strip().splitlines())

        file.write_text(
            "import os, time\nimport numpy as np\nfrom slipway import Model\n"
            f"{head}\n\n"
            "class Probe(Model):\n"
            "    inputs = {'x': 'FP32[-1]'}\n"
            "    outputs = {'y': 'FP32[-1]'}\n"
            f"    {options}\n\n"
            f"    def load(self, *_):\n{indent(load)}\n\n"
            f"    def predict(self, x):\n{indent(body)}\n"
        )
        return str(file)

    return write
