"""Rates and quotas, exact to the token, with the clock in the test's hand."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.schedule.rate import Standing, Usage, burst_of, is_idle, take
from slipway.spec.deployment import RequestLimits

S = 10**9
NOON = 20_000 * 86_400 * S + 12 * 3600 * S


def drain(limits: RequestLimits, usage: Usage, now_ns: int, *, most: int = 10_000) -> tuple[int, Usage]:
    """How many single requests are admitted at one moment."""
    for count in range(most):
        standing, usage = take(limits, usage, now_ns=now_ns)
        assert standing is not None
        if not standing.admitted:
            return count, usage
    return most, usage


def test_a_burst_and_then_the_rate() -> None:
    limits = RequestLimits(requests_per_s=10, burst=30)
    count, usage = drain(limits, Usage(), NOON)
    assert count == 30
    assert drain(limits, usage, NOON + S // 10 - 1)[0] == 0
    count, usage = drain(limits, usage, NOON + S // 10)
    assert count == 1
    count, usage = drain(limits, usage, NOON + S // 10 + S)
    assert count == 10
    assert drain(limits, usage, NOON + 3600 * S)[0] == 30


@pytest.mark.parametrize(
    ("rate", "burst", "expected"), [(100, 0, 100), (2.5, 0, 3), (0.1, 0, 1), (1, 7, 7), (1000, 1, 1)]
)
def test_without_a_burst_there_is_one_seconds_worth(rate: float, burst: int, expected: int) -> None:
    limits = RequestLimits(requests_per_s=rate, burst=burst)
    assert burst_of(limits) == expected
    assert drain(limits, Usage(), NOON)[0] == expected


def test_what_to_tell_while_it_runs_out() -> None:
    limits = RequestLimits(requests_per_s=2, burst=3)
    usage = Usage()
    told = []
    for _ in range(4):
        standing, usage = take(limits, usage, now_ns=NOON)
        told.append(standing)
    assert told == [
        Standing(True, "requests", 3, 2, 0.5),
        Standing(True, "requests", 3, 1, 1.0),
        Standing(True, "requests", 3, 0, 1.5),
        Standing(False, "requests", 3, 0, 1.5, 0.5),
    ]


def test_what_was_refused_has_cost_nothing() -> None:
    limits = RequestLimits(requests_per_s=1, burst=1, rows_per_day=10)
    _, usage = take(limits, Usage(), now_ns=NOON, rows=4)
    for _ in range(100):
        standing, after = take(limits, usage, now_ns=NOON + 1)
        assert standing is not None
        assert not standing.admitted
        assert after is usage
    standing, _ = take(limits, usage, now_ns=NOON + S, rows=6)
    assert standing is not None
    assert standing.admitted


def test_rows_are_counted_by_the_day_of_utc() -> None:
    limits = RequestLimits(rows_per_day=100)
    standing, usage = take(limits, Usage(), now_ns=NOON, rows=60)
    assert standing == Standing(True, "rows", 100, 40, 12 * 3600.0)
    standing, usage = take(limits, usage, now_ns=NOON + S, rows=41)
    assert standing == Standing(False, "rows", 100, 40, 12 * 3600.0 - 1, 12 * 3600.0 - 1)
    standing, usage = take(limits, usage, now_ns=NOON + 2 * S, rows=40)
    assert standing is not None
    assert (standing.admitted, standing.remaining) == (True, 0)
    standing, usage = take(limits, usage, now_ns=NOON + 12 * 3600 * S, rows=100)
    assert standing is not None
    assert standing.admitted
    assert standing.reset_s == 86_400.0


def test_a_request_that_no_day_would_admit_is_told_so() -> None:
    standing, _ = take(RequestLimits(rows_per_day=10), Usage(), now_ns=NOON, rows=11)
    assert standing is not None
    assert math.isinf(standing.retry_after_s)
    standing, _ = take(RequestLimits(requests_per_s=1, burst=2), Usage(), now_ns=NOON, requests=3)
    assert standing is not None
    assert math.isinf(standing.retry_after_s)


def test_of_two_limits_the_nearer_one_is_told_and_both_or_none_are_taken() -> None:
    limits = RequestLimits(requests_per_s=1, burst=10, rows_per_day=100)
    standing, usage = take(limits, Usage(), now_ns=NOON, rows=1)
    assert standing is not None
    assert standing.kind == "requests"
    standing, usage = take(limits, usage, now_ns=NOON, rows=90)
    assert standing is not None
    assert (standing.kind, standing.remaining) == ("rows", 9)
    standing, after = take(limits, usage, now_ns=NOON, rows=10)
    assert standing is not None
    assert (standing.kind, standing.admitted) == ("rows", False)
    assert after is usage
    assert drain(limits, usage, NOON)[0] == 8


def test_requests_and_rows_can_be_asked_for_apart() -> None:
    """A door counts the request at its head, and its rows once it has read them."""
    limits = RequestLimits(requests_per_s=1, burst=1, rows_per_day=5)
    standing, usage = take(limits, Usage(), now_ns=NOON)
    assert standing is not None
    assert standing.admitted
    standing, usage = take(limits, usage, now_ns=NOON, requests=0, rows=5)
    assert standing is not None
    assert standing.admitted
    standing, _ = take(limits, usage, now_ns=NOON, requests=0, rows=1)
    assert standing is not None
    assert not standing.admitted


def test_rows_are_given_back_but_never_more_than_were_taken() -> None:
    limits = RequestLimits(rows_per_day=100)
    _, usage = take(limits, Usage(), now_ns=NOON, rows=60)
    _, usage = take(limits, usage, now_ns=NOON, requests=0, rows=-20)
    assert usage.rows == 40
    lowered, usage = take(RequestLimits(rows_per_day=10), usage, now_ns=NOON, requests=0, rows=-5)
    assert lowered is not None
    assert (lowered.admitted, lowered.remaining, usage.rows) == (True, 0, 35)
    refused, after = take(RequestLimits(rows_per_day=10), usage, now_ns=NOON, requests=0, rows=1)
    assert refused is not None
    assert (refused.admitted, after) == (False, usage)
    tomorrow, usage = take(limits, usage, now_ns=NOON + 12 * 3600 * S, requests=0, rows=-20)
    assert tomorrow is not None
    assert (tomorrow.remaining, usage.rows) == (100, 0)


def test_no_limits_no_answer() -> None:
    assert take(RequestLimits(), Usage(), now_ns=NOON, rows=5) == (None, Usage())


def test_a_clock_set_back_an_hour_locks_nobody_out() -> None:
    limits = RequestLimits(requests_per_s=1, burst=5)
    _, usage = drain(limits, Usage(), NOON)
    standing, usage = take(limits, usage, now_ns=NOON - 3600 * S)
    assert standing is not None
    assert standing.retry_after_s == 1.0
    assert drain(limits, usage, NOON - 3600 * S + S)[0] == 1


def test_a_limit_that_is_lowered_holds_at_once() -> None:
    _, usage = drain(RequestLimits(requests_per_s=1, burst=1000), Usage(), NOON)
    standing, _ = take(RequestLimits(requests_per_s=1, burst=2), usage, now_ns=NOON)
    assert standing is not None
    assert standing.retry_after_s == 1.0


def test_when_an_entry_may_be_forgotten() -> None:
    limits = RequestLimits(requests_per_s=1, burst=5, rows_per_day=10)
    assert is_idle(Usage(), now_ns=NOON)
    _, usage = take(limits, Usage(), now_ns=NOON)
    assert not is_idle(usage, now_ns=NOON)
    assert is_idle(usage, now_ns=NOON + S)
    _, usage = take(limits, Usage(), now_ns=NOON, requests=0, rows=1)
    assert not is_idle(usage, now_ns=NOON + S)
    assert is_idle(usage, now_ns=NOON + 12 * 3600 * S)


@settings(max_examples=200)
@given(
    rate=st.sampled_from([0.1, 1.0, 3.0, 7.5, 100.0, 30_000.0]),
    burst=st.integers(1, 50),
    steps=st.lists(st.integers(0, 3 * S), min_size=1, max_size=60),
)
def test_against_a_bucket_in_exact_arithmetic(rate: float, burst: int, steps: list[int]) -> None:
    """Token bucket in fractions: full at first, `rate` a second, one token a request."""
    limits = RequestLimits(requests_per_s=rate, burst=burst)
    tokens, now, usage = Fraction(burst), NOON, Usage()
    for step in steps:
        now += step
        tokens = min(Fraction(burst), tokens + Fraction(rate) * step / S)
        close = abs(tokens - 1) < Fraction(1, 10**6)  # less than rounding: either answer is right
        standing, usage = take(limits, usage, now_ns=now)
        assert standing is not None
        if not close:
            assert standing.admitted is (tokens >= 1)
        if standing.admitted:
            tokens -= 1
            assert abs(standing.remaining - math.floor(max(tokens, 0))) <= (
                1 if abs(tokens - round(tokens)) < Fraction(1, 10**6) else 0
            )
        else:
            again, _ = take(limits, usage, now_ns=now + math.ceil(standing.retry_after_s * S))
            assert again is not None
            assert again.admitted


@given(st.lists(st.tuples(st.integers(-5 * S, 20 * S), st.integers(0, 3), st.integers(0, 30)), max_size=40))
def test_whatever_the_clock_does_the_answers_are_sane(steps: list[tuple[int, int, int]]) -> None:
    limits = RequestLimits(requests_per_s=2, burst=4, rows_per_day=50)
    now, usage = NOON, Usage()
    for step, requests, rows in steps:
        now += step
        standing, usage = take(limits, usage, now_ns=now, requests=requests, rows=rows)
        assert standing is not None
        assert 0 <= standing.remaining <= standing.limit
        assert standing.reset_s >= 0
        assert (standing.retry_after_s == 0) is standing.admitted
        assert 0 <= usage.rows <= 50


def test_a_long_run_at_three_a_second_gains_no_token() -> None:
    limits = RequestLimits(requests_per_s=3, burst=1)
    admitted, usage, now = 0, Usage(), NOON
    for _ in range(20_000):
        standing, usage = take(limits, usage, now_ns=now)
        assert standing is not None
        admitted += standing.admitted
        now += 10_000_019  # about 100 tries a second
    elapsed = Fraction(now - 10_000_019 - NOON, S)
    assert admitted <= 1 + math.floor(3 * elapsed)
