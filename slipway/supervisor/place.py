"""A place in the plan that a process should fill: when it is started, killed, started again. Pure: `now` is given.

    backing_off ──START──▶ starting ──ready──▶ ready
         ▲                    │ late, failed      │ hung, over its memory, line lost
         │                    ▼                   ▼
         └──── wanted ──── stopping ◀─────────────┘
                              └── not wanted ──▶ stopped

There is at most one process at a time: the next is started only when the last was reaped. The same rules keep
workers and gateways; they differ in their `Limits`.
"""

from __future__ import annotations

import signal
from collections import Counter, deque
from enum import Enum

import msgspec

from slipway.launchers.launcher import EXIT_OUT_OF_MEMORY
from slipway.supervisor.backoff import Backoff

STARTING, READY, STOPPING, BACKING_OFF, STOPPED = "starting", "ready", "stopping", "backing_off", "stopped"

LOOP_WINDOW_S = 60.0
LOOP_CRASHES = 3
"""As many crashes within the window are called a crash loop."""

LOOK_S = 1.0
"""The most silence that one look can find: a supervisor that was itself asleep did not hear, and blames nobody."""


class Act(Enum):
    START = "start"
    TERMINATE = "terminate"
    KILL = "kill"


class Limits(msgspec.Struct, frozen=True):
    """`memory_bytes` 0: none. `stop_s`: from being asked to end to being killed."""

    startup_s: float
    hang_s: float
    memory_bytes: int = 0
    stop_s: float = 3.0


class Ending(msgspec.Struct, frozen=True):
    """Why a process ended. `reason` is the metric's label, `code` that of an error, `words` are for a person."""

    reason: str
    words: str
    code: str = "load_failure"


