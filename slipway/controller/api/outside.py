"""The outermost layer: every request gets an id, is let in or not, is counted, and is answered whatever happens."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway.controller.api.admission import check_path
from slipway.controller.api.desk import Desk
from slipway.controller.api.problems import problem
from slipway.errors import MalformedRequest, MethodNotAllowed, NotFound, SlipwayError
from slipway.logs import fields, new_correlation

logger = logging.getLogger(__name__)
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Outside:
    """ASGI around the application. Pure ASGI, since Starlette's own middleware base would end streams late."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        request_id = _request_id(scope)
        scope["slipway.request_id"] = request_id
        status = 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message.get("headers", ())}
                added = [pair for pair in _HEADERS if pair[0] not in own]
                message["headers"] = [*message.get("headers", ()), *added, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._answer(scope, receive, tell)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            if status:  # too late for another answer: the connection is cut, which says that this one is not whole
                logger.exception("an answer broke off", extra=fields(correlation=request_id, path=scope["path"]))
                raise
            await refuse(error, scope, request_id)(scope, receive, tell)
        finally:
            took_s = time.monotonic() - began
            self._desk.commands.count_request(method=scope["method"], status=status, took_s=took_s)

    async def _answer(self, scope: Scope, receive: Receive, tell: Send) -> None:
        check_path(scope)
        if scope["path"] not in OPEN_PATHS:
            self._desk.admission.check_site(scope)
            scope["slipway.caller"] = await self._desk.admission.caller(scope)
        else:
            scope["slipway.caller"] = None
        await self._app(scope, receive, tell)


def refuse(error: Exception, scope: Scope, request_id: str) -> Response:
    """The answer to what went wrong; a fault of ours is told by a word that finds it in the log, and no more."""
    if isinstance(error, SlipwayError):
        return problem(error, request_id=request_id)
    logger.error("%s %s failed", scope["method"], scope["path"], exc_info=error, extra=fields(correlation=request_id))
    fault = SlipwayError(f"a fault of the server itself; its log says more under {request_id}", correlation=request_id)
    return problem(fault, request_id=request_id)


def make_refusals(app: FastAPI) -> None:
    """FastAPI's and Starlette's own refusals, in our form."""

    async def by_us(request: Request, error: Exception) -> Response:
        return refuse(error, request.scope, request.scope["slipway.request_id"])

    async def by_starlette(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refuse(_in_our_words(app, request, error), request.scope, request.scope["slipway.request_id"])

    app.add_exception_handler(SlipwayError, by_us)
    app.add_exception_handler(HTTPException, by_starlette)


def _in_our_words(app: FastAPI, request: Request, error: HTTPException) -> SlipwayError:
    path = request.url.path
    if error.status_code == 405:
        allow = ", ".join(sorted(_methods(app, request.scope)))
        return MethodNotAllowed(f"{request.method} is not for {path[:200]}; it takes {allow}", allow=allow)
    if error.status_code == 404:
        return NotFound(f"there is nothing at {path[:200]!r}; the API is at /api/v1, and described at /docs")
    return MalformedRequest(str(error.detail))


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    """Of all routes with this path: Starlette itself names only those of the first."""
    found: set[str] = set()
    for route in app.router.routes:
        if route.matches(scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


def _request_id(scope: Scope) -> str:
    """The client's own, where it is a plain word; so one word follows a request through all logs."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: Any = value.decode("latin-1")
            return text if _REQUEST_ID.match(text) else new_correlation()
    return new_correlation()
