"""What every handler has at hand, and how it answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import msgspec
from fastapi import Depends
from pydantic import AfterValidator
from starlette.requests import Request
from starlette.responses import Response

from slipway.auth.scopes import ADMIN
from slipway.controller.api.admission import Admission
from slipway.controller.api.repeats import Repeats
from slipway.controller.commands import Commands
from slipway.errors import Overloaded
from slipway.spec.access import Caller

MOST_STREAMS = 256
MOST_STREAMS_EACH = 64
KEPT_STREAMS = 64
"""Of them for administrators alone, who have to see what happens when others misbehave."""


@dataclass(kw_only=True)
class Desk:
    """`closing`: set when the server is on its way out, so that streams, which never end by themselves, do."""

    commands: Commands
    admission: Admission
    repeats: Repeats
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    streams: Counter[str] = field(default_factory=Counter)

    def begin_stream(self, caller: Caller) -> None:
        """Raises Overloaded: each holds a connection and some memory."""
        most = MOST_STREAMS if ADMIN in caller.scopes else MOST_STREAMS - KEPT_STREAMS
        if self.streams.total() >= most or self.streams[caller.id] >= MOST_STREAMS_EACH:
            open_now = f"{self.streams.total()} streams are open already, {self.streams[caller.id]} of them yours"
            raise Overloaded(f"{open_now}; close one", retry_after_s=5.0)
        self.streams[caller.id] += 1

    def end_stream(self, caller: Caller) -> None:
        self.streams[caller.id] -= 1
        if not self.streams[caller.id]:
            del self.streams[caller.id]


def caller_of(request: Request) -> Caller:
    return cast("Caller", request.scope["slipway.caller"])


def body_of(request: Request) -> Any:
    """As the operation's `takes` says; it was read and checked already."""
    return request.scope["slipway.body"]


Who = Annotated[Caller, Depends(caller_of)]
Given = Depends(body_of)


def reply(answer: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`answer` as JSON. Nothing of it is to be kept by a cache in between."""
    return Response(msgspec.json.encode(answer), status, headers, "application/json")


def said(pattern: str, right: str) -> AfterValidator:
    """Refuse what does not fit `pattern` in words that say what would be right."""
    import re

    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(right)
        return value

    return AfterValidator(check)
