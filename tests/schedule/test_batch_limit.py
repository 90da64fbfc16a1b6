"""Batch size follows the SLO, estimates are sane and recover, and holding a batch back has its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.schedule.batch_limit import BatchLimit, ComputeEstimate, hold_s


def run(limit: BatchLimit, *, fixed_s: float, row_s: float, batches: int) -> list[int]:
    """Full batches through a model that takes a fixed time and some for each row; the limit after each."""
    seen = []
    for _ in range(batches):
        rows = limit.rows
        limit.observe(rows=rows, took_s=fixed_s + row_s * rows)
        seen.append(limit.rows)
    return seen


@given(
    slo_s=st.floats(0.002, 2.0),
    fixed_share=st.floats(0.0, 0.4),
    best=st.integers(1, 500),
    max_rows=st.integers(1, 512),
)
def test_converges_on_the_largest_batch_that_keeps_half_the_slo(
    slo_s: float, fixed_share: float, best: int, max_rows: int
) -> None:
    fixed_s = fixed_share * slo_s
    row_s = (slo_s / 2 - fixed_s) / (best + 0.5)
    limit = BatchLimit(max_rows=max_rows, slo_s=slo_s)
    tail = run(limit, fixed_s=fixed_s, row_s=row_s, batches=1200)[-100:]
    goal = min(best, max_rows)
    step = max(1, max_rows // 32)
    assert max(tail) <= min(max_rows, goal + step)
    assert min(tail) >= int(0.9 * min(goal, max_rows)) - 1


def test_without_an_slo_it_never_moves() -> None:
    limit = BatchLimit(max_rows=64)
    limit.observe(rows=64, took_s=100.0)
    assert limit.rows == 64


def test_never_below_one_row() -> None:
    limit = BatchLimit(max_rows=64, slo_s=0.01)
    assert set(run(limit, fixed_s=1.0, row_s=0.0, batches=50)) == {1}


def test_a_batch_that_was_not_full_says_nothing() -> None:
    limit = BatchLimit(max_rows=64, slo_s=1.0)
    run(limit, fixed_s=0.0, row_s=0.0, batches=20)
    before = limit.rows
    limit.observe(rows=1, took_s=0.001)
    assert limit.rows == before
    limit.observe(rows=1, took_s=0.9)
    assert limit.rows == before


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0, 10)), min_size=1))
def test_an_estimate_lies_between_what_was_seen(observed: list[tuple[int, float]]) -> None:
    estimate = ComputeEstimate()
    for rows, took_s in observed:
        estimate.observe(rows=rows, took_s=took_s)
    times = [took_s for _, took_s in observed]
    for rows in range(1, 300, 7):
        seconds = estimate.seconds(rows)
        assert seconds == 0.0 or min(times) - 1e-9 <= seconds <= max(times) + 1e-9


def test_an_unknown_size_is_judged_by_the_nearest_smaller_one() -> None:
    estimate = ComputeEstimate()
    assert estimate.seconds(8) == 0.0
    estimate.observe(rows=4, took_s=0.4)
    estimate.observe(rows=64, took_s=6.4)
    assert [estimate.seconds(rows) for rows in (1, 2, 3, 4, 8, 63, 64, 65, 1000)] == pytest.approx(
        [0.0, 0.0, 0.4, 0.4, 0.4, 6.4, 6.4, 6.4, 6.4]
    )


def test_follows_a_model_that_changes() -> None:
    estimate = ComputeEstimate()
    for _ in range(30):
        estimate.observe(rows=8, took_s=1.0)
    for _ in range(30):
        estimate.observe(rows=8, took_s=0.1)
    assert estimate.seconds(8) == pytest.approx(0.1, rel=0.05)


def test_doubt_wears_an_estimate_down() -> None:
    estimate = ComputeEstimate()
    estimate.observe(rows=8, took_s=3.0)
    for _ in range(10):
        estimate.doubt()
    assert 0 < estimate.seconds(8) < 0.01


HOLD = {"rows": 3, "limit": 8, "oldest_age_s": 0.002, "busy_replicas": 1, "max_delay_s": 0.010}


@pytest.mark.parametrize(
    ("changes", "wait_s"),
    [
        ({}, 0.008),
        ({"max_delay_s": 0.0}, 0.0),
        ({"rows": 8}, 0.0),
        ({"busy_replicas": 0}, 0.0),  # a lone request never waits
        ({"oldest_age_s": 0.010}, 0.0),
        ({"oldest_age_s": 5.0}, 0.0),
        ({"oldest_age_s": 0.010 - 1e-12}, 0.0),
    ],
)
def test_how_long_a_batch_is_held(changes: dict, wait_s: float) -> None:
    assert hold_s(**(HOLD | changes)) == pytest.approx(wait_s)
