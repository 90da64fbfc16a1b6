"""A gateway's counters as wire series, by the table of `monitor.metrics`: gathered when asked, not as they change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from slipway.engine.engine import Engine
from slipway.gateway.service import GatewayService
from slipway.gateway.version import Version
from slipway.launchers.memory import Memory
from slipway.monitor import metrics
from slipway.monitor.histogram import Histogram
from slipway.wire.messages import Series, Snapshot


def snapshot(number: int, service: GatewayService, connections: dict[str, int], memory: Memory) -> Snapshot:
    """Everything since this gateway started; `number` is the question's."""
    series: list[Series] = []
    for version in service.versions():
        series.extend(_version_series(version))
    for (protocol, code), count in service.unrouted.items():
        series.append(Series(metrics.REQUESTS.name, ("", "", protocol, code), count))
    for protocol, count in connections.items():
        series.append(Series(metrics.CONNECTIONS.name, (protocol,), count))
    return Snapshot(
        number,
        series,
        service.statistics(),
        cpu_s=time.process_time(),
        rss_bytes=memory.resident_bytes(),
    )


def _version_series(version: Version) -> Iterator[Series]:
    labels = (version.routes.spec.name, version.routes.spec.version)
    codes = Counter(version.refused)
    if version.engine is not None:
        version.engine.meter.fold()
        codes.update(version.engine.meter.codes)
        yield from _engine_series(version.engine, labels)
    if version.cached is not None:
        yield Series(metrics.CACHE_HITS.name, labels, version.cached.hits)
        yield Series(metrics.CACHE_MISSES.name, labels, version.cached.misses)
        yield Series(metrics.CACHE_EVICTIONS.name, labels, version.cached.cache.evictions)
        yield Series(metrics.CACHE_BYTES.name, labels, version.cached.cache.nbytes)
    for (protocol, code), count in codes.items():
        yield Series(metrics.REQUESTS.name, (*labels, protocol, code), count)
    reasons: Counter[str] = Counter()
    for (_, code), count in version.refused.items():
        reasons[code] += count
    for reason, count in reasons.items():
        yield Series(metrics.REJECTED.name, (*labels, reason), count)


def _engine_series(engine: Engine, labels: tuple[str, str]) -> Iterator[Series]:
    meter = engine.meter
    histograms: list[tuple[metrics.Metric, Histogram]] = [
        (metrics.REQUEST_SECONDS, meter.total),
        (metrics.QUEUE_SECONDS, meter.queue),
        (metrics.COMPUTE_SECONDS, meter.compute),
        (metrics.BATCH_ROWS, meter.batch_rows),
    ]
    for metric, histogram in histograms:
        yield Series(metric.name, labels, histogram.total, tuple(histogram.counts))
    yield Series(metrics.QUEUE_ROWS.name, labels, engine.queue.rows)
    yield Series(metrics.QUEUE_BYTES.name, labels, engine.queue.nbytes)
    yield Series(metrics.INFLIGHT_REQUESTS.name, labels, engine.unanswered)
    yield Series(metrics.RETRIES.name, labels, meter.retries)
