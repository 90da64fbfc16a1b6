"""The public fakes behave like what they stand for."""

from __future__ import annotations

import signal

import pytest

from slipway.errors import SetupError
from slipway.infer.runtime import LoadOptions, Runtime
from slipway.infer.signature import count_rows
from slipway.launchers.launcher import Child, ChildPlan, Launcher
from slipway.testing.clock import FakeClock
from slipway.testing.launcher import StubLauncher
from slipway.testing.runtime import StubRuntime, load
from slipway.wire.control import ControlLine
from slipway.wire.messages import Drain, Progress
from slipway.worker.outputs import check_outputs


def test_a_fake_clock_moves_only_when_told_and_calls_in_order() -> None:
    clock, seen = FakeClock(100.0), []
    clock.call_at(103.0, lambda: seen.append(("late", clock.now())))
    clock.call_at(101.0, lambda: clock.call_at(102.0, lambda: seen.append(("inner", clock.now()))))
    assert clock.now() == 100.0
    clock.sleep(2.5)
    assert seen == [("inner", 102.0)] and clock.now() == 102.5
    clock.advance(0.5)
    assert seen[-1] == ("late", 103.0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_stub_child_is_played_by_the_test() -> None:
    stubs = StubLauncher()
    launcher: Launcher = stubs
    child: Child = launcher.launch(ChildPlan(module="slipway.worker", title="slipway: worker iris v1 #1"))
    part = stubs.children[0]
    assert part.plan.title == "slipway: worker iris v1 #1" and stubs.running == [part]
    part.say(Progress("load"))
    line = ControlLine(child.line)
    assert line.hear() == Progress("load")
    line.say(Drain())
    assert part.hear() == Drain()
    part.stubborn = True
    child.terminate()
    assert child.poll() is None
    child.kill()
    assert child.poll() == -signal.SIGKILL and part.signals == [signal.SIGTERM, signal.SIGKILL]
    assert line.hear() is None and not stubs.running
    child.close()
    assert part.closed


def test_a_stub_launcher_refuses_on_demand() -> None:
    launcher = StubLauncher()
    launcher.refusals.append(SetupError("no process can be made"))
    with pytest.raises(SetupError, match="no process"):
        launcher.launch(ChildPlan(module="x", title="x"))
    assert launcher.launch(ChildPlan(module="x", title="x")).poll() is None


def test_a_stub_runtime_keeps_the_contract_of_runtimes() -> None:
    runtime: Runtime = load("anything", LoadOptions())
    inputs = runtime.example(3)
    assert count_rows(runtime.signature, inputs) == 3
    check_outputs(runtime.signature, runtime.predict(inputs), 3)
    runtime.close()
    stub = StubRuntime(fail=MemoryError())
    with pytest.raises(MemoryError):
        stub.predict(inputs)
    assert stub.batches == [3]
