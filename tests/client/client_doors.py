"""Real doors over a stub house, in a thread with an event loop of its own, for clients to call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from slipway.infer.guard import UNGUARDED, Guard
from slipway.spec.serve import Doors, Tls
from slipway.testing.service import StubService
from slipway.transports.grpc.door import open_grpc_door
from slipway.transports.http.server import open_http_door
from slipway.transports.http.v2 import OpenInference

T = TypeVar("T")


class LiveDoors:
    """`service` belongs to the loop's thread: change it through `do`."""

    def __init__(self, *, guard: Guard = UNGUARDED, tls: Tls | None = None) -> None:
        self.service = StubService()
        self.service.guard = guard
        self._tls = tls
        self.http_port = 0
        self.grpc_port = 0
        self._loop = asyncio.new_event_loop()
        self._opened = threading.Event()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    def do(self, change: Callable[[StubService], T]) -> T:
        """Run `change` on the loop's thread; its result."""

        async def run() -> T:
            return change(self.service)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)

    def set(self, **knobs: Any) -> None:
        self.do(lambda service: [setattr(service, name, value) for name, value in knobs.items()])

    async def _serve(self) -> None:
        door = await open_http_door(OpenInference(self.service), host="127.0.0.1", port=0, limits=Doors(tls=self._tls))
        grpc_door = await open_grpc_door(self.service, kind="grpcio", tls=self._tls)
        self.http_port, self.grpc_port = door.port, grpc_door.port
        self._opened.set()
        await self._closing.wait()
        await grpc_door.close(0)
        await door.close(0)

    def open(self) -> None:
        self._thread.start()
        assert self._opened.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._loop.close()


@contextmanager
def live_doors() -> Iterator[LiveDoors]:
    doors = LiveDoors()
    doors.open()
    try:
        yield doors
    finally:
        doors.close()
