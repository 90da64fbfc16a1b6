"""What runs, as the controller hears it."""

from __future__ import annotations

from slipway.supervisor.gateways import Gateway, Gateways
from slipway.supervisor.repository import Repository
from slipway.supervisor.shelf import Shelf
from slipway.supervisor.version import Replica
from slipway.wire.messages import GatewaySeen, Observed, ReplicaSeen, VersionSeen


def observe(repository: Repository, gateways: Gateways, *, draining: bool, now: float) -> Observed:
    return Observed(
        plan=repository.plan_told,
        versions=[version_seen(shelf, now=now) for shelf in repository.shelves],
        gateways=[gateway_seen(gateway, now=now) for gateway in gateways.all],
        draining=draining,
    )


def version_seen(shelf: Shelf, *, now: float) -> VersionSeen:
    return VersionSeen(
        model=shelf.spec.name,
        version=shelf.spec.version,
        stage=shelf.stage,
        live=shelf.live,
        wanted=shelf.wanted,
        error_code=shelf.trouble.code if shelf.trouble else "",
        error=shelf.trouble.message if shelf.trouble else "",
        facts=shelf.facts,
        replicas=[
            replica_seen(replica, now=now)
            for load in shelf.loads()
            for replica in (*load.replicas, *load.surplus)
            if not replica.post.gone
        ],
    )


def replica_seen(replica: Replica, *, now: float) -> ReplicaSeen:
    place, beat = replica.post.place, replica.beat
    return ReplicaSeen(
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
        memory_bytes=beat.rss_bytes,
        cpu_s=replica.cpu_s,
        busy_s=beat.busy_s,
        load=round(replica.load, 3),
        batches=beat.batches,
    )


def gateway_seen(gateway: Gateway, *, now: float) -> GatewaySeen:
    place = gateway.post.place
    return GatewaySeen(
        number=gateway.number,
        generation=place.generation,
        pid=gateway.post.pid,
        state=place.state,
        restarts=place.restarts.total(),
        trouble=place.trouble(now),
        memory_bytes=gateway.rss_bytes,
        cpu_s=gateway.cpu_s,
    )
