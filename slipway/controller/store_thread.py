"""The database, in one thread of its own: it may be slow or gone, and the loop that answers must never wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from slipway.clock import Clock
from slipway.errors import StoreUnavailable
from slipway.store.opening import open_store
from slipway.store.store import Store

T = TypeVar("T")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0

logger = logging.getLogger(__name__)


class StoreThread:
    """`url`: of `open_store`. Calls wait for each other, in order. `why_not`: what kept it from being opened."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._store: Store | None = None
        self.why_not = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self.opened = asyncio.Event()
        self.database = url.partition(":")[0].partition("+")[0]

    @property
    def shown(self) -> str:
        """The database's URL without its password."""
        return self._store.url_shown if self._store else self.database

    async def open(self) -> None:
        """Until it succeeds, with growing pauses. Raises SetupError for what waiting does not mend."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                self._store = await asyncio.get_running_loop().run_in_executor(self._thread, open_store, self._url)
            except StoreUnavailable as error:
                if error.message != self.why_not:
                    logger.error("the store cannot be opened; it is tried again: %s", error.message)
                self.why_not = error.message
                await asyncio.sleep(wait_s)
                wait_s = min(LONGEST_WAIT_S, wait_s * 2)
            else:
                self.why_not = ""
                self.opened.set()
                return

    async def call(self, work: Callable[[Store], T]) -> T:
        """Raises StoreUnavailable, and what the store raises."""
        store = self._store
        if store is None:
            raise StoreUnavailable(
                self.why_not or "the store was not opened yet; ask again in a moment", retry_after_s=1.0
            )
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, store)

    def close(self) -> None:
        if self._store is not None:
            self._thread.submit(self._store.close)
        self._thread.shutdown(wait=False, cancel_futures=False)
