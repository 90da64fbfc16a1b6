"""What Slipway set out to reach, and whether this run shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.ratios import Spread, by_round, paired
from benchmarks.results import Measurement

_MANY = 32
_TINY = (1, 8, 32, 128)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Slipway's value ÷ the other's, to be at least (or, for latencies, at most) `asked`."""

    about: str
    other: str
    workload: str
    connections: int
    asked: float
    value: str = "rate"
    at_most: bool = False
    beside: tuple[int, ...] = ()
    """Other numbers of connections whose ratio is shown beside the verdict, so that nobody picks the best one."""


def _tiny(about: str, other: str, workload: str, asked: float) -> Target:
    beside = tuple(count for count in _TINY if count != _MANY)
    return Target(about=about, other=other, workload=workload, connections=_MANY, asked=asked, beside=beside)


def _first_half(protocol: str, workload: str) -> Target:
    return Target(
        about=f"one connection, {protocol}: p50 ÷ Triton's",
        other="triton",
        workload=workload,
        connections=1,
        asked=0.5,
        value="p50_us",
        at_most=True,
    )


def _open(protocol: str, workload: str) -> Target:
    return Target(
        about=f"tiny model, {protocol}: without auth ÷ with a token",
        other="closed",
        workload=workload,
        connections=_MANY,
        asked=1.05,
        at_most=True,
        beside=tuple(count for count in _TINY if count != _MANY),
    )


TARGETS = (
    _tiny("tiny model, HTTP JSON ÷ Triton", "triton", "tiny-json", 2),
    _tiny("tiny model, HTTP JSON ÷ floor", "floor", "tiny-json", 0.6),
    _tiny("tiny model, gRPC ÷ Triton", "triton", "tiny-grpc", 2),
    _tiny("tiny model, HTTP JSON ÷ MLServer", "mlserver", "tiny-json", 10),
    _tiny("tiny model, HTTP JSON ÷ KServe", "kserve", "tiny-json", 10),
    _tiny("tiny model, HTTP JSON ÷ LitServe", "litserve", "tiny-json", 10),
    _tiny("tiny model, HTTP JSON ÷ FastAPI", "fastapi", "tiny-json", 5),
    Target(about="3x224x224, HTTP JSON ÷ Triton", other="triton", workload="large-json", connections=8, asked=1),
    Target(about="3x224x224, HTTP binary ÷ Triton", other="triton", workload="large-binary", connections=8, asked=1),
    Target(about="3x224x224, gRPC ÷ Triton", other="triton", workload="large-grpc", connections=8, asked=1),
    Target(about="compute-bound net ÷ bare session.run", other="bare", workload="conv", connections=4, asked=0.97),
    _open("HTTP JSON", "tiny-json"),
    _open("gRPC", "tiny-grpc"),
    _first_half("HTTP JSON", "tiny-json"),
    _first_half("HTTP binary", "tiny-binary"),
    _first_half("gRPC", "tiny-grpc"),
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    target: Target
    reached: Spread | None
    beside: dict[int, Spread | None]

    @property
    def word(self) -> str:
        """`yes` only with the median on the right side; whether every round agreed is the range's to tell."""
        if self.reached is None:
            return "not measured"
        kept = (
            self.reached.median <= self.target.asked
            if self.target.at_most
            else (self.reached.median >= self.target.asked)
        )
        return "yes" if kept else "no"


def judge(measurements: Sequence[Measurement]) -> list[Verdict]:
    verdicts = []
    for target in TARGETS:

        def ratio(connections: int, target: Target = target) -> Spread | None:
            ours = by_round(measurements, "slipway", target.workload, connections, target.value)
            theirs = by_round(measurements, target.other, target.workload, connections, target.value)
            return paired(ours, theirs)

        beside = {count: ratio(count) for count in target.beside}
        verdicts.append(Verdict(target=target, reached=ratio(target.connections), beside=beside))
    return verdicts
