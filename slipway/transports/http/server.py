"""A door for HTTP: it listens, sweeps the slow clients out, and closes without cutting anybody off."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

from slipway.errors import PortInUse, SetupError
from slipway.spec.serve import Doors
from slipway.transports.http.connection import App, HttpConnection
from slipway.transports.http.doorway import Doorway
from slipway.transports.http.gate import EVERYBODY, Entry
from slipway.transports.tls import TlsFiles

BACKLOG = 1024
TICK_S = 1.0
TLS_GOODBYE_S = 1.0
"""How long a client may take to say goodbye in turn."""


class HttpDoor(Doorway):
    """Listening, once `listen` has been awaited; `port` is the real one. With `limits.tls` it is HTTPS."""

    def __init__(self, app: App, limits: Doors) -> None:
        super().__init__(limits)
        self.port = 0
        self._app = app
        # An application that knows who may come in says so itself: nobody can forget to pass it on.
        self._entry: Entry = getattr(app, "entry", EVERYBODY)
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tls: TlsFiles | None = None

    async def listen(self, *, host: str, port: int, reuse_port: bool) -> None:
        loop = asyncio.get_running_loop()
        if self.limits.tls is not None:
            self._tls = TlsFiles(self.limits.tls)
        tls: dict[str, Any] = {}
        if self._tls is not None:
            tls = {
                "ssl": self._tls.context,
                "ssl_handshake_timeout": self.limits.head_timeout_s,
                "ssl_shutdown_timeout": TLS_GOODBYE_S,
            }
        try:
            self._server = await loop.create_server(
                self._connect, host, port, reuse_port=reuse_port or None, backlog=BACKLOG, **tls
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(f"{host}:{port} is in use by another process") from None
            raise SetupError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        self.port = self._server.sockets[0].getsockname()[1]
        self._timer = loop.call_later(TICK_S, self._tick)

    def _connect(self) -> HttpConnection:
        return HttpConnection(self, self._app, self._entry)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self.sweep()

    def sweep(self) -> None:
        """A second has passed."""
        self.tick += 1
        self.set_date()
        if self._tls is not None:
            self._tls.refresh()
        for connection in (*self.connections, *self.leaving):
            connection.sweep(self.tick)

    async def close(self, drain_s: float) -> None:
        """Stop listening, let accepted requests finish for up to `drain_s`, then cut what is left."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.drain()
        until = asyncio.get_running_loop().time() + drain_s
        while self.connections and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
        for connection in (*self.connections, *self.leaving):
            connection.cut()
        if self._timer is not None:
            self._timer.cancel()


async def open_http_door(app: App, *, host: str, port: int, limits: Doors, reuse_port: bool = False) -> HttpDoor:
    """Listen on host:port (0: any free one, see `.port`). Raises PortInUse, SetupError."""
    door = HttpDoor(app, limits)
    await door.listen(host=host, port=port, reuse_port=reuse_port)
    return door
