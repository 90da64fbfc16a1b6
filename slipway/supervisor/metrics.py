"""The numbers of a whole server: sums over gateways, and what only the supervisor knows. The controller shows them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from slipway.launchers.memory import resident_bytes
from slipway.monitor.metrics import (
    GATEWAY_RESTARTS,
    GATEWAYS_SUMMED,
    PROCESS_CPU_SECONDS,
    PROCESS_RESIDENT_BYTES,
    REPLICA_RESTARTS,
    REPLICA_STATES,
    REPLICAS,
)
from slipway.supervisor.controller import Controller
from slipway.supervisor.gateways import Gateways
from slipway.supervisor.repository import Repository
from slipway.supervisor.shelf import Shelf
from slipway.wire.messages import Series

ANSWER_WITHIN_S = 1.0


async def gather_metrics(*, repository: Repository, gateways: Gateways, controller: Controller) -> list[Series]:
    """Ask every gateway and wait a moment for the slowest. A gateway that does not answer in time counts with its last
    numbers; `slipway_gateways_summed` says how many did."""
    answered = await gateways.refresh(timeout_s=ANSWER_WITHIN_S)
    series = gateways.tally.sum(gateway.last.series for gateway in gateways.all if gateway.last is not None)
    series.append(Series(GATEWAYS_SUMMED.name, (), answered))
    series.append(Series(GATEWAY_RESTARTS.name, (), sum(g.post.place.restarts.total() for g in gateways.all)))
    for shelf in repository.shelves:
        series.extend(_replica_series(shelf))
    series.extend(_process_series(repository, gateways, controller))
    return series


def _replica_series(shelf: Shelf) -> Iterator[Series]:
    states: Counter[str] = Counter()
    restarts = Counter(shelf.past_restarts)
    for load in shelf.loads():
        for replica in load.replicas:
            states[replica.post.place.state] += 1
            restarts.update(replica.post.place.restarts)
    for state in REPLICA_STATES:
        yield Series(REPLICAS.name, (*shelf.key, state), states[state])
    for reason, count in sorted(restarts.items()):
        yield Series(REPLICA_RESTARTS.name, (*shelf.key, reason), count)


def _process_series(repository: Repository, gateways: Gateways, controller: Controller) -> Iterator[Series]:
    """A process is called by its place, as in `ps`, so its series goes on when the process is replaced."""
    used: dict[str, tuple[float, float]] = {
        "supervisor": (time.process_time(), resident_bytes()),
        controller.post.name: (controller.cpu_s, controller.beat.rss_bytes),
    }
    for gateway in gateways.all:
        used[gateway.post.name] = (gateway.cpu_s, gateway.rss_bytes)
    for shelf in repository.shelves:
        for load in shelf.loads():
            for replica in load.replicas:
                cpu_s, rss_bytes = used.get(replica.post.name, (0.0, 0.0))
                used[replica.post.name] = (cpu_s + replica.cpu_s, rss_bytes + replica.beat.rss_bytes)
    for name, (cpu_s, rss_bytes) in used.items():
        yield Series(PROCESS_CPU_SECONDS.name, (name,), cpu_s)
        yield Series(PROCESS_RESIDENT_BYTES.name, (name,), rss_bytes)
