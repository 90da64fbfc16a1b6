"""The one table of metrics, for every runtime and every process: names, kinds, labels and buckets.

A gateway counts by this table and says its numbers as `wire` series; the supervisor sums them over gateways, adds
what only it knows, and renders them. The docs list the same table, and a test holds them to it.
"""

from __future__ import annotations

import msgspec

from slipway.monitor.histogram import ROWS, SECONDS

REPLICA_STATES = ("starting", "ready", "backing_off", "stopping", "stopped")
"""What a replica's place can be in; every state of every version has a series, also at 0."""


class Metric(msgspec.Struct, frozen=True):
    """`kind`: counter, gauge or histogram. `labels`: names, in the order in which a series gives the values.

    `buckets`: upper bounds, ascending, without +Inf, which every histogram has as its last.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_VERSION = ("model", "version")

REQUESTS = Metric(
    "slipway_requests_total",
    "counter",
    "Answered inference requests; code is ok, or the code of the error.",
    (*_VERSION, "protocol", "code"),
)
REQUEST_SECONDS = Metric(
    "slipway_request_seconds", "histogram", "From a request decoded to its answer, errors too.", _VERSION, SECONDS
)
QUEUE_SECONDS = Metric(
    "slipway_queue_seconds", "histogram", "Time of a request in the queue before its batch left.", _VERSION, SECONDS
)
COMPUTE_SECONDS = Metric(
    "slipway_compute_seconds", "histogram", "Time of a batch inside the runtime of its replica.", _VERSION, SECONDS
)
BATCH_ROWS = Metric("slipway_batch_rows", "histogram", "Rows of each batch that was computed.", _VERSION, ROWS)
QUEUE_ROWS = Metric("slipway_queue_rows", "gauge", "Rows that wait for a replica now.", _VERSION)
QUEUE_BYTES = Metric("slipway_queue_bytes", "gauge", "Bytes of the inputs that wait for a replica now.", _VERSION)
INFLIGHT_REQUESTS = Metric(
    "slipway_inflight_requests", "gauge", "Accepted requests without an answer yet: queued or computing.", _VERSION
)
REJECTED = Metric(
    "slipway_rejected_total",
    "counter",
    "Requests that met no model; reason is the code of the error, such as overloaded or invalid_input.",
    (*_VERSION, "reason"),
)
RETRIES = Metric(
    "slipway_retries_total", "counter", "Requests sent again because the replica that held them died.", _VERSION
)
CACHE_HITS = Metric("slipway_cache_hits_total", "counter", "Requests answered from the prediction cache.", _VERSION)
CACHE_MISSES = Metric("slipway_cache_misses_total", "counter", "Requests that the cache could not answer.", _VERSION)
CACHE_EVICTIONS = Metric(
    "slipway_cache_evictions_total", "counter", "Answers that left the cache for room or age.", _VERSION
)
CACHE_BYTES = Metric("slipway_cache_bytes", "gauge", "Bytes that the prediction cache holds.", _VERSION)
CONNECTIONS = Metric("slipway_connections", "gauge", "Open client connections by protocol.", ("protocol",))

REPLICAS = Metric(
    "slipway_replicas", "gauge", "Replicas by state: " + ", ".join(REPLICA_STATES) + ".", (*_VERSION, "state")
)
REPLICA_RESTARTS = Metric(
    "slipway_replica_restarts_total",
    "counter",
    "Replicas started again; reason is exit, signal, hung, memory, load or startup.",
    (*_VERSION, "reason"),
)
GATEWAY_RESTARTS = Metric("slipway_gateway_restarts_total", "counter", "Gateways started again after they ended.")
GATEWAYS_SUMMED = Metric("slipway_gateways_summed", "gauge", "Gateways whose numbers are in this answer.")
PROCESS_CPU_SECONDS = Metric(
    "slipway_process_cpu_seconds_total", "counter", "CPU time, user and system, by process of the plan.", ("process",)
)
PROCESS_RESIDENT_BYTES = Metric(
    "slipway_process_resident_bytes", "gauge", "Resident memory by process of the plan.", ("process",)
)

DEPLOYMENT_STATES = ("ready", "deploying", "degraded", "failed", "stopped", "deleting")
"""What a deployment can be in; every state has a series, also at 0."""

DEPLOYMENTS = Metric(
    "slipway_deployments", "gauge", "Deployments by state: " + ", ".join(DEPLOYMENT_STATES) + ".", ("state",)
)
LEADER = Metric("slipway_leader", "gauge", "1 on the controller that decides, 0 on one that stands by.")
RECONCILES = Metric("slipway_reconciles_total", "counter", "Times that the controller looked for what to do.")
RECONCILE_SECONDS = Metric("slipway_reconcile_seconds_total", "counter", "Time that the controller took for that.")
ADMIN_REQUESTS = Metric(
    "slipway_admin_requests_total",
    "counter",
    "Requests to the management API, by method and status.",
    ("method", "status"),
)
ADMIN_SECONDS = Metric(
    "slipway_admin_request_seconds", "histogram", "Time of requests to the management API.", (), SECONDS
)

GATEWAY_METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    QUEUE_SECONDS,
    COMPUTE_SECONDS,
    BATCH_ROWS,
    QUEUE_ROWS,
    QUEUE_BYTES,
    INFLIGHT_REQUESTS,
    REJECTED,
    RETRIES,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_EVICTIONS,
    CACHE_BYTES,
    CONNECTIONS,
)
"""Counted in each gateway, summed over all."""

SUPERVISOR_METRICS = (
    REPLICAS,
    REPLICA_RESTARTS,
    GATEWAY_RESTARTS,
    GATEWAYS_SUMMED,
    PROCESS_CPU_SECONDS,
    PROCESS_RESIDENT_BYTES,
)
"""Known to the supervisor alone."""

CONTROLLER_METRICS = (DEPLOYMENTS, LEADER, RECONCILES, RECONCILE_SECONDS, ADMIN_REQUESTS, ADMIN_SECONDS)
"""Known to the controller alone."""

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*GATEWAY_METRICS, *SUPERVISOR_METRICS, *CONTROLLER_METRICS)
}
