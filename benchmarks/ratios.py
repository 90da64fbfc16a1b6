"""Ratios between contenders, taken within a round and only then summed up.

The machine's speed drifts from minute to minute; two contenders of one round saw much the same machine, so the
ratio of a round is worth more than the ratio of two medians.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results import Measurement


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The median over rounds with the smallest and the largest."""

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(median=statistics.median(values), low=min(values), high=max(values), rounds=len(values))


def by_round(
    measurements: Sequence[Measurement], contender: str, workload: str, connections: int, value: str = "rate"
) -> dict[int, float]:
    """turn -> value of the contender's runs of one workload at one number of connections."""
    return {
        each.turn: getattr(each, value)
        for each in measurements
        if (each.contender, each.workload, each.connections) == (contender, workload, connections)
    }


def paired(above: dict[int, float], below: dict[int, float]) -> Spread | None:
    """above ÷ below over the rounds that have both; None without one."""
    return spread([above[turn] / below[turn] for turn in sorted(above) if below.get(turn)])
