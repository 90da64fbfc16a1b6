"""A BLAS that was loaded on one core, as a process on its way in has it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
import numpy, threadpoolctl
from slipway.worker.pools import widen_pools
threads, told, chosen = map(int, sys.argv[1:])
if chosen:
    threadpoolctl.threadpool_limits(chosen)
widen_pools(threads, {"OPENBLAS_NUM_THREADS": str(told)} if told else {})
print(*(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"))
"""


@pytest.mark.parametrize(
    ("threads", "told", "chosen", "found"),
    [(3, 0, 0, 3), (3, 2, 0, 2), (3, 1, 0, 1), (1, 0, 0, 1), (3, 0, 2, 2), (3, 3, 2, 2)],
    ids=["none told", "as told", "one was meant", "one thread", "set by the model", "set against what was told"],
)
def test_a_pool_gets_what_it_was_told_unless_somebody_set_it(threads: int, told: int, chosen: int, found: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, (threads, told, chosen))],
        env=environment | {"OPENBLAS_NUM_THREADS": "8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(found)]
