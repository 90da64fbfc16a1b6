"""What every verb works with, and who is named as its author."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import psutil

from slipway.clock import Clock
from slipway.controller.access import AccessKeeper
from slipway.controller.act import Reconciler
from slipway.controller.events import EventBook
from slipway.controller.leader import Leadership
from slipway.controller.ledger import Ledger
from slipway.controller.metrics import Tally
from slipway.controller.specs import SpecMaker
from slipway.controller.store_thread import StoreThread
from slipway.controller.world import World
from slipway.errors import StoreUnavailable
from slipway.spec.access import Access, Caller
from slipway.wire.messages import BeginController, Metrics


class Office:
    """`ask_metrics`: the supervisor's numbers."""

    def __init__(
        self,
        *,
        begin: BeginController,
        store: StoreThread,
        world: World,
        ledger: Ledger,
        events: EventBook,
        specs: SpecMaker,
        reconciler: Reconciler,
        keeper: AccessKeeper,
        leadership: Leadership,
        ask_metrics: Callable[[], Awaitable[Metrics]],
        clock: Clock,
        wall: Callable[[], float],
    ) -> None:
        self._begin = begin
        self._store = store
        self._world = world
        self._ledger = ledger
        self._events = events
        self._specs = specs
        self._reconciler = reconciler
        self._keeper = keeper
        self._leadership = leadership
        self._ask_metrics = ask_metrics
        self._clock = clock
        self._wall = wall
        self._begun = clock.now() - _age_s(begin.supervisor_pid)
        self._started = False
        self._tally = Tally()

    @property
    def access(self) -> Access:
        """Who may do what, as of now; its `epoch` says whether a Verifier made of an earlier one still holds. Until the
        store was read once, nobody may but the owner of the data directory."""
        return self._keeper.access or Access(required=True, owner_hash=self._begin.owner_hash)

    @property
    def knows_callers(self) -> bool:
        """False before the store was read once: a good key could not be told from a bad one."""
        return self._keeper.access is not None

    async def _may_change(self) -> None:
        self._leadership.check()
        await self._ledger.fresh()

    def _may_look(self) -> None:
        """Raises StoreUnavailable where the store was never read."""
        if not self._world.known:
            why = self._store.why_not or self._leadership.trouble or "ask again in a moment"
            raise StoreUnavailable(f"the store has not been read yet. {why}", retry_after_s=1.0)


def _age_s(pid: int) -> float:
    """Of the server: the supervisor outlives its controllers."""
    try:
        return max(0.0, time.time() - float(psutil.Process(pid).create_time()))
    except psutil.Error:
        return 0.0


def author(caller: Caller) -> str:
    """For history and audit log: `key:ci`, `owner`."""
    return caller.kind if caller.kind in ("owner", "anonymous") else f"{caller.kind}:{caller.name}"
