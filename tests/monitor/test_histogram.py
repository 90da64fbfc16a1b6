from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slipway.monitor.histogram import ROWS, SECONDS, Histogram
from slipway.monitor.metrics import CONTROLLER_METRICS, GATEWAY_METRICS, METRICS, SUPERVISOR_METRICS


@given(st.lists(st.floats(0, 100)))
def test_every_observation_is_in_the_bucket_of_its_bound(values: list[float]) -> None:
    histogram = Histogram(SECONDS)
    for value in values:
        histogram.add(value)
    assert histogram.total == sum(values)
    for place, bound in enumerate(SECONDS):
        assert sum(histogram.counts[: place + 1]) == sum(1 for value in values if value <= bound)
    assert sum(histogram.counts) == len(values)


@given(st.lists(st.integers(1, 5000)), st.lists(st.integers(1, 5000)))
def test_histograms_of_two_gateways_add_up(left: list[int], right: list[int]) -> None:
    apart, together = (Histogram(ROWS), Histogram(ROWS)), Histogram(ROWS)
    for histogram, rows in zip(apart, (left, right), strict=True):
        for count in rows:
            histogram.add(count)
            together.add(count)
    assert [sum(pair) for pair in zip(apart[0].counts, apart[1].counts, strict=True)] == together.counts


def test_the_table_is_complete_and_well_formed() -> None:
    groups = (*GATEWAY_METRICS, *SUPERVISOR_METRICS, *CONTROLLER_METRICS)
    assert len(METRICS) == len(groups), "two metrics share a name"
    for metric in METRICS.values():
        assert metric.kind in ("counter", "gauge", "histogram")
        assert metric.help.endswith("."), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets)), metric.name
        if metric in GATEWAY_METRICS and metric.name != "slipway_connections":
            assert metric.labels[:2] == ("model", "version"), metric.name
