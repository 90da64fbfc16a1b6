"""When the requests of an open-loop run are due: a Poisson process, drawn ahead of time from a seed."""

import numpy as np


def poisson(*, rate: float, seconds: float, seed: int) -> np.ndarray:
    """Due times in seconds from the start, ascending, all below `seconds`; `rate` arrivals a second on average."""
    random = np.random.default_rng(seed)
    # Enough gaps that running short is out of the question: six standard deviations above the mean.
    count = int(rate * seconds + 6 * (rate * seconds) ** 0.5 + 10)
    due = np.cumsum(random.exponential(1 / rate, count))
    return due[due < seconds]
