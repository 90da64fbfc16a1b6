"""What an operation of the API is: one row of the table from which come the routes, their guards and their schema."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from slipway.controller.api.bodies import MOST_BYTES, check_json, decode, read_bounded
from slipway.controller.api.desk import Desk
from slipway.controller.api.problems import invalid_parameters
from slipway.controller.api.rules import Rule, enforce
from slipway.errors import InvalidInput

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`needs`: which scope. `takes`: the kind of the body, None for none or one that the handler reads itself.
    `optional`: an empty body is that kind with its defaults. `answers`: status to the kind of the answer, None for one
    without a body, a string for a media type of its own. `refuses`: statuses beside those that all may have.
    `once`: takes an Idempotency-Key. `most_bytes`: of the body. `headers`: of the answer, name to what it says.
    """

    method: str
    path: str
    call: Callable[..., Coroutine[Any, Any, Response]]
    tag: str
    summary: str
    needs: Rule
    answers: Mapping[int, Any]
    takes: type | None = None
    optional: bool = False
    refuses: tuple[int, ...] = ()
    once: bool = False
    most_bytes: int = MOST_BYTES
    headers: Mapping[str, str] = field(default_factory=dict)
    example: Any = None
    raw_body: str = ""

    @property
    def name(self) -> str:
        return self.call.__name__


class GuardedRoute(APIRoute):
    """Before the handler runs: the scope, the query's names, the body, and whether it is a repetition."""

    operation: Operation
    desk: Desk

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            operation, desk = self.operation, self.desk
            caller = request.scope["slipway.caller"]
            name = request.path_params.get("name") or request.query_params.get("deployment", "")
            enforce(operation.needs, caller, name if operation.needs is Rule.DEPLOYMENT else "")
            self._check_query(request)
            body = await self._read(request)

            async def act() -> Response:
                try:
                    return await inner(request)
                except RequestValidationError as error:
                    raise invalid_parameters(error) from None

            return await desk.repeats.once(request, body, caller, act) if operation.once else await act()

        return handle

    async def _read(self, request: Request) -> bytes:
        operation = self.operation
        if operation.raw_body:
            return b""
        body = await read_bounded(request, operation.most_bytes)
        if operation.takes is None:
            if body:
                raise InvalidInput(f"{request.method} takes no body here")
            return body
        if body or not operation.optional:
            check_json(request)
            request.scope["slipway.body"] = decode(body, operation.takes)
        else:
            request.scope["slipway.body"] = operation.takes()
        return body

    def _check_query(self, request: Request) -> None:
        """A misspelt `dry_run` must not become the real thing."""
        known = {one.alias: one for one in self.dependant.query_params}
        seen: set[str] = set()
        for key, _ in request.query_params.multi_items():
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f", did you mean {near[0]!r}?" if near else f"; it takes {', '.join(known) or 'none'}"
                raise InvalidInput(f"unknown query parameter {key[:60]!r}{hint}")
            if key in seen and key != "label":
                raise InvalidInput(f"query parameter {key!r} is given twice")
            seen.add(key)


def add(app: FastAPI, desk: Desk, operation: Operation) -> None:
    app.router.add_api_route(
        operation.path,
        operation.call,
        methods=[operation.method],
        name=operation.name,
        operation_id=operation.name,
        summary=operation.summary,
        tags=[operation.tag],
        response_class=Response,
        response_model=None,
        status_code=next(iter(operation.answers)),
        route_class_override=GuardedRoute,
    )
    route = app.router.routes[-1]
    assert isinstance(route, GuardedRoute)
    route.operation, route.desk = operation, desk
