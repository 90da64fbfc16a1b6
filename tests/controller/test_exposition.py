from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from slipway.controller.exposition import render
from slipway.monitor.metrics import CACHE_BYTES, METRICS, REQUEST_SECONDS, REQUESTS
from slipway.wire.messages import Series

BUCKETS = len(REQUEST_SECONDS.buckets) + 1
LABELS = ("iris", "v1")


def parsed(page: bytes) -> dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]:
    families = text_string_to_metric_families(page.decode())
    return {
        family.name: {(s.name, tuple(sorted(s.labels.items()))): s.value for s in family.samples} for family in families
    }


def test_a_page_is_what_prometheus_reads() -> None:
    buckets = (3, 2, *(0,) * (BUCKETS - 3), 1)
    page = render(
        [
            Series(REQUESTS.name, ('we"ird\\na\nme', "v1", "http", "ok"), 5),
            Series(REQUEST_SECONDS.name, LABELS, 7.25, buckets),
            Series(CACHE_BYTES.name, LABELS, 1024),
            Series("unheard_of", (), 1),
        ]
    )
    found = parsed(page)
    ((_, labels),) = found["slipway_requests"]
    assert dict(labels) == {"model": 'we"ird\\na\nme', "version": "v1", "protocol": "http", "code": "ok"}
    seconds = {(name, dict(labels).get("le")): value for (name, labels), value in found[REQUEST_SECONDS.name].items()}
    assert seconds["slipway_request_seconds_bucket", "0.0001"] == 3
    assert seconds["slipway_request_seconds_bucket", "0.00025"] == 5
    assert seconds["slipway_request_seconds_bucket", "30.0"] == 5
    assert seconds["slipway_request_seconds_bucket", "+Inf"] == 6
    assert seconds["slipway_request_seconds_count", None] == 6
    assert seconds["slipway_request_seconds_sum", None] == 7.25
    assert found["slipway_cache_bytes"] == {("slipway_cache_bytes", (("model", "iris"), ("version", "v1"))): 1024}
    assert "unheard_of" not in found


def test_every_metric_of_the_table_has_its_help_from_the_first_moment() -> None:
    page = render([]).decode()
    for metric in METRICS.values():
        assert f"# TYPE {metric.name} {metric.kind}" in page, metric.name
        assert metric.name.startswith("slipway_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
