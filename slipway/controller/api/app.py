"""The application: one page that puts the operations, their guards and their description together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from slipway import __version__
from slipway.controller.api import artifacts, credentials, deployments, happenings, openapi, server
from slipway.controller.api.admission import Admission
from slipway.controller.api.desk import Desk, reply
from slipway.controller.api.operations import Operation, add
from slipway.controller.api.outside import Outside, make_refusals
from slipway.controller.api.reader import PAGE, POLICY
from slipway.controller.api.repeats import Repeats
from slipway.controller.api.rules import Rule
from slipway.controller.commands import Commands
from slipway.wire.messages import AccessSeen

REPORT_S = 1.0


def make_app(commands: Commands, *, seal_key: bytes, own_hosts: Iterable[str] = ()) -> FastAPI:
    """`seal_key`: 32 bytes, with which answers are sealed that may be given again. `own_hosts`: names by which this
    door is called, beside those of loopback, where it needs no credential. `app.state.desk` is its Desk: set `closing`
    there to end streams, before the server is ended."""
    admission = Admission(lambda: commands.access, is_whole=lambda: commands.knows_callers, own_hosts=own_hosts)
    desk = Desk(commands=commands, admission=admission, repeats=Repeats(commands, seal_key=seal_key))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        reporting = asyncio.ensure_future(_report(desk))
        try:
            yield
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting
            _tell_seen(desk)
            admission.verifier.close()

    app = FastAPI(
        title="Slipway management API",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    listed = operations(desk, app)
    for operation in listed:
        add(app, desk, operation)
    make_refusals(app)
    app.add_middleware(Outside, desk=desk)
    return app


def operations(desk: Desk, app: FastAPI) -> list[Operation]:
    """All there are."""
    rooms = (server, deployments, artifacts, happenings, credentials)
    listed = [operation for room in rooms for operation in room.operations(desk)]
    documents: dict[bool, dict[str, Any]] = {}

    async def get_openapi() -> Response:
        closed = desk.commands.access.required
        if closed not in documents:
            documents[closed] = openapi.describe(app, every, version=__version__, closed=closed)
        return reply(documents[closed])

    async def get_docs() -> Response:
        return Response(PAGE, media_type="text/html", headers={"content-security-policy": POLICY})

    def page(path: str, call: Any, summary: str, kind: Any) -> Operation:
        return Operation(
            method="GET", path=path, call=call, tag="server", summary=summary, needs=Rule.ANYBODY, answers={200: kind}
        )

    every = [
        *listed,
        page("/openapi.json", get_openapi, "This description", dict),
        page("/docs", get_docs, "This description, for people", "text/html"),
    ]
    return every


async def _report(desk: Desk) -> None:
    """Who came in and who did not, about once a second: as a gateway does it."""
    while True:
        await asyncio.sleep(REPORT_S)
        _tell_seen(desk)


def _tell_seen(desk: Desk) -> None:
    used, refused = desk.admission.verifier.drain()
    if used or refused:
        desk.commands.access_seen(AccessSeen(used, refused))
