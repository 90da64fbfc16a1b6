"""How much one identity may still ask of one deployment: requests a second with a burst, and rows a day.

Requests follow the generic cell rate algorithm (ITU-T I.371, annex A, as virtual scheduling): one number, the
theoretical arrival time, says all about a token bucket, and what is refused changes nothing. It is counted in whole
femtoseconds, so that no rounding adds up to a token. Rows are counted from midnight to midnight in UTC.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from slipway.spec.deployment import RequestLimits

TICKS_PER_S = 10**15
_TICKS_PER_NS = 10**6
_DAY_NS = 86_400 * 10**9
_LONGEST = 10**9 * TICKS_PER_S
"""Between two requests: a generation."""


class Usage(NamedTuple):
    """What to remember. `arrival`: ticks since 1970 at which the bucket is full again. `rows`: taken on `day`, which
    counts from 1970."""

    arrival: int = 0
    day: int = 0
    rows: int = 0


class Standing(NamedTuple):
    """What to tell the caller, of the limit that he is nearest to.

    `kind`: requests or rows. `limit`: the burst, or rows of a day; `remaining`: what is left of it now; `reset_s`:
    until all of it is there again. `retry_after_s`: until the same may be asked again, 0 where it was admitted, inf for
    what is more than the whole limit.
    """

    admitted: bool
    kind: str
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float = 0.0


def burst_of(limits: RequestLimits) -> int:
    """Requests that may come at once: as declared, else one second's worth, and one at least."""
    return limits.burst or max(1, math.ceil(limits.requests_per_s))


def take(
    limits: RequestLimits, usage: Usage, *, now_ns: int, requests: int = 1, rows: int = 0
) -> tuple[Standing | None, Usage]:
    """Admit `requests` and `rows` together, or neither; a Standing of None: there is no limit. The Usage is the same
    object where nothing has changed. Rows below 0 are given back. `now_ns`: nanoseconds since 1970; a clock that is set
    back locks nobody out for longer than a burst takes to refill.
    """
    by_requests = by_rows = None
    arrival, day, used = usage
    if limits.requests_per_s > 0:
        now = now_ns * _TICKS_PER_NS
        burst = burst_of(limits)
        interval = min(max(1, round(TICKS_PER_S / limits.requests_per_s)), _LONGEST)
        if arrival > now + burst * interval:  # the clock went back, or the limit was lowered
            usage = Usage(now + burst * interval, day, used)
        by_requests, arrival = _take_requests(burst, interval, usage.arrival, now, requests)
    if limits.rows_per_day > 0:
        day = now_ns // _DAY_NS
        used = usage.rows if usage.day == day else 0
        by_rows = _take_rows(limits.rows_per_day, used, rows, (_DAY_NS - now_ns % _DAY_NS) / 1e9)
        used = max(0, used + rows)
    standing = _nearer(by_requests, by_rows)
    if standing is None or not standing.admitted:
        return standing, usage
    return standing, Usage(arrival, day, used)


def is_idle(usage: Usage, *, now_ns: int) -> bool:
    """Nothing would change if it were forgotten."""
    return usage.arrival <= now_ns * _TICKS_PER_NS and (usage.rows == 0 or usage.day != now_ns // _DAY_NS)


def _take_requests(burst: int, interval: int, arrival: int, now: int, requests: int) -> tuple[Standing, int]:
    tolerance = burst * interval
    backlog = arrival - now if arrival > now else 0
    wanted = backlog + requests * interval
    if wanted <= tolerance:
        return Standing(True, "requests", burst, (tolerance - wanted) // interval, wanted / TICKS_PER_S), now + wanted
    retry_s = (wanted - tolerance) / TICKS_PER_S if requests <= burst else math.inf
    remaining = (tolerance - backlog) // interval
    return Standing(False, "requests", burst, remaining, backlog / TICKS_PER_S, retry_s), arrival


def _take_rows(limit: int, used: int, rows: int, day_ends_s: float) -> Standing:
    after = max(0, used + rows)
    if after <= limit or rows <= 0:
        return Standing(True, "rows", limit, max(0, limit - after), day_ends_s)
    retry_s = day_ends_s if rows <= limit else math.inf
    return Standing(False, "rows", limit, max(0, limit - used), day_ends_s, retry_s)


def _nearer(one: Standing | None, other: Standing | None) -> Standing | None:
    """The one that refuses, for longer if both do; else the one of which the smaller part is left."""
    if one is None or other is None:
        return one or other
    if one.admitted != other.admitted:
        return other if one.admitted else one
    if not one.admitted:
        return max(one, other, key=lambda standing: standing.retry_after_s)
    return one if one.remaining * other.limit <= other.remaining * one.limit else other
