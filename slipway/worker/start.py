"""From an order to a replica that is ready: shut the sandbox, then load, then warm up.

The order of steps is the point. How many threads there may be comes first, since numerical libraries read it when they
are imported; the sandbox second, before anything of the model, and before any library could start a thread that would
stay outside; then the environment that its spec gives it, of which some names (PYTHONPATH, LD_PRELOAD, OPENSSL_CONF)
can make a process run any code; frameworks and model last.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from slipway.errors import InvalidOutput, LoadFailure, ModelFailure
from slipway.infer.runtime import LoadOptions, ReplicaFacts, Runtime
from slipway.infer.signature import Signature
from slipway.runtimes.recognise import find_model
from slipway.runtimes.table import load_runtime
from slipway.wire.messages import BeginWorker
from slipway.worker.outputs import check_outputs
from slipway.worker.pools import widen_pools
from slipway.worker.sandbox import SandboxPlan, apply, look_around, plan_sandbox

WARM_UP_ROWS = 8

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_CACHE_VARIABLES = (
    "XDG_CACHE_HOME",
    "MPLCONFIGDIR",
    "NUMBA_CACHE_DIR",
    "CUDA_CACHE_PATH",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "JOBLIB_TEMP_FOLDER",
)

logger = logging.getLogger(__name__)


class Started(msgspec.Struct):
    runtime: Runtime
    plan: SandboxPlan
    facts: ReplicaFacts


def replica_environment(begin: BeginWorker) -> dict[str, str]:
    """What numerical libraries and caches shall find: as many threads as granted, and files in scratch only."""
    caches = dict.fromkeys(_CACHE_VARIABLES, f"{begin.scratch}/cache")
    asked = bool(begin.spec.replicas.threads)  # otherwise what the user has exported counts
    threads = {name: str(begin.threads) for name in _THREAD_VARIABLES if asked or name not in os.environ}
    return {"TMPDIR": begin.scratch, "PYTHONDONTWRITEBYTECODE": "1", **caches, **threads}


def _take_environment(begin: BeginWorker) -> None:
    """What the spec says, but for what is the replica's own. Nothing of it shows in /proc/PID/environ."""
    given = begin.spec.environment
    os.environ.update(given)
    os.environ.update(replica_environment(begin))
    if "TZ" in given:
        time.tzset()
    places = [place for place in given.get("PYTHONPATH", "").split(os.pathsep) if place.startswith("/")]
    sys.path[:0] = places


def start(begin: BeginWorker, *, progress: Callable[[str], None]) -> Started:
    """Raises SetupError, and whatever the model's own code raises while it is loaded."""
    progress("import")
    spec = begin.spec
    os.environ.update(replica_environment(begin))
    sys.dont_write_bytecode = True
    runtime_name, path = spec.runtime, spec.path
    if runtime_name == "auto":
        found = find_model(path)  # reads the first bytes of files as data; outside, so that it sees what lies near
        runtime_name, path = found.runtime, found.path
    around = look_around(spec)
    if not around.model and around.working not in sys.path:
        sys.path.insert(0, around.working)
    plan = plan_sandbox(spec.replicas, scratch=begin.scratch, around=around)
    achieved = apply(plan)
    _take_environment(begin)
    Path(begin.scratch, "cache").mkdir(exist_ok=True)
    progress("load")
    options = LoadOptions(
        threads=begin.threads, device=spec.replicas.device, trust_pickle=spec.trust_pickle, options=spec.options
    )
    runtime = load_runtime(runtime_name, path, options)
    progress("warm-up")
    trouble = warm_up(runtime, max_rows=spec.batching.max_rows)
    widen_pools(begin.threads)  # after the first prediction, which may import what the load did not
    facts = ReplicaFacts(
        signature=runtime.signature,
        platform=runtime.platform,
        pid=os.getpid(),
        sandbox=achieved,
        extra={"runtime": runtime_name, "threads": begin.threads, **getattr(runtime, "extra", {})}
        | ({"warm_up": trouble} if trouble else {}),
    )
    gc.freeze()  # what was loaded stays: collections during service need not walk it
    return Started(runtime, plan, facts)


def warm_up(runtime: Runtime, *, max_rows: int) -> str:
    """Run real batches, so that no caller pays for first-time work; '' or what the model said against them.

    Raises LoadFailure where a model cannot compute what its own signature describes in full. A model that takes
    text or open shapes may rightly refuse an invented example: that is told, and it serves.
    """
    signature = runtime.signature
    sizes = sorted({1, min(max_rows, WARM_UP_ROWS)}) if signature.batchable else [1]
    for rows in sizes:
        try:
            outputs = runtime.predict(runtime.example(rows))
            check_outputs(signature, outputs, rows)
        except InvalidOutput as error:
            raise LoadFailure(f"warm-up with {rows} rows: {error.message}") from error
        except ModelFailure as error:
            if _is_determined(signature):
                raise LoadFailure(f"warm-up with {rows} rows: {error.message}") from error
            logger.warning("the model refused a made-up warm-up batch; it serves all the same: %s", error.message)
            return error.message
    return ""


def _is_determined(signature: Signature) -> bool:
    """Whether an example is certainly one of the inputs that the model was made for."""
    first = 1 if signature.batchable else 0
    return all(spec.datatype != "BYTES" and -1 not in spec.shape[first:] for spec in signature.inputs)
