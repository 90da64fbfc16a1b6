"""A door for HTTP: it listens, keeps what its connections share, and sweeps the slow ones out."""

from __future__ import annotations

import asyncio
import errno
from email.utils import formatdate

from slipway.errors import PortInUse, SetupError
from slipway.spec.serve import Doors
from slipway.transports.http.connection import App, HttpConnection
from slipway.transports.http.head import Head, HeadMemory

BACKLOG = 1024
TICK_S = 1.0


class HttpDoor:
    """`tick`: seconds since the door opened, in whole numbers; connections note it instead of asking a clock."""

    def __init__(self, app: App, limits: Doors) -> None:
        self.app = app
        self.limits = limits
        self.heads = HeadMemory(max_head_bytes=limits.max_head_bytes)
        self.connections: set[HttpConnection] = set()
        self.tick = 0
        self.port = 0
        self.date = ""
        self.json_head = b""
        self.draining = False
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._set_date()

    def _set_date(self) -> None:
        self.date = formatdate(usegmt=True)
        self.json_head = (
            f"HTTP/1.1 200 OK\r\ndate: {self.date}\r\ncontent-type: application/json\r\ncontent-length: "
        ).encode()

    def cors_headers(self, head: Head) -> list[str]:
        """Header lines for a browser of another origin, if the spec lets that origin in."""
        origin = head.headers.get("origin")
        allowed = self.limits.cors_origins
        if not allowed or origin is None:
            return []
        if "*" not in allowed and origin not in allowed:
            return []
        shown = "*" if "*" in allowed else origin
        lines = [f"access-control-allow-origin: {shown}", "vary: origin"]
        lines.append("access-control-expose-headers: inference-header-content-length, x-request-id, retry-after")
        if head.method == "OPTIONS":
            asked = head.headers.get("access-control-request-headers", "content-type")
            lines.append("access-control-allow-methods: GET, POST, HEAD, OPTIONS")
            lines.append(f"access-control-allow-headers: {asked}")
            lines.append("access-control-max-age: 600")
        return lines

    async def listen(self, *, host: str, port: int, reuse_port: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._connect, host, port, reuse_port=reuse_port or None, backlog=BACKLOG
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(f"{host}:{port} is in use by another process") from None
            raise SetupError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        self.port = self._server.sockets[0].getsockname()[1]
        self._timer = loop.call_later(TICK_S, self._sweep)

    def _connect(self) -> HttpConnection:
        return HttpConnection(self)

    def _sweep(self) -> None:
        self.tick += 1
        self._set_date()
        for connection in tuple(self.connections):
            connection.sweep(self.tick)
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._sweep)

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
        for connection in tuple(self.connections):
            connection.cut()
        if self._timer is not None:
            self._timer.cancel()


async def open_http_door(app: App, *, host: str, port: int, limits: Doors, reuse_port: bool = False) -> HttpDoor:
    """Listen on host:port (0: any free one, see `.port`). Raises PortInUse, SetupError."""
    door = HttpDoor(app, limits)
    await door.listen(host=host, port=port, reuse_port=reuse_port)
    return door
