from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from slipway.monitor.metrics import (
    CACHE_BYTES,
    METRICS,
    QUEUE_ROWS,
    REQUEST_SECONDS,
    REQUESTS,
)
from slipway.supervisor.metrics import render
from slipway.supervisor.tally import Tally
from slipway.wire.messages import Series

BUCKETS = len(REQUEST_SECONDS.buckets) + 1
LABELS = ("iris", "v1")

counts = st.integers(0, 2**40)
snapshots = st.lists(
    st.fixed_dictionaries(
        {"requests": counts, "rows": st.integers(0, 100), "buckets": st.tuples(*[st.integers(0, 1000)] * BUCKETS)}
    ),
    max_size=5,
)


def series_of(numbers: dict[str, object]) -> list[Series]:
    return [
        Series(REQUESTS.name, (*LABELS, "http", "ok"), float(numbers["requests"])),  # type: ignore[arg-type]
        Series(QUEUE_ROWS.name, LABELS, float(numbers["rows"])),  # type: ignore[arg-type]
        Series(REQUEST_SECONDS.name, LABELS, 0.5, numbers["buckets"]),  # type: ignore[arg-type]
    ]


@given(gone=snapshots, here=snapshots)
def test_sums_are_exact_and_survive_a_gateway(gone: list[dict[str, object]], here: list[dict[str, object]]) -> None:
    tally = Tally()
    for numbers in gone:
        tally.keep(series_of(numbers))
    total = {one.name: one for one in tally.sum([series_of(numbers) for numbers in here])}
    if not gone and not here:
        assert total == {}
        return
    assert total[REQUESTS.name].value == sum(n["requests"] for n in (*gone, *here))  # type: ignore[misc]
    columns = zip(*(n["buckets"] for n in (*gone, *here)), strict=True)  # type: ignore[arg-type]
    assert total[REQUEST_SECONDS.name].buckets == tuple(map(sum, columns))
    if here:
        assert total[QUEUE_ROWS.name].value == sum(n["rows"] for n in here)  # type: ignore[misc]
    else:
        assert QUEUE_ROWS.name not in total  # a gauge goes with its gateway


def test_a_sum_changes_nothing_that_it_was_made_of() -> None:
    tally = Tally()
    first = series_of({"requests": 1, "rows": 1, "buckets": (1,) * BUCKETS})
    assert tally.sum([first, first])[0].value == 2
    assert tally.sum([first, first])[0].value == 2
    assert first[0].value == 1


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
