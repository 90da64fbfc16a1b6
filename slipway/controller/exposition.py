"""Series as the text that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from slipway.monitor.metrics import METRICS, Metric
from slipway.wire.messages import Series

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def render(series: Iterable[Series]) -> bytes:
    """Prometheus text, format 0.0.4, of series that the table of metrics knows; others are left out.

    A metric without any series appears with its help, so that a dashboard finds every name from the first moment.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(list(series)))
    return generate_latest(registry)


def model_of(one: Series) -> str:
    """Which deployment a series is about; '' for the server itself."""
    labels = METRICS[one.name].labels if one.name in METRICS else ()
    if "model" in labels:
        return one.labels[labels.index("model")]
    kind, _, rest = one.labels[labels.index("process")].partition(" ") if "process" in labels else ("", "", "")
    return rest.partition(" ")[0] if kind == "worker" else ""


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
