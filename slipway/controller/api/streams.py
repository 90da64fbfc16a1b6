"""Answers without an end: events as a server-sent stream, and logs that are followed.

A stream ends when the server is on its way out, when its client is gone, and when the credential that opened it would
not open it again; the client comes back, with the id of the last event that it saw, and misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from slipway.controller.api.desk import Desk, caller_of
from slipway.spec.resources import Event

T = TypeVar("T")

HEARTBEAT_S = 15.0
LOOK_S = 1.0
"""How often a silent stream looks whether it may go on: what is revoked is out within a second."""
RETRY_MS = 1000


class Quiet:
    """Nothing has come for LOOK_S."""


QUIET = Quiet()
OVER = Quiet()


async def watched(desk: Desk, request: Request, source: AsyncIterator[T]) -> AsyncIterator[T | Quiet]:
    """What `source` gives, and QUIET in between; ends with it, with the server, and with the right to see it."""
    loop = asyncio.get_running_loop()
    closing: asyncio.Task[Any] = asyncio.create_task(desk.closing.wait())
    coming: asyncio.Task[T | Quiet] | None = None
    looked = loop.time()
    try:
        while True:
            if coming is None:
                coming = asyncio.create_task(_next(source))
            await asyncio.wait([coming, closing], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if desk.closing.is_set():
                return
            if loop.time() - looked >= LOOK_S:
                looked = loop.time()
                if not await desk.admission.still(request.scope, caller_of(request)):
                    return
            if not coming.done():
                yield QUIET
                continue
            found = coming.result()
            coming = None
            if found is OVER:
                return
            yield found
    finally:
        closing.cancel()
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(BaseException):
                await coming
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def _next(source: AsyncIterator[T]) -> T | Quiet:
    """OVER at the end: a task that raises StopAsyncIteration cannot be told from its awaiter's own end."""
    return await anext(source, OVER)


async def event_bytes(desk: Desk, request: Request, source: AsyncIterator[Event], last: int) -> AsyncIterator[bytes]:
    """The stream as https://html.spec.whatwg.org/multipage/server-sent-events.html has it. It begins with an id alone:
    whoever is cut off before the first event knows from where to go on."""
    loop = asyncio.get_running_loop()
    yield f"retry: {RETRY_MS}\nid: {last}\n\n".encode()
    told = loop.time()
    async for one in watched(desk, request, source):
        if isinstance(one, Event):
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (one.id, one.kind.encode(), msgspec.json.encode(one))
            told = loop.time()
        elif loop.time() - told >= HEARTBEAT_S:
            yield b": still here\n\n"
            told = loop.time()


async def line_bytes(desk: Desk, request: Request, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for one in watched(desk, request, source):
        if isinstance(one, bytes):
            yield one


class Stream(StreamingResponse):
    """Counted while it is open."""

    def __init__(self, desk: Desk, body: AsyncIterator[bytes], media_type: str) -> None:
        super().__init__(body, media_type=media_type, headers={"x-accel-buffering": "no"})
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope["slipway.caller"]
        self._desk.begin_stream(caller)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._desk.end_stream(caller)
