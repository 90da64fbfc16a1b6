"""A worker as a process: from its first word to its exit status, with real models."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from slipway.infer.signature import TensorSpec
from slipway.launchers.launcher import EXIT_ORPHANED, EXIT_OUT_OF_MEMORY, EXIT_SETUP_FAILED
from slipway.spec.serve import Batching, ReplicaSpec
from slipway.wire.messages import Progress, Ran

ROOT = Path(__file__).parent.parent.parent
IRIS = str(ROOT / "examples" / "iris" / "iris.onnx")

ONE = np.ones(1, "f4")


def appears(path: Path, timeout_s: float = 15.0) -> None:
    until = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not appear"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_iris_from_launch_to_answers(launch: Callable) -> None:
    worker = launch(IRIS, index=2)
    facts = worker.ready()
    assert [message.stage for message in worker.said if isinstance(message, Progress)] == ["import", "load", "warm-up"]
    assert facts.signature.inputs[0].name == "input" and facts.signature.batchable
    assert isinstance(facts.signature.outputs[0], TensorSpec)
    assert "onnx" in facts.platform and facts.pid == worker.pid
    assert Path(f"/proc/{worker.pid}/cmdline").read_bytes().rstrip(b"\0") == b"slipway: worker iris v1 #2"

    flowers = np.random.default_rng(7).uniform(0, 8, (50, 4)).astype("f4")
    expected = ort.InferenceSession(IRIS).run(None, {"input": flowers})
    found = worker.gateway().run(input=flowers)
    for output, array in zip(facts.signature.outputs, expected, strict=True):
        np.testing.assert_array_equal(found[output.name], array)


def test_beats_tell_of_work_and_memory_and_stop_when_the_process_does(launch: Callable, python_model: Callable) -> None:
    worker = launch(python_model("if x[0] > 1: time.sleep(float(x[0]))\nreturn x"))
    worker.ready()
    first = worker.beat()
    assert first.busy_s == 0 and first.rss_bytes > 10 * 2**20 and first.cpu_s > 0
    gateway = worker.gateway()
    gateway.run(x=ONE)
    gateway.ask(2, x=ONE * 2)
    busy = worker.beat()
    while busy.busy_s < 0.5:
        busy = worker.beat()
    assert busy.batches == 2 and busy.busy_s < 5
    gateway.answer()
    while worker.beat().busy_s:
        pass
    os.kill(worker.pid, signal.SIGSTOP)
    worker.child.line.settimeout(1.5)
    with pytest.raises(TimeoutError):
        for _ in range(4):  # what was on its way may still come
            worker.hear()


def test_a_model_that_holds_the_interpreter_falls_silent(launch: Callable, python_model: Callable) -> None:
    """`hung` is what the supervisor makes of it."""
    worker = launch(python_model("if x[0] > 1: ctypes.PyDLL(None).sleep(int(x[0]))\nreturn x", head="import ctypes"))
    worker.ready()
    gateway = worker.gateway()
    gateway.ask(1, x=ONE * 30)
    worker.child.line.settimeout(1.5)
    with pytest.raises(TimeoutError):
        for _ in range(4):
            worker.hear()


@pytest.mark.parametrize("through_wrapper", [False, True])
def test_a_leaking_model_dies_at_its_limit_without_an_answer(
    launch: Callable, python_model: Callable, capfd: pytest.CaptureFixture[str], through_wrapper: bool
) -> None:
    leak = "self.kept.append(np.ones(2_000_000))"
    wrapped = f"try: {leak}\nexcept MemoryError as error: raise RuntimeError('no room') from error"
    path = python_model(f"{wrapped if through_wrapper else leak}\nreturn x", load="self.kept = []")
    worker = launch(path, replicas=ReplicaSpec(memory_bytes=400 * 2**20))
    worker.ready()
    gateway = worker.gateway()
    for _ in range(200):
        gateway.ask(1, x=ONE)
        answer = gateway.answer()
        if answer is None:
            break
        assert isinstance(answer[0], Ran), answer
    assert answer is None
    assert worker.exit_status() == EXIT_OUT_OF_MEMORY
    assert "out of memory" in capfd.readouterr().err


def test_a_batch_that_does_not_fit_ends_the_worker_without_an_answer(launch: Callable, python_model: Callable) -> None:
    worker = launch(python_model("return x"), replicas=ReplicaSpec(memory_bytes=300 * 2**20))
    worker.ready()
    gateway = worker.gateway()
    with contextlib.suppress(ConnectionError):  # it may end while we still send
        gateway.ask(1, x=np.ones(100_000_000, "f4"))
    assert gateway.answer() is None
    assert worker.exit_status() == EXIT_OUT_OF_MEMORY


def test_sigterm_finishes_the_batch_at_hand(launch: Callable, python_model: Callable) -> None:
    worker = launch(python_model("open(os.environ['TMPDIR'] + '/begun', 'w')\ntime.sleep(0.4)\nreturn x + 1"))
    worker.ready()
    (worker.scratch / "begun").unlink()
    gateway = worker.gateway()
    gateway.ask(1, x=ONE)
    gateway.ask(2, x=ONE)
    appears(worker.scratch / "begun")
    worker.child.terminate()
    answer = gateway.answer()
    assert answer is not None and answer[0].batch == 1 and answer[1]["y"] == [2]
    assert gateway.answer() is None
    assert worker.exit_status() == 0


def test_sigterm_ends_an_idle_worker(launch: Callable) -> None:
    worker = launch(IRIS)
    worker.ready()
    connected = worker.gateway()
    worker.child.terminate()
    assert worker.exit_status() == 0
    assert connected.answer() is None


def test_a_worker_ends_with_its_control_line(launch: Callable) -> None:
    worker = launch(IRIS)
    worker.ready()
    worker.child.line.close()
    assert worker.exit_status() == EXIT_ORPHANED


def test_a_worker_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    program = f"""
import sys
from slipway.launchers.local import LocalLauncher
from slipway.launchers.launcher import ChildPlan
from slipway.spec.serve import ModelSpec
from slipway.wire.control import ControlLine
from slipway.wire.messages import BeginWorker, Ready
child = LocalLauncher().launch(ChildPlan(module="slipway.worker", title="w", listen={str(tmp_path / "link")!r}))
line = ControlLine(child.line)
line.say(BeginWorker(ModelSpec("iris", {IRIS!r}), 1, 1, {str(tmp_path / "scratch")!r}, 1))
while not isinstance(line.hear(), Ready): pass
print(child.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < until, "the worker lives on"
        time.sleep(0.01)


BROKEN = b"""
from slipway import Model

class Broken(Model):
    inputs = outputs = {"x": "FP32[-1]"}

    def load(self):
        raise ValueError("no weights")

    def predict(self, x):
        return x
"""


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("gone.onnx", None, "setup_error", "there is no file"),
        ("text.onnx", b"hello, I am no model\n", "unknown_format", "text.onnx"),
        ("cut.onnx", Path(IRIS).read_bytes()[:300], "unknown_format", "cut off"),
        ("broken.py", BROKEN, "load_failure", "no weights"),
    ],
)
def test_what_cannot_be_served_says_why(
    launch: Callable, tmp_path: Path, name: str, content: bytes | None, code: str, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    worker = launch(str(tmp_path / name))
    refusal = worker.refusal()
    assert refusal.code == code
    assert words in refusal.message and "Traceback" not in refusal.message
    assert worker.exit_status() == EXIT_SETUP_FAILED


def test_a_model_that_does_not_fit_says_so(launch: Callable, python_model: Callable) -> None:
    path = python_model("return x", load="self.weights = np.ones(100_000_000)")
    worker = launch(path, replicas=ReplicaSpec(memory_bytes=400 * 2**20))
    refusal = worker.refusal()
    assert refusal.code == "load_failure" and "does not fit in memory (limit: 400 MB" in refusal.message
    assert worker.exit_status() == EXIT_OUT_OF_MEMORY


def test_a_model_that_fails_on_every_batch_never_counts_as_ready(launch: Callable, python_model: Callable) -> None:
    refusal = launch(python_model("raise RuntimeError('not trained')")).refusal()
    assert refusal.code == "load_failure" and "warm-up" in refusal.message and "not trained" in refusal.message


def test_warm_up_runs_the_batch_sizes_that_will_come(launch: Callable, python_model: Callable) -> None:
    worker = launch(python_model("self.seen.append(len(x))\nreturn x * 0 + len(self.seen)", load="self.seen = []"))
    worker.ready()
    assert worker.gateway().run(x=ONE)["y"] == [3]
    single = launch(python_model("print('rows', len(x), flush=True)\nreturn x"), batching=Batching(max_rows=1))
    single.ready()


def test_threads_reach_the_libraries(launch: Callable, python_model: Callable) -> None:
    path = python_model("return x * 0 + float(os.environ['OMP_NUM_THREADS'] + os.environ['OPENBLAS_NUM_THREADS'])")
    worker = launch(path, replicas=ReplicaSpec(threads=3), environment={"OMP_NUM_THREADS": "7"})
    assert worker.ready().extra["threads"] == 3
    assert worker.gateway().run(x=ONE)["y"] == [33]
    exported = launch(path, environment={"OMP_NUM_THREADS": "7"})
    exported.ready()
    assert exported.gateway().run(x=ONE)["y"] == [71]


def test_a_failing_batch_is_in_the_log_under_its_correlation(
    launch: Callable, python_model: Callable, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = launch(python_model("if x[0] > 1: raise ValueError('x is too large')\nreturn x"))
    worker.ready()
    gateway = worker.gateway()
    failure = gateway.failure(x=ONE * 2)
    assert failure.code == "model_failure" and "x is too large" in failure.message
    log = capfd.readouterr().err
    assert failure.correlation in log and "Traceback" in log and "[worker iris v1 #1]" in log
    assert gateway.run(x=ONE)["y"] == [1]


def test_what_a_model_keeps_of_a_large_batch_stays_as_it_was(launch: Callable, python_model: Callable) -> None:
    worker = launch(python_model("self.kept.append(x)\nreturn x * 0 + self.kept[-3:][0].sum()", load="self.kept = []"))
    worker.ready()
    gateway = worker.gateway()
    sums = [gateway.run(x=np.full(200_000, value, "f4"))["y"][0] for value in (1, 2, 3, 4)]
    assert sums[2:] == [200_000, 400_000]
