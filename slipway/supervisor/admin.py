"""The admin door: metrics, health and status of the whole server, on a port of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from difflib import get_close_matches

import msgspec

from slipway.errors import MethodNotAllowed, NotFound, SlipwayError
from slipway.spec.serve import Doors
from slipway.supervisor.metrics import CONTENT_TYPE, metrics_page
from slipway.supervisor.status import Observer
from slipway.transports.http.exchange import Exchange
from slipway.transports.http.server import HttpDoor, open_http_door

logger = logging.getLogger(__name__)

Answer = Callable[[Exchange], Awaitable[None]]


class AdminApp:
    """Read-only; every path answers GET and HEAD."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._tasks: set[asyncio.Task[None]] = set()
        self._paths: dict[str, Answer] = {
            "/": self._index,
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/readyz": self._ready,
            "/api/v1/status": self._status,
        }

    def __call__(self, exchange: Exchange) -> None:
        path = exchange.path.rstrip("/") or "/"
        answer = self._paths.get(path)
        if answer is None:
            raise NotFound(self._no_such_path(path))
        if exchange.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{path} is read with GET, not {exchange.method}", allow="GET, HEAD")
        task = asyncio.get_running_loop().create_task(self._answer(answer, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, answer: Answer, exchange: Exchange) -> None:
        try:
            await answer(exchange)
        except Exception:
            logger.exception("the admin door could not answer %s", exchange.path)
            exchange.refuse(SlipwayError(f"{exchange.path} could not be answered; the log of the supervisor says why"))

    async def _index(self, exchange: Exchange) -> None:
        exchange.respond(200, msgspec.json.encode({"paths": sorted(self._paths)}))

    async def _metrics(self, exchange: Exchange) -> None:
        page = await metrics_page(repository=self._observer.repository, gateways=self._observer.gateways)
        exchange.respond(200, page, CONTENT_TYPE)

    async def _health(self, exchange: Exchange) -> None:
        """The supervisor lives and its loop turns: that this is answered says it all."""
        exchange.respond(200, msgspec.json.encode({"status": "ok"}))

    async def _ready(self, exchange: Exchange) -> None:
        state = self._observer.state
        exchange.respond(200 if state == "ready" else 503, msgspec.json.encode({"status": state}))

    async def _status(self, exchange: Exchange) -> None:
        exchange.respond(200, msgspec.json.encode(self._observer.status()))

    def _no_such_path(self, path: str) -> str:
        near = get_close_matches(path, self._paths, n=1)
        hint = f"did you mean {near[0]}?" if near else "it has " + ", ".join(sorted(self._paths))
        return f"the admin door has no {path}; {hint}"


async def open_admin_door(observer: Observer, *, doors: Doors, port: int) -> HttpDoor:
    """Open it beside the socket that holds the port. Raises PortInUse, SetupError."""
    limits = msgspec.structs.replace(doors, cors_origins=())  # those are for inference, not for what is told here
    return await open_http_door(AdminApp(observer), host=doors.host, port=port, limits=limits, reuse_port=True)
