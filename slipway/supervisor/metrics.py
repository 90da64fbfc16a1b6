"""The numbers of a whole server as one Prometheus page: sums over gateways, and what only the supervisor knows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from slipway.launchers.memory import resident_bytes
from slipway.monitor.metrics import (
    GATEWAY_RESTARTS,
    GATEWAYS_SUMMED,
    METRICS,
    PROCESS_CPU_SECONDS,
    PROCESS_RESIDENT_BYTES,
    REPLICA_RESTARTS,
    REPLICA_STATES,
    REPLICAS,
    Metric,
)
from slipway.supervisor.gateways import Gateways
from slipway.supervisor.repository import Repository, Shelf
from slipway.wire.messages import Series

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
ANSWER_WITHIN_S = 1.0


async def metrics_page(*, repository: Repository, gateways: Gateways) -> bytes:
    """Ask every gateway, wait a moment for the slowest, and render. A gateway that does not answer in time counts
    with its last numbers; `slipway_gateways_summed` says how many did."""
    answered = await gateways.refresh(timeout_s=ANSWER_WITHIN_S)
    series = gateways.tally.sum(gateway.last.series for gateway in gateways.all if gateway.last is not None)
    series.append(Series(GATEWAYS_SUMMED.name, (), answered))
    series.append(Series(GATEWAY_RESTARTS.name, (), sum(g.post.place.restarts.total() for g in gateways.all)))
    for shelf in repository.shelves:
        series.extend(_replica_series(shelf))
    series.extend(_process_series(repository, gateways))
    return render(series)


def render(series: Iterable[Series]) -> bytes:
    """Prometheus text, format 0.0.4, of series that the table of metrics knows; others are left out.

    A metric without any series appears with its help, so that a dashboard finds every name from the first moment.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(list(series)))
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, series: list[Series]) -> None:
        self._series = series

    def collect(self) -> Iterator[Family]:
        by_name: dict[str, list[Series]] = {}
        for one in self._series:
            by_name.setdefault(one.name, []).append(one)
        for metric in METRICS.values():
            yield _family(metric, by_name.get(metric.name, []))


def _family(metric: Metric, series: list[Series]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for one in series:
            histogram.add_metric(one.labels, _cumulative(metric, one.buckets), one.value)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = kind(metric.name, metric.help, labels=metric.labels)
    for one in series:
        family.add_metric(one.labels, one.value)
    return family


def _cumulative(metric: Metric, counts: tuple[int, ...]) -> list[tuple[str, float]]:
    bounds = [*(str(float(bound)) for bound in metric.buckets), "+Inf"]
    total, cumulative = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        cumulative.append((bound, float(total)))
    return cumulative


def _replica_series(shelf: Shelf) -> Iterator[Series]:
    labels = (shelf.spec.name, shelf.spec.version)
    states: Counter[str] = Counter()
    restarts = Counter(shelf.past_restarts)
    for load in shelf.loads():
        for replica in load.replicas:
            states[replica.post.place.state] += 1
            restarts.update(replica.post.place.restarts)
    for state in REPLICA_STATES:
        yield Series(REPLICAS.name, (*labels, state), states[state])
    for reason, count in sorted(restarts.items()):
        yield Series(REPLICA_RESTARTS.name, (*labels, reason), count)


def _process_series(repository: Repository, gateways: Gateways) -> Iterator[Series]:
    """A process is called by its place, as in `ps`, so its series goes on when the process is replaced."""
    used: dict[str, tuple[float, float]] = {"supervisor": (time.process_time(), resident_bytes())}
    for gateway in gateways.all:
        used[gateway.post.name] = (gateway.cpu_s, gateway.rss_bytes)
    for shelf in repository.shelves:
        for load in shelf.loads():
            for replica in load.replicas:
                cpu_s, rss_bytes = used.get(replica.post.name, (0.0, 0.0))
                used[replica.post.name] = (cpu_s + replica.cpu_s, rss_bytes + replica.beat.rss_bytes)
    for name, (cpu_s, rss_bytes) in used.items():
        yield Series(PROCESS_CPU_SECONDS.name, (name,), cpu_s)
        yield Series(PROCESS_RESIDENT_BYTES.name, (name,), rss_bytes)