class Place:
    """`state`, the counts, `ending` (why the process at hand is on its way out, where known) and `last` (why the one
    before it ended), `failures` (in a row) are for reading; every change goes through a method."""

    def __init__(self, *, limits: Limits, backoff: Backoff | None = None, generation: int = 0) -> None:
        self.state = BACKING_OFF
        self.wanted = True
        self.generation = generation
        self.stage = ""
        self.ever_ready = False
        self.restarts: Counter[str] = Counter()
        self.ending: Ending | None = None
        self.last: Ending | None = None
        self.next_try = 0.0
        self._limits = limits
        self._backoff = backoff or Backoff()
        self.failures = 0
        self._crashes: deque[float] = deque(maxlen=100)
        self._since = 0.0
        self._healthy_since: float | None = None
        self._kill_at = 0.0
        self._looked = 0.0
        self._silent_s = 0.0
        self._busy_s = 0.0
        self._rss_bytes = 0

    # --- what happened -------------------------------------------------------------------------------------------

    def launched(self, now: float) -> None:
        """A process was started, as `decide` asked."""
        if self.last is not None:
            self.restarts[self.last.reason] += 1
        self.generation += 1
        self.stage = "start"
        self.ending = None
        self._enter(STARTING, now)

    def progressed(self, stage: str) -> None:
        if self.state == STARTING:
            self.stage = stage

    def became_ready(self, now: float) -> None:
        if self.state == STARTING:
            self.stage, self.ever_ready = "", True
            self._enter(READY, now)

    def beat(self, *, busy_s: float = 0.0, rss_bytes: int = 0) -> None:
        """A sign of life; `busy_s` as in `wire.messages.Beat`."""
        self._silent_s, self._busy_s, self._rss_bytes = 0.0, busy_s, rss_bytes

    def refused(self, *, code: str, words: str, now: float) -> None:
        """The process said that it cannot begin, and is about to exit."""
        if self.state in (STARTING, READY):
            self._end(Ending("load", words, code), now)

    def lost(self, now: float) -> None:
        """Its control line is closed: it ends, or is of no use any more. The exit status is yet to come."""
        if self.state in (STARTING, READY):
            self._enter(STOPPING, now)
            self._kill_at = now + self._limits.stop_s

    def ended(self, status: int, now: float) -> None:
        """It was reaped; `status` is its exit status, negative for a signal."""
        self.gone(self.ending or ending_of(status), now)

    def gone(self, ending: Ending, now: float) -> None:
        """There is no process any more (or none could be made)."""
        if not self.wanted:
            self._enter(STOPPED, now)
            return
        if self._healthy_since is not None and now - self._healthy_since >= self._backoff.healthy_s:
            self.failures = 0
        self.failures += 1
        self._crashes.append(now)
        self.last = ending
        self.next_try = now + self._backoff.delay_s(self.failures)
        self._enter(BACKING_OFF, now)

    def retire(self, now: float, *, patience_s: float | None = None) -> bool:
        """No process is wanted here any more, for good. True where one has to be told; it is killed after
        `patience_s` (default: the limits' `stop_s`)."""
        self.wanted = False
        if self.state in (BACKING_OFF, STOPPED):
            self._enter(STOPPED, now)
            return False
        told = self.state in (STARTING, READY)
        if told:
            self._enter(STOPPING, now)
        self._kill_at = now + (self._limits.stop_s if patience_s is None else patience_s)
        return told

    # --- what to do ----------------------------------------------------------------------------------------------

    def decide(self, now: float) -> Act | None:
        """What is due now. Call it often; between two calls at most LOOK_S of silence are held against anyone."""
        looked_s, self._looked = now - self._looked, now
        if self.state == BACKING_OFF:
            return Act.START if now >= self.next_try else None
        if self.state == STARTING and now - self._since > self._limits.startup_s:
            stage = f" (stage: {self.stage})" if self.stage else ""
            words = (
                f"not ready after {self._limits.startup_s:g} s{stage}; --startup-s (health.startup_s) gives it longer"
            )
            return self._end(Ending("startup", words), now, act=Act.KILL)
        if self.state == READY:
            self._silent_s += min(looked_s, LOOK_S)
            return self._judge(now)
        if self.state == STOPPING and now >= self._kill_at:
            self._kill_at = now + self._limits.stop_s
            return Act.KILL
        return None

    def _judge(self, now: float) -> Act | None:
        limits = self._limits
        if self._silent_s > limits.hang_s:
            words = f"hung: no sign of life for {self._silent_s:.1f} s"
            return self._end(Ending("hung", words), now, act=Act.KILL)
        if self._busy_s > limits.hang_s:
            words = f"hung: one batch computed for {self._busy_s:.1f} s; --hang-s (health.hang_s) allows longer"
            return self._end(Ending("hung", words), now, act=Act.KILL)
        if limits.memory_bytes and self._rss_bytes > limits.memory_bytes:
            used, allowed = self._rss_bytes / 2**20, limits.memory_bytes / 2**20
            words = f"over its memory limit: {used:.0f} MB of {allowed:.0f} MB (--memory-mb)"
            return self._end(Ending("memory", words), now, act=Act.TERMINATE)
        return None

    # --- what to say ---------------------------------------------------------------------------------------------

    def trouble(self, now: float) -> str:
        """In words for a person why there is no ready process here; '' where there is one or nothing went wrong."""
        ending = self.ending if self.state == STOPPING else self.last
        if self.state == READY or ending is None or not self.wanted:
            return ""
        recent = sum(1 for crash in self._crashes if now - crash <= LOOP_WINDOW_S)
        words = ending.words
        if recent >= LOOP_CRASHES:
            words = f"{recent} crashes in {LOOP_WINDOW_S:g} s; last: {words}"
        if self.state == BACKING_OFF:
            words += f"; next try in {max(0.0, self.next_try - now):.1f} s"
        return words

    def _end(self, ending: Ending, now: float, *, act: Act | None = None) -> Act | None:
        self.ending = ending
        self._enter(STOPPING, now)
        self._kill_at = now + self._limits.stop_s
        return act

    def _enter(self, state: str, now: float) -> None:
        if state == READY:
            self._healthy_since = now
        elif state == STARTING:
            self._healthy_since = None
        self.state, self._since, self._looked = state, now, now
        self._silent_s, self._busy_s, self._rss_bytes = 0.0, 0.0, 0


def ending_of(status: int) -> Ending:
    """What an exit status says."""
    if status == EXIT_OUT_OF_MEMORY:
        return Ending("memory", "out of memory: an allocation failed at its limit (--memory-mb)")
    if status >= 0:
        return Ending("exit", f"exit with status {status}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    return Ending("signal", f"exit by signal {-status} ({name})")
