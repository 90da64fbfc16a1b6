"""What one run found: plain records, written as JSON after every round so that nothing is lost."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.contender import ROOT


def without_paths(text: str) -> str:
    """Reasons of failures quote logs; where the checkout lies is nobody's business."""
    return text.replace(f"{ROOT}/", "").replace(str(Path.home()), "~")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One closed-loop run. `rate` counts right answers only, in requests a second.

    `cpu_us` is processor time of all of the server's processes for one answer: what a neighbour on the machine
    hardly changes while it changes every rate.
    """

    contender: str
    workload: str
    connections: int
    turn: int
    rate: float
    answered: int
    errors: int
    seconds: float
    p50_us: float
    p99_us: float
    p999_us: float
    cpu_us: float


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """One open-loop run; `of` says whose capacity the share is of: the contender's own or the shared one."""

    contender: str
    of: str
    share: float
    turn: int
    asked_rate: float
    sent: int
    errors: int
    p50_us: float
    p99_us: float
    p999_us: float
    late_p99_us: float


@dataclass(frozen=True, kw_only=True)
class StartUp:
    """From the start of the process to the first right answer; memory by process, before and after the load."""

    contender: str
    model: str
    turn: int
    seconds: float
    idle: list[dict[str, object]]
    loaded: list[dict[str, object]]


@dataclass(kw_only=True)
class Results:
    machine: dict[str, object] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    contenders: dict[str, dict[str, object]] = field(default_factory=dict)
    """name -> title, how, versions, and `problem` where one was skipped, failed or answered wrongly."""
    measurements: list[Measurement] = field(default_factory=list)
    open_loop: list[OpenLoop] = field(default_factory=list)
    start_ups: list[StartUp] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    wall_s: float = 0.0
    interrupted: bool = False

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Results":
        raw = json.loads(path.read_text())
        raw["measurements"] = [Measurement(**each) for each in raw["measurements"]]
        raw["open_loop"] = [OpenLoop(**each) for each in raw["open_loop"]]
        raw["start_ups"] = [StartUp(**each) for each in raw["start_ups"]]
        return cls(**raw)
