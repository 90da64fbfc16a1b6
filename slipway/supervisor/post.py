"""A place with the process that stands there now: carries out what `Place` decides."""

from __future__ import annotations

import logging
from collections.abc import Callable

from slipway.clock import Clock
from slipway.errors import SetupError
from slipway.launchers.launcher import Child, ChildPlan, Launcher
from slipway.logs import fields
from slipway.supervisor.line import Line
from slipway.supervisor.place import READY, STARTING, STOPPED, Act, Ending, Place
from slipway.wire.messages import ControlMessage, Progress, Ready, SetupFailed

logger = logging.getLogger(__name__)


class StartGate:
    """How many processes may load at the same time: a hundred at once would all be late on a machine with two cores.

    One that takes long to load gives its place to the next after `hold_s`: it waits for a disk more than it computes.
    """

    def __init__(self, *, places: int, hold_s: float = 10.0) -> None:
        self._places = places
        self._hold_s = hold_s
        self._inside: dict[Post, float] = {}

    def enter(self, post: Post, now: float) -> bool:
        """Whether it may start now; ask again otherwise."""
        for other, since in list(self._inside.items()):
            if other.place.state != STARTING or now - since >= self._hold_s:
                del self._inside[other]
        if len(self._inside) >= self._places:
            return False
        self._inside[post] = now
        return True


class Post:
    """`plan` says how the next process is born, `begin` what it hears first, by its generation. `heard` gets the
    messages that are not the place's own; `changed` is called after every change of state. `gate`: who may start at
    the same time."""

    def __init__(
        self,
        *,
        name: str,
        place: Place,
        launcher: Launcher,
        clock: Clock,
        plan: Callable[[], ChildPlan],
        begin: Callable[[int], ControlMessage],
        heard: Callable[[ControlMessage], None],
        changed: Callable[[], None],
        gate: StartGate | None = None,
    ) -> None:
        self.name = name
        self.place = place
        self.pid = 0
        self._launcher = launcher
        self._clock = clock
        self._plan = plan
        self._begin = begin
        self._heard = heard
        self._changed = changed
        self._gate = gate
        self._child: Child | None = None
        self._line: Line | None = None

    def step(self) -> None:
        """Reap what ended and do what is due."""
        now = self._clock.now()
        if self._child is not None:
            status = self._child.poll()
            if status is not None:
                self._bury(status, now)
        act = self.place.decide(now)
        if act is None:
            return
        if act is Act.START:
            if self._gate is not None and not self._gate.enter(self, now):
                return
            self._launch(now)
        elif self._child is not None:
            words = self.place.ending.words if self.place.ending else "does not end in time"
            logger.warning("%s: %s", self.name, words, extra=fields(pid=self.pid, act=act.value))
            if act is Act.KILL:
                self._child.kill()
            else:
                self._child.terminate()
        self._changed()

    def say(self, message: ControlMessage) -> None:
        if self._line is not None:
            self._line.say(message)

    def retire(self, *, patience_s: float | None = None, farewell: ControlMessage | None = None) -> None:
        """End it for good: with `farewell`, else with SIGTERM; with SIGKILL when its patience is over, and at once
        while it is not ready: then it has nothing to finish."""
        ready = self.place.state == READY
        if self.place.retire(self._clock.now(), patience_s=patience_s) and self._child is not None:
            if not ready:
                self._child.kill()
            elif farewell is not None:
                self.say(farewell)
            else:
                self._child.terminate()
        self._changed()

    def kill(self) -> None:
        """At once and for good; `step` reaps it."""
        self.place.retire(self._clock.now())
        if self._child is not None:
            self._child.kill()

    @property
    def gone(self) -> bool:
        return self.place.state == STOPPED

    def _launch(self, now: float) -> None:
        generation = self.place.generation + 1
        self.place.launched(now)
        try:
            child = self._launcher.launch(self._plan())
        except SetupError as error:
            self.place.gone(Ending("exit", error.message, error.code), now)
            logger.error("%s: %s", self.name, error.message)
            return
        self._child, self.pid = child, child.pid
        self._line = Line(child.line, heard=self._hear, lost=self._lose)
        self._line.say(self._begin(generation))

    def _hear(self, message: ControlMessage) -> None:
        place = self.place
        before = place.state
        if isinstance(message, Progress):
            place.progressed(message.stage)
        elif isinstance(message, SetupFailed):
            place.refused(code=message.code, words=message.message, now=self._clock.now())
        else:
            if isinstance(message, Ready):
                place.became_ready(self._clock.now())
            self._heard(message)
        if place.state != before or place.state == STARTING:
            self._changed()

    def _lose(self) -> None:
        """Its line is closed, so it is ending: nobody shall send work there, whatever its exit status will be."""
        self.place.lost(self._clock.now())
        self._changed()

    def _bury(self, status: int, now: float) -> None:
        assert self._child is not None
        if self._line is not None:
            self._line.drain()  # what it said last, such as why it could not begin
            self._line.close()
        self._child.close()
        self._child, self._line, pid = None, None, self.pid
        self.pid = 0
        self.place.ended(status, now)
        place = self.place
        first_try = not (place.ever_ready or place.restarts)  # its failure is reported by who began it
        if place.wanted and place.last is not None and not first_try:
            logger.error("%s ended: %s", self.name, place.trouble(now), extra=fields(pid=pid, reason=place.last.reason))
        self._changed()
