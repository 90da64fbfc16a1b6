"""Sums of what several gateways counted, so that no sum ever goes back, also when a gateway is replaced. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from slipway.monitor.metrics import METRICS
from slipway.wire.messages import Series

Key = tuple[str, tuple[str, ...]]


class Tally:
    """Keeps the counters of gateways that are gone; gauges go with the process that they measured."""

    def __init__(self) -> None:
        self._kept: dict[Key, Series] = {}

    def keep(self, series: Iterable[Series]) -> None:
        """The last numbers of a gateway that ended."""
        lasting = (one for one in series if one.name in METRICS and METRICS[one.name].kind != "gauge")
        _add(self._kept, lasting)

    def keep_missing(self, before: Iterable[Series], now: Iterable[Series]) -> None:
        """What a gateway counts no more, since a version is gone."""
        there = {(one.name, one.labels) for one in now}
        self.keep(one for one in before if (one.name, one.labels) not in there)

    def sum(self, snapshots: Iterable[Iterable[Series]]) -> list[Series]:
        """One series for each name and set of labels, in the order of first appearance."""
        total: dict[Key, Series] = {}
        _add(total, self._kept.values())
        for series in snapshots:
            _add(total, series)
        return list(total.values())


def _add(total: dict[Key, Series], series: Iterable[Series]) -> None:
    for one in series:
        key = (one.name, one.labels)
        before = total.get(key)
        if before is None:
            total[key] = Series(one.name, one.labels, one.value, one.buckets)
        else:
            before.value += one.value
            if len(before.buckets) == len(one.buckets):
                before.buckets = tuple(map(sum, zip(before.buckets, one.buckets, strict=True)))
