"""The listening side of the management API: uvicorn on a socket that the supervisor keeps open over our deaths.

What uvicorn leaves open is bounded here: how large a head may be, how long it may take, and how long running answers
may go on once the server ends. Over TLS the name in a verified client certificate reaches the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slipway.controller.api.admission import CERTIFICATE
from slipway.transports.tls import TlsFiles, common_name

MAX_HEAD_BYTES = 64 * 2**10
HEAD_S = 20.0
IDLE_S = 75
END_S = 5
MAX_CONNECTIONS = 1000
MAX_CONNECTIONS_EACH = 400
"""From one address, so that it takes more than one to keep everybody out."""
REFRESH_S = 1.0


class AdminProtocol(HttpToolsProtocol):
    """uvicorn's, with bounds."""

    _head_bytes = 0
    _certificate = ""
    _slow: asyncio.TimerHandle | None = None
    _peer = ""
    _here: ClassVar[Counter[str]] = Counter()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._here[self._peer] += 1
        if self._here[self._peer] > MAX_CONNECTIONS_EACH:
            transport.abort()
            return
        line = transport.get_extra_info("socket")
        if line is not None and line.family in (socket.AF_INET, socket.AF_INET6):
            # asyncio does it only where it knows the protocol's number, which a socket that was handed over may not
            # have; without it each answer waits 40 ms for the client's acknowledgement of its head.
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._certificate = common_name(tls.getpeercert() or {})
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._here[self._peer] -= 1
        if not self._here[self._peer]:
            del self._here[self._peer]
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        cast("dict[str, Any]", self.scope)[CERTIFICATE] = self._certificate
        if self._slow is None:
            self._await_head()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")  # the parser ends with it, and the connection with the parser

    def _await_head(self) -> None:
        self._slow = self.loop.call_later(HEAD_S, self.transport.abort)

    def _head_came(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None


class AdminServer(uvicorn.Server):
    """Leaves signals to the process around it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: FastAPI, *, listeners: Sequence[socket.socket], stop: asyncio.Event, tls: TlsFiles | None = None
) -> None:
    """Until `stop` is set; then streams end, and what else runs has END_S seconds. `listeners` stay open."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its comings and goings are ours to tell
    config = uvicorn.Config(
        app,
        http=AdminProtocol,
        loop="none",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # or anybody could pretend to come from elsewhere
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=END_S,
        limit_concurrency=MAX_CONNECTIONS,
    )
    config.load()
    config.ssl = None if tls is None else tls.context
    server = AdminServer(config)
    ends = asyncio.create_task(_end(app, server, stop))
    refreshes = asyncio.create_task(_refresh(tls))
    try:
        # uvicorn closes what it is given: it gets sockets of its own to the same queues of connections.
        await server.serve(sockets=[listener.dup() for listener in listeners])
    finally:
        for task in (ends, refreshes):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _end(app: FastAPI, server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    app.state.desk.closing.set()
    server.should_exit = True


async def _refresh(tls: TlsFiles | None) -> None:
    while tls is not None:
        await asyncio.sleep(REFRESH_S)
        tls.refresh()
