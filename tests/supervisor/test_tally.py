from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slipway.monitor.metrics import QUEUE_ROWS, REQUEST_SECONDS, REQUESTS
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


def test_what_a_version_counted_stays_when_the_version_is_gone() -> None:
    tally = Tally()
    before = series_of({"requests": 7, "rows": 3, "buckets": (1,) * BUCKETS})
    tally.keep_missing(before, before)
    assert tally.sum([before])[0].value == 7
    tally.keep_missing(before, [])
    kept = {one.name: one.value for one in tally.sum([[]])}
    assert kept[REQUESTS.name] == 7
    assert QUEUE_ROWS.name not in kept
