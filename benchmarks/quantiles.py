"""Quantiles of latencies: exact, from every value, never from a histogram."""

from collections.abc import Sequence

import numpy as np


def quantiles_us(latencies_us: np.ndarray | Sequence[float], at: Sequence[float]) -> list[float]:
    """The smallest seen value that at least that share of all values does not exceed; NaN of nothing.

    No interpolation: a reported p99.9 is a latency that some request had.
    """
    values = np.sort(np.asarray(latencies_us, float))
    if not values.size:
        return [float("nan")] * len(at)
    places = np.ceil(np.asarray(at) * values.size).astype(int) - 1
    return [float(value) for value in values[np.clip(places, 0, values.size - 1)]]
