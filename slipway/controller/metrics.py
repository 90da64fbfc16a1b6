"""The numbers that only the controller knows: its deployments, its decisions, the requests to its API."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from slipway.monitor.metrics import (
    ADMIN_REQUESTS,
    ADMIN_SECONDS,
    DEPLOYMENT_STATES,
    DEPLOYMENTS,
    LEADER,
    RECONCILE_SECONDS,
    RECONCILES,
)
from slipway.wire.messages import Series


class Tally:
    """Requests to the management API, counted."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._buckets = [0] * (len(ADMIN_SECONDS.buckets) + 1)
        self._sum_s = 0.0

    def count(self, *, method: str, status: int, took_s: float) -> None:
        self._requests[method, str(status)] += 1
        self._buckets[bisect_left(ADMIN_SECONDS.buckets, took_s)] += 1
        self._sum_s += took_s

    def series(self) -> Iterator[Series]:
        for labels, count in sorted(self._requests.items()):
            yield Series(ADMIN_REQUESTS.name, labels, count)
        yield Series(ADMIN_SECONDS.name, (), self._sum_s, tuple(self._buckets))


def controller_series(*, states: Iterable[str], leading: bool, turns: int, turn_s: float) -> Iterator[Series]:
    counted = Counter(states)
    for state in DEPLOYMENT_STATES:
        yield Series(DEPLOYMENTS.name, (state,), counted[state])
    yield Series(LEADER.name, (), float(leading))
    yield Series(RECONCILES.name, (), turns)
    yield Series(RECONCILE_SECONDS.name, (), turn_s)
