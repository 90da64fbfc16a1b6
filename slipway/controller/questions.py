"""Questions to the supervisor, and the answers that come back over the control line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from slipway.errors import Unavailable
from slipway.wire.messages import ControlMessage, Metrics, MetricsRequest

ANSWER_S = 5.0


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
