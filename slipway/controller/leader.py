"""Which of the controllers that share a database decides: a lease that one holds, and renews as long as it lives.

The lease runs by the database's clock; what this process believes of itself runs by its own monotonic one,
counted from before it asked, so it stops to decide before another can begin. And leading is never only believed: each
write is fenced.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from slipway.clock import Clock
from slipway.controller.store_thread import StoreThread
from slipway.errors import NotLeader, SlipwayError, StoreUnavailable
from slipway.store.records import Lease
from slipway.store.store import Store

TTL_S = 6.0
EVERY_S = 2.0

logger = logging.getLogger(__name__)


class Leadership:
    """Known by the address that a person finds this controller by, and an id that is its data directory's alone.
    `gained` is awaited before it leads, each time that the lease is new; what it raises puts leading off."""

    def __init__(
        self,
        store: StoreThread,
        *,
        address: str,
        data_dir: Path,
        clock: Clock,
        gained: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._gained = gained
        self._address = address
        self._data_dir = data_dir
        self._me = ""
        self._until = 0.0
        self._epoch: int | None = None
        self._anew = False  # what was read is of another file, or of another time
        self.trouble = ""
        """Why the lease could not be taken or renewed when that was tried last."""
        self.lease: Lease | None = None

    @property
    def leading(self) -> bool:
        return self._epoch is not None and self._clock.now() < self._until

    @property
    def standing_by(self) -> bool:
        """Another one has the lease."""
        return self.lease is not None and self.lease.holder not in ("", self._me)

    def check(self) -> None:
        """Raises NotLeader naming who leads, or StoreUnavailable while nobody can know."""
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    def refusal(self) -> SlipwayError | None:
        """Why nothing can be changed here now; None: it can."""
        if self.leading:
            return None
        trouble = self.trouble or self._store.why_not
        if trouble:
            return StoreUnavailable(f"nothing can be changed now, and what runs goes on. {trouble}",
                                    retry_after_s=EVERY_S)  # fmt: skip
        if self.lease is not None and self.standing_by:
            where = self.lease.holder.partition(" ")[0]
            return NotLeader(
                f"this controller stands by and only reads; {where} leads: ask there", retry_after_s=EVERY_S
            )
        why = "this controller is about to lead, and reads the store; ask again in a moment"
        return StoreUnavailable(why, retry_after_s=EVERY_S)

    def step_down(self) -> None:
        """A write was refused: another leads by now."""
        if self._epoch is not None:
            self._epoch = None
            logger.warning("this controller leads no more")

    async def run(self) -> None:
        await self._store.opened.wait()
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                self._worry(error)
                if self._epoch is not None and not self.leading:
                    self.step_down()
            except SlipwayError as error:
                self._worry(error)
            except Exception:
                logger.exception("this controller cannot lead yet")
            await asyncio.sleep(EVERY_S)

    def _worry(self, error: SlipwayError) -> None:
        """Told once, and not every other second for as long as it lasts."""
        if error.message != self.trouble:
            logger.error("this controller cannot lead: %s", error.message)
        self.trouble = error.message

    async def look(self) -> None:
        """Take or renew the lease once."""
        asked = self._clock.now()
        lease = await self._store.call(self._take)
        self.lease, self.trouble = lease, ""
        if lease.holder != self._me:
            self.step_down()
            return
        self._until = asked + TTL_S
        if lease.epoch != self._epoch or self._anew:
            self._epoch = None
            await self._gained()
            self._epoch = lease.epoch
            logger.info("this controller leads", extra={"fields": {"epoch": lease.epoch}})

    async def release(self) -> None:
        """Let another begin at once."""
        if self._epoch is not None:
            self._epoch = None
            await self._store.call(lambda store: store.release_lease(self._me))

    def _take(self, store: Store) -> Lease:
        if not self._me:
            self._me = f"{self._address} {_identity(self._data_dir)}"
        lease = store.lease(holder=self._me, ttl_s=TTL_S)
        if lease.holder != self._me and _is_mine(lease.holder, self._me):
            # The holder was this server's controller before: the data directory is locked, so that one is dead.
            store.release_lease(lease.holder)
            lease = store.lease(holder=self._me, ttl_s=TTL_S)
        if lease.holder == self._me:
            self._anew = store.fence != lease.epoch
            store.fence = lease.epoch
        return lease


def _identity(data_dir: Path) -> str:
    """Stays with the data directory and this machine: a copy of the directory elsewhere is somebody else."""
    path = data_dir / "controller.id"
    try:
        made = path.read_text().strip()
    except FileNotFoundError:
        made = ""
    if len(made) < 8:
        made = secrets.token_hex(8)
        beside = path.with_name(f".controller.id.{os.getpid()}")
        beside.touch(mode=0o600)
        beside.write_text(made + "\n")
        beside.replace(path)
    return f"{socket.gethostname()}/{made}"


def _is_mine(holder: str, me: str) -> bool:
    return holder.partition(" ")[2] == me.partition(" ")[2]
