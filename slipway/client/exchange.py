"""What passes between the client's thinking and its sockets: values only, the same for HTTP and gRPC.

The thinking is generators that yield a Send or a Pause and are told what came of it and what time it is. They know
no I/O and no clock, so one of them serves the blocking and the asyncio client alike, and a test can play the network.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Outgoing(msgspec.Struct):
    """One request. For gRPC `path` is the full method name, `headers` its metadata, `body` one message."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: dict[str, str] = {}


class Incoming(msgspec.Struct):
    """Its answer. `status`: the HTTP status, or the gRPC code. `headers`: lower-case names; for gRPC the trailing
    metadata. `detail`: the gRPC error message."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    detail: str = ""


class Lost(msgspec.Struct):
    """No answer. `sent` False: the server cannot have seen any of it, so another try is always safe."""

    reason: str
    sent: bool


class TimedOut(msgspec.Struct):
    """No answer within `Send.timeout_s`."""


class Opened(msgspec.Struct, Generic[T]):
    """An answer without end that has begun well. `chunks`: an iterator of its bytes as they come, which ends without an
    error however the connection does: who follows asks again in any case."""

    chunks: T


class Send(msgspec.Struct):
    """`timeout_s` None: wait as long as it takes."""

    outgoing: Outgoing
    timeout_s: float | None


class Pause(msgspec.Struct):
    seconds: float


Outcome = Incoming | Lost | TimedOut | None  # None: a Pause is over


class Heard(msgspec.Struct):
    """`now`: seconds on a monotonic clock."""

    now: float
    outcome: Outcome


Talk = Generator[Send | Pause, Heard, T]


class Exchange(msgspec.Struct, Generic[T]):
    """A request, and how to read its answer once that is known not to be an error."""

    outgoing: Outgoing
    read: Callable[[Incoming], T]
