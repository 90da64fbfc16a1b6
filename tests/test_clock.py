"""The system clock is the monotonic one that all processes share."""

from __future__ import annotations

import subprocess
import sys

from slipway.clock import SystemClock


def test_time_does_not_go_back_and_sleep_takes_some() -> None:
    clock = SystemClock()
    before = clock.now()
    clock.sleep(0.001)
    assert clock.now() >= before + 0.001


def test_processes_share_it() -> None:
    before = SystemClock().now()
    code = "from slipway.clock import SystemClock; print(SystemClock().now())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert before <= float(said.stdout) <= SystemClock().now()
