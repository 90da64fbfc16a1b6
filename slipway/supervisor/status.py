"""What is true now, as the admin door says it and `slipway status` shows it."""

from __future__ import annotations

import msgspec

from slipway.clock import Clock
from slipway.supervisor.gateways import Gateway, Gateways
from slipway.supervisor.repository import Repository, Shelf
from slipway.supervisor.version import Replica


class ReplicaStatus(msgspec.Struct):
    """`trouble`: why it is not ready, in words; `last_end`: why the process before this one ended. `sandbox`: the
    level that was really reached. `busy_s`: how long the batch at hand has been computing."""

    index: int
    generation: int
    pid: int
    state: str
    stage: str
    restarts: int
    trouble: str
    last_end: str
    threads: int
    sandbox: str
    rss_bytes: int
    cpu_s: float
    busy_s: float
    batches: int


class VersionStatus(msgspec.Struct):
    """`state`: READY, LOADING or UNAVAILABLE, as in the model repository's index; `reason`: why not READY."""

    model: str
    version: str
    path: str
    state: str
    reason: str
    wanted: bool
    platform: str
    replicas: list[ReplicaStatus]


class GatewayStatus(msgspec.Struct):
    number: int
    generation: int
    pid: int
    state: str
    restarts: int
    trouble: str
    rss_bytes: int
    cpu_s: float


class Addresses(msgspec.Struct):
    """URLs, host and port; '' for a door that is shut."""

    http: str = ""
    grpc: str = ""
    admin: str = ""


class ServerStatus(msgspec.Struct):
    """`state`: starting, ready, degraded (a version that should serve has no replica, or no gateway is there), or
    draining."""

    state: str
    pid: int
    uptime_s: float
    addresses: Addresses
    versions: list[VersionStatus]
    gateways: list[GatewayStatus]


def version_status(shelf: Shelf, *, now: float) -> VersionStatus:
    load, facts = shelf.current, shelf.facts
    trouble = load.trouble() if load else shelf.failure
    if load and load.addresses():
        state, reason = "READY", ""
    elif shelf.wanted and not trouble:
        state, reason = "LOADING", ""
    else:
        state, reason = "UNAVAILABLE", trouble
    return VersionStatus(
        model=shelf.spec.name,
        version=shelf.spec.version,
        path=shelf.spec.path,
        state=state,
        reason=reason,
        wanted=shelf.wanted,
        platform=facts.platform if facts else "",
        replicas=[replica_status(replica, now=now) for load in shelf.loads() for replica in load.replicas],
    )


def replica_status(replica: Replica, *, now: float) -> ReplicaStatus:
    place, beat = replica.post.place, replica.beat
    return ReplicaStatus(
        index=replica.index,
        generation=place.generation,
        pid=replica.post.pid,
        state=place.state,
        stage=place.stage,
        restarts=place.restarts.total(),
        trouble=place.trouble(now),
        last_end=place.last.words if place.last else "",
        threads=replica.threads,
        sandbox=replica.facts.sandbox if replica.facts else "",
        rss_bytes=beat.rss_bytes,
        cpu_s=replica.cpu_s,
        busy_s=beat.busy_s,
        batches=beat.batches,
    )


def gateway_status(gateway: Gateway, *, now: float) -> GatewayStatus:
    place = gateway.post.place
    return GatewayStatus(
        number=gateway.number,
        generation=place.generation,
        pid=gateway.post.pid,
        state=place.state,
        restarts=place.restarts.total(),
        trouble=place.trouble(now),
        rss_bytes=gateway.rss_bytes,
        cpu_s=gateway.cpu_s,
    )


class Observer:
    """Sees the parts of one server together."""

    def __init__(
        self, *, repository: Repository, gateways: Gateways, addresses: Addresses, pid: int, clock: Clock
    ) -> None:
        self.repository = repository
        self.gateways = gateways
        self.addresses = addresses
        self.started = False
        self.draining = False
        self._pid = pid
        self._clock = clock
        self._since = clock.now()

    @property
    def state(self) -> str:
        if self.draining:
            return "draining"
        if self.repository.ready and any(gateway.ready for gateway in self.gateways.all):
            return "ready" if self.started else "starting"
        return "degraded" if self.started else "starting"

    def status(self) -> ServerStatus:
        now = self._clock.now()
        return ServerStatus(
            state=self.state,
            pid=self._pid,
            uptime_s=round(now - self._since, 3),
            addresses=self.addresses,
            versions=[version_status(shelf, now=now) for shelf in self.repository.shelves],
            gateways=[gateway_status(gateway, now=now) for gateway in self.gateways.all],
        )
