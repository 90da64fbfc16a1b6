"""The controller without its sockets, built on one page: what it knows, what it decides with, what it can be told."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from slipway.clock import Clock
from slipway.controller.access import AccessKeeper
from slipway.controller.act import Reconciler
from slipway.controller.adopt import adopt
from slipway.controller.commands import Commands
from slipway.controller.commands.credentials import fresh_key
from slipway.controller.events import EventBook, Note
from slipway.controller.fetch import Fetcher
from slipway.controller.janitor import Janitor
from slipway.controller.leader import Leadership
from slipway.controller.ledger import Ledger
from slipway.controller.questions import MetricsQuestions
from slipway.controller.specs import SpecMaker
from slipway.controller.store_thread import StoreThread
from slipway.controller.world import World
from slipway.errors import NotLeader, SlipwayError, StoreUnavailable
from slipway.spec.hosts import is_loopback
from slipway.wire.messages import AccessSeen, BeginController, ControlMessage, Metrics, Observed

STANDBY_S = 0.5
"""How soon a controller that stands by knows of what the leader changed: a key that was revoked, above all."""

FIRST_KEY = """
This server can be reached from other machines, so every door wants a credential. The first key, with the scope admin,
shown this once:

    {text}

Use it as SLIPWAY_KEY, or with `slipway login`; `slipway keys revoke {id}` ends it.
"""

logger = logging.getLogger(__name__)


class Controller:
    """`say` sends to the supervisor; give each of its messages to `heard`. `run` ends only by being cancelled, or by a
    SetupError where the store is one that waiting does not mend. `begun`: the store was read, so it is known who may do
    what."""

    def __init__(
        self,
        begin: BeginController,
        *,
        say: Callable[[ControlMessage], None],
        clock: Clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._begin = begin
        self._wall = wall
        data_dir = Path(begin.data_dir)
        self.store = StoreThread(begin.database, clock=clock)
        self.world = World()
        self.events = EventBook(self.store, wall=wall)
        self.leadership = Leadership(
            self.store,
            address=begin.addresses[2] or begin.addresses[0] or "a controller without an admin door",
            data_dir=data_dir,
            clock=clock,
            gained=self._gained,
        )
        self.ledger = Ledger(self.store, self.world, self.events, self.leadership)
        self.specs = SpecMaker(artifacts_folder=begin.artifacts, data_dir=data_dir)
        self.keeper = self._make_keeper(say=say, clock=clock)
        self.fetcher = Fetcher(
            world=self.world,
            ledger=self.ledger,
            specs=self.specs,
            wall=wall,
            wake=lambda name: self.reconciler.wake(name),
            leading=self._leads,
        )
        self.reconciler = Reconciler(
            world=self.world,
            ledger=self.ledger,
            events=self.events,
            specs=self.specs,
            say=say,
            tend=self.fetcher.tend,
            leading=self._leads,
            clock=clock,
            wall=wall,
        )
        self.janitor = Janitor(
            world=self.world,
            ledger=self.ledger,
            events=self.events,
            specs=self.specs,
            leading=self._leads,
            wall=wall,
        )
        self.begun = asyncio.Event()
        self._questions = MetricsQuestions(say)
        self.commands = self._make_commands(clock=clock)

    def _make_keeper(self, *, say: Callable[[ControlMessage], None], clock: Clock) -> AccessKeeper:
        return AccessKeeper(
            config=self._begin.config,
            owner_hash=self._begin.owner_hash,
            folder=Path(self._begin.data_dir),
            store=self.store,
            deployments=lambda: self.world.deployments,
            say=say,
            clock=clock,
            wall=self._wall,
        )

    def _make_commands(self, *, clock: Clock) -> Commands:
        return Commands(
            begin=self._begin,
            store=self.store,
            world=self.world,
            ledger=self.ledger,
            events=self.events,
            specs=self.specs,
            reconciler=self.reconciler,
            keeper=self.keeper,
            leadership=self.leadership,
            ask_metrics=self._questions.ask,
            clock=clock,
            wall=self._wall,
        )

    def heard(self, message: ControlMessage) -> None:
        if isinstance(message, Observed):
            self.reconciler.hear(message)
        elif isinstance(message, AccessSeen):
            self.keeper.seen(message)
        elif isinstance(message, Metrics):
            self._questions.answered(message)

    async def run(self) -> None:
        """Open the store, and live. Raises SetupError."""
        await self.store.open()
        jobs: list[Coroutine[object, object, None]] = [
            self.leadership.run(),
            self.reconciler.run(),
            self.events.run(),
            self.keeper.watch_issuers(),
            self.keeper.write_seen(leading=self._leads),
            self.janitor.run(),
            self._keep_up(),
        ]
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)

    async def close(self) -> None:
        """Write what waits, and let another lead at once."""
        self.fetcher.close()
        try:
            async with asyncio.timeout(1.0):
                await self.keeper.flush(leading=self._leads())
                await self.leadership.release()
        except (SlipwayError, TimeoutError) as error:
            logger.debug("the lease was not given back: %s", error)
        self.store.close()

    # --- leading, and not -------------------------------------------------------------------------------------------

    def _leads(self) -> bool:
        return self.leadership.leading

    async def _gained(self) -> None:
        """Everything that it has to know before it decides."""
        if await self.ledger.call(lambda store: adopt(store, self._begin.adopt, wall=self._wall)):
            logger.info("what was on the command line was taken over")
        await self._first_key()
        await self._read_everything()
        self.reconciler.begin_anew()
        self.events.add(
            [Note("controller.leading", "this controller decides from now on", data={"by": self._begin.addresses[2]})]
        )

    async def _read_everything(self) -> None:
        await self.events.begin()
        await self.ledger.refresh()
        self.specs.take_secrets(await self.store.call(lambda store: store.secrets()))
        await self.keeper.refresh()
        self.begun.set()

    async def _first_key(self) -> None:
        """Bound beyond this machine and with no credential there: nobody could come in from where it is for."""
        config = self._begin.config
        if config.auth.required is False or is_loopback(config.host) or config.auth.jwt or config.auth.certificates:
            return
        keys, users = await self.store.call(lambda store: (store.keys(), store.users()))
        if keys or users:
            return
        now = self._wall()
        text, record = fresh_key("first-admin", scopes=["admin"], expires_at=None, now=now, actor="controller")
        await self.ledger.call(lambda store: store.add_key(record, now=now, actor="controller"))
        print(FIRST_KEY.format(text=text, id=record.id), file=sys.stderr, flush=True)

    async def _keep_up(self) -> None:
        """While another leads: know what it changed, for those who ask, and for the doors of this machine. And while
        this one leads: know what became of a change whose end the database did not tell; a key may be revoked by it."""
        while True:
            await asyncio.sleep(STANDBY_S)
            try:
                if not self.leadership.standing_by:
                    if self.leadership.leading and (self.world.stale or self.keeper.stale):
                        await self._read_everything()
                    continue
                if not self.world.known:
                    await self._read_everything()
                if await self.events.poll():
                    await self._read_everything()
            except (StoreUnavailable, NotLeader) as error:
                logger.debug("what the store holds is not known now: %s", error.message)
            except Exception:
                logger.exception("reading what changed failed")
