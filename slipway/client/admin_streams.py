"""Answers that do not end by themselves: server-sent events and logs, read without I/O.

A follower says what to ask for, makes things of the bytes that come, and decides what to do when they stop. The format
of events is that of https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from slipway.client.admin_protocol import API, AdminProtocol, Query, part
from slipway.client.exchange import Incoming, Lost, Outgoing, TimedOut
from slipway.client.retry import Retry, backoff_s
from slipway.errors import SlipwayError, Unavailable
from slipway.spec.resources import Event

T_co = TypeVar("T_co", covariant=True)

SILENCE_S = 60.0
"""The server sends something, if only a comment, more often than this: a longer silence is a dead connection."""


class Follower(Protocol[T_co]):
    def outgoing(self) -> Outgoing:
        """What to ask for next."""
        ...

    silence_s: float | None
    """A longer silence is a dead connection; None: it may be silent for ever."""

    def feed(self, chunk: bytes) -> Sequence[T_co]: ...

    def ended(self, outcome: Incoming | Lost | TimedOut | None) -> float | None:
        """Seconds until to ask again, None for never. `outcome` None: it began well. Raises what is wrong for good."""
        ...


class Patience:
    """How long to wait before the next try: it grows from one that got nothing to the next."""

    def __init__(self, protocol: AdminProtocol, retry: Retry, draw: Callable[[], float], url: str) -> None:
        self._protocol = protocol
        self._retry = retry
        self._draw = draw
        self._url = url
        self._failed = 0

    def reset(self) -> None:
        self._failed = 0

    def next_s(self, outcome: Incoming | Lost | TimedOut | None) -> float:
        """Raises the error that an answer is, or Unavailable once the tries are used up."""
        error: SlipwayError | None
        if isinstance(outcome, Incoming):
            error = self._protocol.failure(outcome) or SlipwayError(f"{self._url} answered what is no stream")
            if not isinstance(error, Unavailable):
                raise error
        elif isinstance(outcome, Lost):
            error = Unavailable(f"cannot reach {self._url}: {outcome.reason}")
        elif isinstance(outcome, TimedOut):
            error = Unavailable(f"{self._url} does not answer")
        else:
            error = Unavailable(f"{self._url} ends the stream again and again")
        self._failed += 1
        if self._failed > self._retry.attempts:
            raise error
        return backoff_s(self._retry, self._failed, draw=self._draw(), retry_after_s=error.retry_after_s)


class EventFollower:
    """Each event once and in order, over as many connections as it takes: the server goes on after the last one seen.

    `after` None: from now on.
    """

    silence_s: float | None = SILENCE_S

    def __init__(self, protocol: AdminProtocol, patience: Patience, deployment: str, after: int | None) -> None:
        self._protocol = protocol
        self._patience = patience
        self._deployment = part("deployment", deployment) if deployment else ""
        self._last = after
        self._reader = EventReader()

    def outgoing(self) -> Outgoing:
        self._reader = EventReader()
        headers = {"accept": "text/event-stream"}
        if self._last is not None:
            headers["last-event-id"] = str(self._last)
        path = API + "/events/stream"
        return self._protocol.outgoing("GET", path, query={"deployment": self._deployment}, headers=headers)

    def feed(self, chunk: bytes) -> list[Event]:
        fresh = []
        for id_, data in self._reader.feed(chunk):
            self._patience.reset()
            if id_ is not None:
                if self._last is not None and id_ <= self._last:
                    continue
                self._last = id_
            if data:
                fresh.append(_event(data))
        return fresh

    def ended(self, outcome: Incoming | Lost | TimedOut | None) -> float | None:
        return self._patience.next_s(outcome)


class LogFollower:
    """Whole lines, without their ends. A log has no ids to go on after, so it ends when the connection does."""

    silence_s: float | None = None

    def __init__(self, protocol: AdminProtocol, patience: Patience, name: str, version: str, tail: int) -> None:
        self._protocol = protocol
        self._patience = patience
        self._path = f"{API}/deployments/{part('deployment', name)}/logs"
        self._query: Query = {"version": version, "tail": tail, "follow": True}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def outgoing(self) -> Outgoing:
        return self._protocol.outgoing("GET", self._path, query=self._query)

    def feed(self, chunk: bytes) -> list[str]:
        *lines, self._rest = (self._rest + self._decoder.decode(chunk)).split("\n")
        return lines

    def ended(self, outcome: Incoming | Lost | TimedOut | None) -> float | None:
        return None if outcome is None else self._patience.next_s(outcome)


class EventReader:
    """(id, data) of each server-sent event that has come whole; data '' is one that only moves the id on."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._id: int | None = None
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[tuple[int | None, str]]:
        text = self._rest + self._decoder.decode(chunk)
        if text.endswith("\r"):  # perhaps the first half of \r\n
            text, held = text[:-1], "\r"
        else:
            held = ""
        *lines, self._rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest += held
        found = []
        for line in lines:
            if line:
                self._take(line)
            else:
                if self._data or self._id is not None:
                    found.append((self._id, "\n".join(self._data)))
                self._id, self._data = None, []
        return found

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "id" and value.isascii() and value.isdecimal():
            self._id = int(value)


def _event(data: str) -> Event:
    try:
        return msgspec.json.decode(data, type=Event)
    except msgspec.DecodeError as error:
        raise SlipwayError(f"an event of the stream is none: {error}") from None
