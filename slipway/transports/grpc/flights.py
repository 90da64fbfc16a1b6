"""Counts the calls on their way, so that a door can close when the last has landed."""

from __future__ import annotations

import asyncio


class Flights:
    def __init__(self) -> None:
        self.count = 0
        self._landed: asyncio.Future[None] | None = None

    def start(self) -> None:
        self.count += 1

    def end(self) -> None:
        self.count -= 1
        if self.count == 0 and self._landed is not None and not self._landed.done():
            self._landed.set_result(None)

    async def all_landed(self, timeout_s: float) -> bool:
        """Wait until none is left; False when some still are after `timeout_s`."""
        if self.count == 0:
            return True
        self._landed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._landed], timeout=timeout_s)
        return self.count == 0
