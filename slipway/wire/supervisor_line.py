"""A child's end of the control line on an event loop; `wire.control` has the one for a child that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from slipway.wire.control import decode_control, encode_control
from slipway.wire.framing import FrameReader
from slipway.wire.messages import ControlMessage


class SupervisorLine(asyncio.Protocol):
    """`heard` gets each message; `lost` is called when the supervisor is gone."""

    def __init__(self, *, heard: Callable[[ControlMessage], None], lost: Callable[[], None]) -> None:
        self._heard = heard
        self._lost = lost
        self._reader = FrameReader()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for head, _ in self._reader.feed(data):
            self._heard(decode_control(head))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost()

    def say(self, message: ControlMessage) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_control(message))
