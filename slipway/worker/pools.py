"""The threads of linear algebra, for a model that was loaded on fewer cores than it serves on."""

from __future__ import annotations

import os
from collections.abc import Mapping

import threadpoolctl  # type: ignore[import-untyped]

_VARIABLES = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS", "blis": "BLIS_NUM_THREADS"}


def widen_pools(threads: int, environment: Mapping[str, str] = os.environ) -> None:
    """Give each BLAS that is loaded the threads that it was told to take (`threads`, where it was told nothing).

    When it is loaded, OpenBLAS takes no more than there are cores then, whatever its variable says, and keeps to that.
    A pool of another size than those cores has been set by somebody who meant it, and stays.
    """
    cores = len(os.sched_getaffinity(0))
    if cores >= threads:
        return
    for pool in threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers:
        told = environment.get(_VARIABLES.get(pool.internal_api, ""), "")
        wanted = int(told) if told.isdigit() else threads
        if pool.num_threads == cores < wanted:
            pool.set_num_threads(wanted)
