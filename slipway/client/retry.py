"""One exchange until it succeeds, fails for good or runs out of time: who is asked again, when, and when never.

The wait grows exponentially with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), so that clients which
were refused together do not come back together; a server's Retry-After is honoured before jitter is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from slipway.client.exchange import Exchange, Incoming, Lost, Outgoing, Pause, Send, Talk, TimedOut
from slipway.errors import DeadlineExceeded, SetupError, SlipwayError, Unavailable

T = TypeVar("T")


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When to ask again, and how often.

    `attempts`: sends of one call at most; 1 is never again. `first_wait_s`, `longest_wait_s`: bounds of the random
    wait between two of them. `resend`: also when the connection broke after the request had left, where the server
    may have seen it; False for models that must not compute the same request twice.
    """

    attempts: int = 4
    first_wait_s: float = 0.05
    longest_wait_s: float = 2.0
    resend: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise SetupError(f"attempts is {self.attempts}; it must be at least 1")


class Failures(Protocol):
    """What a protocol tells of an answer: the error that it is, or None."""

    def failure(self, incoming: Incoming) -> SlipwayError | None: ...

    def with_timeout(self, outgoing: Outgoing, timeout_s: float) -> Outgoing:
        """The same request, and that its answer is of no use after `timeout_s`."""
        ...


class Circumstances(msgspec.Struct):
    """Of one call. `deadline`: on the clock of `now`. `draw`: chance, uniform in [0, 1). `url`: for messages."""

    deadline: float
    now: float
    retry: Retry
    draw: Callable[[], float]
    url: str


def converse(exchange: Exchange[T], protocol: Failures, at: Circumstances) -> Talk[T]:
    """Send, read, and send again where that is safe and there is time. Raises SlipwayError. Moves `at.now` on."""
    for attempt in range(1, at.retry.attempts + 1):
        left_s = at.deadline - at.now
        if left_s <= 0:
            raise _too_late(at)
        outgoing, timeout_s = exchange.outgoing, None
        if left_s != math.inf:
            outgoing, timeout_s = protocol.with_timeout(outgoing, left_s), left_s
        heard = yield Send(outgoing, timeout_s)
        at.now = heard.now
        error, again = _judge(heard.outcome, protocol, at)
        if error is None:
            assert isinstance(heard.outcome, Incoming)
            return exchange.read(heard.outcome)
        wait_s = backoff_s(at.retry, attempt, draw=at.draw(), retry_after_s=error.retry_after_s)
        if not again or attempt == at.retry.attempts or at.now + wait_s >= at.deadline:
            raise error
        at.now = (yield Pause(wait_s)).now
    raise AssertionError("unreachable: the last attempt returns or raises")


def backoff_s(retry: Retry, attempt: int, *, draw: float, retry_after_s: float | None) -> float:
    """Seconds to wait after the `attempt`th send (from 1) has failed."""
    longest = min(retry.longest_wait_s, retry.first_wait_s * 2.0 ** min(attempt - 1, 64))
    return (retry_after_s or 0.0) + draw * longest


def _judge(outcome: object, protocol: Failures, at: Circumstances) -> tuple[SlipwayError | None, bool]:
    """(what went wrong, whether to ask again)."""
    if isinstance(outcome, Incoming):
        error = protocol.failure(outcome)
        return error, isinstance(error, Unavailable)
    if isinstance(outcome, TimedOut):
        return _too_late(at), False
    assert isinstance(outcome, Lost)
    again = at.retry.resend or not outcome.sent
    what = "lost the connection to" if outcome.sent else "cannot reach"
    return Unavailable(f"{what} {at.url}: {outcome.reason}"), again


def _too_late(at: Circumstances) -> SlipwayError:
    return DeadlineExceeded(f"no answer from {at.url} within the time allowed (timeout_s)")
