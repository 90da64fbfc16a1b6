"""One version's place in the repository: what should be there, the loads that are, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from slipway.errors import SlipwayError
from slipway.infer.runtime import ReplicaFacts
from slipway.spec.serve import ModelSpec
from slipway.supervisor.version import Version
from slipway.wire.messages import VersionRoutes

LOADING, PROBING, READY, LEAVING = "loading", "probing", "ready", "leaving"


class Shelf:
    """`live`: it takes the requests that name no version. `wanted` False: unloaded through a model repository's door.
    `going`: it is in the plan no more, and finishes what it accepted. `stale`: the plan means another model by it.
    `tried`: every gateway got an answer from it; `trouble`: why its load or its trial failed first.

    `leaving` are earlier loads that are on their way out; the one that is `handing_over` still serves, beside its
    successor.
    """

    def __init__(self, spec: ModelSpec, *, live: bool, tried: bool = False) -> None:
        self.declare(spec)
        self.live = live
        self.wanted = True
        self.going = False
        self.stale = False
        self.tried = tried
        self.trying = False
        self.tries = 0
        self.try_at = 0.0
        self.trouble: SlipwayError | None = None
        self.current: Version | None = None
        self.fresh: Version | None = None
        self.leaving: list[Version] = []
        self.handing_over: Version | None = None
        self.facts: ReplicaFacts | None = None
        self.failure = ""
        self.past_restarts: dict[str, int] = {}
        self.change = asyncio.Lock()

    def declare(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._public = msgspec.structs.replace(spec, environment={})  # may hold secrets, which only its workers need

    @property
    def key(self) -> tuple[str, str]:
        return self.spec.name, self.spec.version

    @property
    def stage(self) -> str:
        if self.going:
            return LEAVING
        if self.current is None or not self.current.complete_once:
            return LOADING
        return READY if self.tried else PROBING

    def loads(self) -> Iterator[Version]:
        """Every load that has processes, the serving one first."""
        yield from (load for load in (self.current, self.fresh, *self.leaving) if load is not None)

    def serving(self) -> Iterator[Version]:
        """Every load whose replicas get requests."""
        yield from (load for load in (self.current, self.handing_over) if load is not None)

    def routes(self) -> VersionRoutes:
        load = self.current
        self.facts = (load and load.facts) or self.facts
        return VersionRoutes(
            spec=self._public,
            replicas=[place for serving in self.serving() for place in serving.addresses()],
            facts=self.facts,
            failure=load.trouble() if load else self.failure,
            wanted=self.wanted,
            live=self.live,
            leaving=self.going,
        )

    def leave(self) -> None:
        """The load that serves is on its way out."""
        if self.current is not None:
            self.leaving.append(self.current)
            self.current = None

    def bury(self) -> None:
        """Forget the loads that are gone, but not what they counted."""
        for load in [load for load in self.leaving if load.bury()]:
            self.leaving.remove(load)
            for replica in load.replicas:
                for reason, count in replica.post.place.restarts.items():
                    self.past_restarts[reason] = self.past_restarts.get(reason, 0) + count
