import numpy as np
import pytest

from benchmarks.arrivals import poisson


def test_the_same_seed_draws_the_same_schedule() -> None:
    first, again, other = (poisson(rate=500, seconds=2, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("rate", [3, 100, 20_000])
def test_arrivals_are_ascending_and_end_in_time(rate: float) -> None:
    due = poisson(rate=rate, seconds=3, seed=1)
    assert np.all(np.diff(due) > 0)
    assert due.size == 0 or (due[0] > 0 and due[-1] < 3)


def test_the_rate_is_kept_to_the_very_end() -> None:
    """Too few gaps drawn ahead would leave the end of the run without load."""
    due = poisson(rate=1000, seconds=50, seed=3)
    assert abs(due.size - 50_000) < 5 * 50_000**0.5
    assert abs(np.count_nonzero(due > 40) - 10_000) < 5 * 10_000**0.5


def test_gaps_are_exponential() -> None:
    gaps = np.diff(poisson(rate=100, seconds=400, seed=5))
    assert np.mean(gaps) == pytest.approx(0.01, rel=0.03)
    # For an exponential the deviation equals the mean; evenly spaced arrivals would have none.
    assert np.std(gaps) == pytest.approx(0.01, rel=0.05)
    assert np.mean(gaps > 0.01) == pytest.approx(np.exp(-1), abs=0.02)
