"""What happened, and what was written: events, logs and the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from slipway.controller.api.desk import Desk, reply
from slipway.controller.api.names import After, MaybeDeployment, MaybeVersion, Name
from slipway.controller.api.operations import Operation
from slipway.controller.api.pages import Cursor, Limit, read_cursor, write_cursor
from slipway.controller.api.rules import Rule
from slipway.controller.api.streams import Stream, event_bytes, line_bytes
from slipway.errors import InvalidInput
from slipway.spec.resources import AuditCheck, AuditEntry, Event, Page

TAG = "events"
MOST_SEQ = 2**53 - 1
EVENT_STREAM = "text/event-stream"
TEXT = "text/plain"
LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event that was seen: the stream goes on after it.",
        json_schema_extra={"pattern": r"^[0-9]{0,15}$"},
    ),
]
Tail = Annotated[int, Query(ge=0, le=10_000, description="Lines from the end to begin with.")]


class HappeningHandlers:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._commands = desk.commands

    async def list_events(
        self, deployment: MaybeDeployment = "", after: After = 0, limit: Limit = 100, cursor: Cursor = ""
    ) -> Response:
        """With `after`: forward from there. Without: the newest, and from page to page further back; each page has its
        oldest first."""
        kind = f"events of {deployment}"
        before = 0
        if cursor:
            way, number = _position(kind, cursor)
            after, before = (number, 0) if way == "after" else (0, number)
        found = await self._commands.events(deployment=deployment, after=after, before=before, limit=limit + 1)
        more = len(found) > limit
        if after:
            shown = found[:limit]
            return reply(Page(items=shown, next=write_cursor(kind, ("after", shown[-1].id)) if more else ""))
        shown = found[-limit:]
        return reply(Page(items=shown, next=write_cursor(kind, ("before", shown[0].id)) if more else ""))

    async def stream_events(
        self, request: Request, deployment: MaybeDeployment = "", last_event_id: LastEventId = ""
    ) -> Response:
        if last_event_id and not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) <= 15):
            raise InvalidInput(f"Last-Event-ID is {last_event_id[:60]!r}; it is the id of an event, a number")
        if deployment:
            await self._commands.deployment(deployment)
        if last_event_id:
            last = int(last_event_id)
        else:
            newest = await self._commands.events(limit=1)
            last = newest[-1].id if newest else 0
        source = self._commands.subscribe(deployment=deployment, after=last)
        return Stream(self._desk, event_bytes(self._desk, request, source, last), EVENT_STREAM)

    async def get_logs(
        self,
        request: Request,
        name: Name,
        version: MaybeVersion = "",
        tail: Tail = 100,
        follow: Annotated[bool, Query(description="Go on with each line as it is written.")] = False,
    ) -> Response:
        if version:
            await self._commands.version(name, version)
        else:
            await self._commands.deployment(name)
        source = self._commands.logs(name, version=version, tail=tail, follow=follow)
        if not follow:
            source = await _begun(source)
        return Stream(self._desk, line_bytes(self._desk, request, source), TEXT)

    async def list_audit(self, after: After = 0, limit: Limit = 100, cursor: Cursor = "") -> Response:
        """As events."""
        before = 0 if after else MOST_SEQ
        if cursor:
            way, number = _position("audit", cursor)
            after, before = (number, 0) if way == "after" else (0, number)
        found = await self._commands.audit(after=after, before=before, limit=limit + 1)
        more = len(found) > limit
        if after:
            shown = found[:limit]
            return reply(Page(items=shown, next=write_cursor("audit", ("after", shown[-1].seq)) if more else ""))
        shown = found[-limit:]
        return reply(Page(items=shown, next=write_cursor("audit", ("before", shown[0].seq)) if more else ""))

    async def verify_audit(self) -> Response:
        return reply(AuditCheck(broken_at=await self._commands.verify_audit()))


async def _begun(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same from its first piece on, which is there: what is wrong is said before the answer begins."""
    first = await anext(source, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in source:
            yield piece

    return whole()


def _position(kind: str, cursor: str) -> tuple[str, int]:
    found = read_cursor(kind, cursor)
    if len(found) == 2 and found[0] in ("after", "before") and isinstance(found[1], int) and 0 < found[1] < 2**53:
        return found[0], found[1]
    raise InvalidInput(f"query parameter 'cursor' is {cursor[:60]!r}: give it as `next` of the page before had it")


def operations(desk: Desk) -> list[Operation]:
    do = HappeningHandlers(desk)
    return [
        Operation(
            method="GET",
            path="/api/v1/events",
            call=do.list_events,
            tag=TAG,
            summary="What happened: of one deployment, or (for administrators) of all and of the server",
            needs=Rule.DEPLOYMENT,
            answers={200: Page[Event]},
        ),
        Operation(
            method="GET",
            path="/api/v1/events/stream",
            call=do.stream_events,
            tag=TAG,
            summary="Events as they happen, as a server-sent stream; `Last-Event-ID` goes on where one was cut off",
            needs=Rule.DEPLOYMENT,
            answers={200: EVENT_STREAM},
            refuses=(404,),
        ),
        Operation(
            method="GET",
            path="/api/v1/deployments/{name}/logs",
            call=do.get_logs,
            tag=TAG,
            summary="What its replicas wrote",
            needs=Rule.DEPLOYMENT,
            answers={200: TEXT},
            refuses=(404,),
        ),
        Operation(
            method="GET",
            path="/api/v1/audit",
            call=do.list_audit,
            tag="audit",
            summary="Who changed what: an append-only log, each entry with the hash of the one before",
            needs=Rule.ADMINISTRATOR,
            answers={200: Page[AuditEntry]},
        ),
        Operation(
            method="GET",
            path="/api/v1/audit/verify",
            call=do.verify_audit,
            tag="audit",
            summary="Whether every entry is as it was written",
            needs=Rule.ADMINISTRATOR,
            answers={200: AuditCheck},
        ),
    ]
