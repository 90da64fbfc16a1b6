"""Children that are no processes: a test plays their part, and sees what was done to them.

launcher = StubLauncher()
... the code under test launches ...
child = launcher.children[-1]
child.say(Ready(facts))
child.exit(-9)
"""

from __future__ import annotations

import itertools
import signal
import socket
from collections import deque

from slipway.errors import SetupError
from slipway.launchers.launcher import ChildPlan
from slipway.wire.control import ControlLine
from slipway.wire.messages import ControlMessage

FIRST_PID = 100_000_000
"""Above every real process id, so that a mistaken `os.kill` hits nobody."""


class StubChild:
    """A `slipway.launchers.launcher.Child`. `signals` are those it got; SIGKILL ends it, and so does SIGTERM
    unless it is `stubborn`."""

    def __init__(self, plan: ChildPlan, pid: int) -> None:
        self.plan = plan
        self.pid = pid
        self.signals: list[signal.Signals] = []
        self.stubborn = False
        self.closed = False
        self.line, self._far_end = socket.socketpair()
        self._far = ControlLine(self._far_end)
        self._status: int | None = None

    # --- for the test: what the child does ---

    def say(self, message: ControlMessage) -> None:
        self._far.say(message)

    def hear(self, timeout_s: float = 5.0) -> ControlMessage | None:
        """The next message of the parent; None when it has hung up. Raises TimeoutError when none comes."""
        self._far_end.settimeout(timeout_s)
        return self._far.hear()

    def exit(self, status: int = 0) -> None:
        if self._status is None:
            self._status = status
            self._far_end.close()

    @property
    def running(self) -> bool:
        return self._status is None

    # --- for the code under test ---

    def poll(self) -> int | None:
        return self._status

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        self.closed = True
        self.line.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            self.signals.append(number)
            if number is signal.SIGKILL:
                self.exit(-signal.SIGKILL)
            elif not self.stubborn:
                self.exit(0)


class StubLauncher:
    """A `slipway.launchers.launcher.Launcher`. `children`: all it made, in order. `refusals`: errors that the next
    launches raise, one each."""

    def __init__(self) -> None:
        self.children: list[StubChild] = []
        self.refusals: deque[SetupError] = deque()
        self._pids = itertools.count(FIRST_PID)

    def launch(self, plan: ChildPlan) -> StubChild:
        if self.refusals:
            raise self.refusals.popleft()
        child = StubChild(plan, next(self._pids))
        self.children.append(child)
        return child

    @property
    def running(self) -> list[StubChild]:
        return [child for child in self.children if child.running]
