"""The controller's end of the control line: what the supervisor says becomes calls, and questions get their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from slipway.errors import Unavailable
from slipway.wire.control import decode_control, encode_control
from slipway.wire.framing import FrameReader
from slipway.wire.messages import ControlMessage, Metrics, MetricsRequest

ANSWER_S = 5.0


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


class MetricsQuestions:
    """Ask for the supervisor's numbers; several who ask at once share one answer."""

    def __init__(self, say: Callable[[ControlMessage], None]) -> None:
        self._say = say
        self._number = 0
        self._waiting: asyncio.Future[Metrics] | None = None

    async def ask(self) -> Metrics:
        """Raises Unavailable where no answer comes."""
        if self._waiting is None or self._waiting.done():
            self._number += 1
            self._waiting = asyncio.get_running_loop().create_future()
            self._say(MetricsRequest(self._number))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.shield(self._waiting)
        except TimeoutError:
            self._waiting = None
            raise Unavailable(
                f"the supervisor did not tell its numbers within {ANSWER_S:g} s", retry_after_s=5
            ) from None

    def answered(self, metrics: Metrics) -> None:
        if self._waiting is not None and not self._waiting.done() and metrics.number == self._number:
            self._waiting.set_result(metrics)
