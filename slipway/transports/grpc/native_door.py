"""The fast gRPC door: HTTP/2 and framing in Rust threads without the GIL (pygrpc-native), calls in batches.

Calls come to a thread that does nothing but carry them to the event loop, one wake-up a batch; all else happens
there. Streams, and whatever this front does not know, it passes on to a grpc.aio door on a private Unix socket.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from pygrpc_native import EVENT_CALL, NativeGrpcFront

from slipway.errors import Draining, SlipwayError
from slipway.infer.request import NEVER
from slipway.infer.service import Ticket
from slipway.transports.grpc.aio_door import AioDoor, wait_while
from slipway.transports.grpc.gate import Call, Trailers
from slipway.transports.grpc.handlers import STOPPED, Handlers, Outcome
from slipway.transports.grpc.status import status_of

FLUSH_S = 0.2
"""The front hangs up without waiting for what its own thread has yet to write, and nothing says when it has."""
BATCH_CALLS = 64
IO_THREADS = 2 if (os.cpu_count() or 1) >= 4 else 1  # one outruns Python with small tensors; large ones copy in both


class NativeDoor:
    """All methods of `handlers`; made and used on the event loop's thread.

    `folder`: private to this door and empty; the socket to the door behind is made in it. `close` removes it.
    """

    kind = "native"

    def __init__(self, handlers: Handlers, *, max_message_bytes: int, folder: Path) -> None:
        self.port = 0
        self._handlers = handlers
        self._behind = AioDoor(handlers, max_message_bytes=max_message_bytes)
        self._folder = folder
        self._paths = list(handlers.unary)
        self._tickets: dict[int, Ticket | None] = {}  # of every call that is not answered
        self._inbox: deque[list[tuple[Any, ...]]] = deque()
        self._woken = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._carry, name="grpc-calls", daemon=True)
        self._front: NativeGrpcFront

    async def open(self, target: str, *, reuse_port: bool) -> None:
        """Serve at `host:port`. Raises OSError when it cannot be had."""
        methods = [(path, False) for path in self._paths]
        self._front = NativeGrpcFront(target, methods, IO_THREADS, call_details=True, reuse_port=reuse_port)
        self.port = self._front.bound_port
        path = self._folder / "streams"
        await self._behind.open(f"unix:{path}")
        self._front.set_fallback(str(path))
        self._front.start()
        self._thread.start()

    async def close(self, drain_s: float) -> None:
        """Refuse new calls, let those on their way finish for up to `drain_s`, refuse the rest, and end."""
        self._handlers.draining = True
        await asyncio.gather(wait_while(lambda: bool(self._tickets), drain_s), self._behind.close(drain_s))
        for call_id, ticket in list(self._tickets.items()):
            if ticket is not None:
                ticket.cancel()
            self._answer(call_id, Draining(STOPPED))
        await asyncio.sleep(FLUSH_S)
        await self._loop.run_in_executor(None, self._front.close)
        await self._loop.run_in_executor(None, self._thread.join)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _carry(self) -> None:
        front, loop, inbox = self._front, self._loop, self._inbox
        while (events := front.recv_batch_details(BATCH_CALLS)) is not None:
            inbox.append(events)
            if self._woken:
                continue  # the loop has not looked yet: one wake-up is enough for both
            self._woken = True
            try:
                loop.call_soon_threadsafe(self._on_wake)
            except RuntimeError:  # the loop ended without close()
                front.close()
                return

    def _on_wake(self) -> None:
        self._woken = False  # before the look: what comes during it wakes the loop again
        inbox = self._inbox
        while inbox:
            self._on_events(inbox.popleft())

    def _on_events(self, events: list[tuple[Any, ...]]) -> None:
        now = time.monotonic()
        tickets, paths, call_method = self._tickets, self._paths, self._handlers.call
        for kind, call_id, method, payload, _, details in events:
            if kind != EVENT_CALL:
                self._on_cancel(call_id)
                continue
            metadata, peer, remaining_s = details
            trace = ""
            for key, value in metadata:
                if key == "traceparent":
                    trace = value
            call = Call(now, NEVER if remaining_s is None else now + remaining_s, trace, metadata, peer)

            def answer(outcome: Outcome, trailers: Trailers | None = None, call_id: int = call_id) -> None:
                self._answer(call_id, outcome, trailers)

            tickets[call_id] = None
            ticket = call_method(paths[method], payload, call, answer)
            if ticket is not None and call_id in tickets:
                tickets[call_id] = ticket

    def _on_cancel(self, call_id: int) -> None:
        """The client left or its deadline passed; the front has answered it."""
        if call_id in self._tickets:
            ticket = self._tickets.pop(call_id)
            if ticket is not None:
                ticket.cancel()

    def _answer(self, call_id: int, outcome: Outcome, trailers: Trailers | None = None) -> None:
        if self._tickets.pop(call_id, self) is self:
            return  # cancelled
        if isinstance(outcome, SlipwayError):
            code, message, trailers = status_of(outcome)
            self._front.fail(call_id, code, message, trailers)
        elif trailers is None:
            self._front.respond(call_id, outcome)
        else:
            self._front.respond(call_id, outcome, None, trailers)
