import math

import numpy as np
import pytest

from benchmarks.quantiles import quantiles_us


def test_a_quantile_is_a_value_that_was_seen() -> None:
    assert quantiles_us([30.0, 10.0, 20.0], (0.5,)) == [20.0]
    assert quantiles_us([10.0, 20.0], (0.5, 0.51)) == [10.0, 20.0]


def test_of_a_thousand_values_the_last_is_the_p99_9_plus_one() -> None:
    assert quantiles_us(np.arange(1, 1001), (0.5, 0.99, 0.999, 1.0)) == [500.0, 990.0, 999.0, 1000.0]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999, 1.0])
def test_one_value_is_every_quantile(share: float) -> None:
    assert quantiles_us([42.0], (share,)) == [42.0]


def test_nothing_has_no_quantile() -> None:
    assert all(math.isnan(value) for value in quantiles_us([], (0.5, 0.99)))
