"""How far a deployment is, for the person who waits: bars on a terminal, lines elsewhere. All on standard error, so
that standard output stays the answer."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from slipway.cli.exits import note
from slipway.cli.show import sized, tame

if TYPE_CHECKING:
    from slipway.client.admin_deploy import Step

BARS = ("upload", "verify", "load", "warm up", "flip")
STAGES = {
    "hashing": ("upload", "reading its files"),
    "uploading": ("upload", "uploading"),
    "pending": ("verify", "waiting for its turn"),
    "fetching": ("verify", "fetching and verifying"),
    "fetched": ("verify", "verified"),
    "loading": ("load", "loading"),
    "warming": ("warm up", "warming up"),
    "probing": ("flip", "trying it on every gateway"),
    "ready": ("flip", "ready"),
    "live": ("flip", "takes the traffic"),
}
"""A Step's stage: the bar that it moves, and what to say of it."""

_NOTHING_YET = (None, "hashing", "uploading")
"""What is live right after these was live before: it takes no traffic that it did not have."""


class Painter(Protocol):
    def step(self, name: str, step: Step) -> None:
        """`name`: of the deployment; steps of one come together."""
        ...

    def close(self) -> None:
        """It is over, well or not: nothing moves any more."""
        ...


def painter(*, bars: bool = True) -> Painter:
    """`bars`: what is waited for goes through the stages of a deployment."""
    return Bars() if bars and sys.stderr.isatty() else Lines()


class Lines:
    """A line for each stage, for logs of CI and the like."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._troubles: dict[str, str] = {}

    def step(self, name: str, step: Step) -> None:
        before = self._said.get(name)
        self._said[name] = step.stage
        if before != step.stage and (before not in _NOTHING_YET or step.stage != "live"):
            words = STAGES[step.stage][1] if step.stage in STAGES else step.stage
            size = f" {sized(step.total_bytes)}" if step.total_bytes else ""
            note(f"{tame(name)}: {words}{size}")
        if step.trouble != self._troubles.get(name, "") and step.trouble:
            note(f"{tame(name)}: tried again: {tame(step.trouble)}")
        self._troubles[name] = step.trouble

    def close(self) -> None:
        """Every line is written already."""


class Bars:
    """Five bars for the deployment at hand. A bar fills as far as it is told, and moves to and fro where nobody knows
    how far; what is behind a stage is done. They leave the screen at the end, and how long each took stays."""

    def __init__(self) -> None:
        self._name = ""
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}
        self._current = ""
        self._began = 0.0
        self._took: dict[str, float] = {}

    def step(self, name: str, step: Step) -> None:
        if step.stage not in STAGES or (step.stage == "live" and name != self._name):
            return  # nothing that any bar stands for, or nothing to wait for
        bar, words = STAGES[step.stage]
        if name != self._name or self._progress is None:
            self.close()
            self._open(name)
        self._reach(bar)
        share = step.progress
        if step.total_bytes:
            share = step.done_bytes / step.total_bytes
            words = f"{words} {sized(step.done_bytes)} of {sized(step.total_bytes)}"
        if step.trouble:
            words = f"tried again: {tame(step.trouble)}"
        known = 0 < share <= 1 or bool(step.total_bytes) or step.stage == "live"
        done = 1.0 if step.stage == "live" else share
        self._progress.update(self._tasks[bar], total=1.0 if known else None, completed=done, words=words)

    def close(self) -> None:
        if self._progress is None:
            return
        self._pass(self._current)
        self._progress.stop()
        self._progress = None
        took = ", ".join(f"{bar} {seconds:.1f} s" for bar, seconds in self._took.items() if seconds >= 0.05)
        if took:
            note(f"{tame(self._name)}: {took}")

    def _open(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.text import Text

        class Words(TextColumn):
            """What comes from a server is text and no markup."""

            def render(self, task: Any) -> Text:
                return Text(task.fields["words"])

        self._name, self._took, self._current = name, {}, ""
        self._progress = Progress(
            TextColumn("{task.description:<8}", markup=False),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            Words(""),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        note(tame(name))
        self._tasks = {bar: self._progress.add_task(bar, start=False, total=1.0, words="") for bar in BARS}
        self._progress.start()

    def _reach(self, bar: str) -> None:
        if bar == self._current:
            return
        self._pass(self._current)
        for earlier in BARS[: BARS.index(bar)]:  # what was too quick to be seen, or not needed
            self._progress.update(self._tasks[earlier], total=1.0, completed=1.0)
        self._current, self._began = bar, time.monotonic()
        self._progress.start_task(self._tasks[bar])

    def _pass(self, bar: str) -> None:
        if bar:
            self._took[bar] = self._took.get(bar, 0.0) + time.monotonic() - self._began
            self._progress.update(self._tasks[bar], total=1.0, completed=1.0, words="")
            self._progress.stop_task(self._tasks[bar])
            self._began = time.monotonic()
