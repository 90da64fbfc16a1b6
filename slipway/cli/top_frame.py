"""What `slipway top` shows, worked out from two looks at the server. Pure: `at` is an argument.

Quantiles come from the histograms' buckets, interpolated within a bucket as Prometheus' `histogram_quantile` does, and
hold for what happened between the two looks only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipway.spec.resources import Replica, ServerStatus

Key = tuple[str, str]
"""Deployment and version."""


@dataclass
class Numbers:
    """Of one version, as /metrics has them: counters since the gateways began, gauges of now. `buckets`: upper bound in
    seconds to how many took at most so long."""

    requests: float = 0.0
    errors: float = 0.0
    rows: float = 0.0
    queue_rows: float = 0.0
    inflight: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """`at`: seconds of one clock."""

    at: float
    status: ServerStatus
    numbers: dict[Key, Numbers]


@dataclass(frozen=True, kw_only=True)
class Row:
    """`None`: nothing to tell it from, such as a quantile without a request. `cpu`: 1.0 is one core."""

    deployment: str
    version: str
    state: str
    ready: int
    replicas: int
    requests_per_s: float | None
    errors_per_s: float | None
    p50_s: float | None
    p99_s: float | None
    rows_per_s: float | None
    queue_rows: float
    inflight: float
    cpu: float | None
    memory_bytes: int


SORTS: dict[str, tuple[str, Callable[[Row], float]]] = {
    "name": ("n", lambda _: 0.0),
    "requests": ("r", lambda row: -(row.requests_per_s or 0)),
    "errors": ("e", lambda row: -(row.errors_per_s or 0)),
    "latency": ("l", lambda row: -(row.p99_s or 0)),
    "rows": ("o", lambda row: -(row.rows_per_s or 0)),
    "waiting": ("w", lambda row: -row.queue_rows),
    "cpu": ("c", lambda row: -(row.cpu or 0)),
    "memory": ("m", lambda row: -row.memory_bytes),
}
"""Name to the key that chooses it, and what it sorts by; what is equal goes by name."""

COUNTED = {
    "slipway_requests_total",
    "slipway_batch_rows_sum",
    "slipway_queue_rows",
    "slipway_inflight_requests",
    "slipway_request_seconds_bucket",
}


def read_numbers(page: str) -> dict[Key, Numbers]:
    """Of a page of metrics. The few lines that matter are picked first: a large server's page has tens of thousands."""
    from prometheus_client.parser import text_string_to_metric_families

    lines = [line for line in page.splitlines() if line.partition("{")[0] in COUNTED]
    found: dict[Key, Numbers] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            labels = sample.labels
            numbers = found.setdefault((labels.get("model", ""), labels.get("version", "")), Numbers())
            if sample.name == "slipway_requests_total":
                numbers.requests += sample.value
                numbers.errors += sample.value if labels.get("code") != "ok" else 0
            elif sample.name == "slipway_batch_rows_sum":
                numbers.rows = sample.value
            elif sample.name == "slipway_queue_rows":
                numbers.queue_rows = sample.value
            elif sample.name == "slipway_inflight_requests":
                numbers.inflight = sample.value
            else:
                numbers.buckets[float(labels["le"])] = sample.value
    return found


def rows_of(before: Look, now: Look, *, sort: str) -> list[Row]:
    """A row for every version that runs, and one for a deployment without any."""
    took_s = max(now.at - before.at, 1e-9)
    earlier = {_place(replica): replica for replica in _replicas(before.status)}
    rows = []
    for one in now.status.deployments:
        running = [version for version in one.versions if version.replicas]
        for version in running:
            key = (one.name, version.version)
            state = one.state if version.version == one.live else version.state
            cpu = _cpu(version.replicas, earlier, took_s)
            row = _row(key, state, version.replicas, cpu, before.numbers.get(key), now.numbers.get(key), took_s)
            rows.append(row)
        if not running:
            rows.append(_row((one.name, one.live), one.state, [], None, None, None, took_s))
    by = SORTS[sort][1]
    return sorted(rows, key=lambda row: (by(row), row.deployment, row.version))


def _row(
    key: Key,
    state: str,
    replicas: list[Replica],
    cpu: float | None,
    before: Numbers | None,
    now: Numbers | None,
    took_s: float,
) -> Row:
    first, last = before or Numbers(), now or Numbers()

    def rate(counter: str) -> float | None:
        if now is None:
            return None
        grown: float = getattr(last, counter) - getattr(first, counter)
        return max(0.0, grown) / took_s  # a gateway that was started again begins at 0

    grown = {bound: count - first.buckets.get(bound, 0.0) for bound, count in last.buckets.items()}
    return Row(
        deployment=key[0],
        version=key[1],
        state=state,
        ready=sum(replica.state == "ready" for replica in replicas),
        replicas=len(replicas),
        requests_per_s=rate("requests"),
        errors_per_s=rate("errors"),
        p50_s=quantile(grown, 0.5),
        p99_s=quantile(grown, 0.99),
        rows_per_s=rate("rows"),
        queue_rows=last.queue_rows,
        inflight=last.inflight,
        cpu=cpu,
        memory_bytes=sum(replica.memory_bytes for replica in replicas),
    )


def quantile(cumulative: dict[float, float], share: float) -> float | None:
    """Seconds under which `share` of all stayed; None without any. What is over the last bound counts as that bound."""
    bounds = sorted(cumulative)
    if not bounds or cumulative[bounds[-1]] <= 0:
        return None
    wanted = share * cumulative[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= wanted:
            if bound == float("inf"):
                return lower
            held = cumulative[bound] - below
            return min(bound, lower + (bound - lower) * ((wanted - below) / held if held > 0 else 1.0))
        lower, below = bound, cumulative[bound]
    return lower


def _replicas(status: ServerStatus) -> Iterable[Replica]:
    return (replica for one in status.deployments for version in one.versions for replica in version.replicas)


def _place(replica: Replica) -> tuple[str, str, int, int]:
    return replica.deployment, replica.version, replica.index, replica.generation


def _cpu(replicas: list[Replica], earlier: dict[tuple[str, str, int, int], Replica], took_s: float) -> float | None:
    known = [(replica, earlier[_place(replica)]) for replica in replicas if _place(replica) in earlier]
    if not known:
        return None
    return sum(max(0.0, now.cpu_s - before.cpu_s) for now, before in known) / took_s
