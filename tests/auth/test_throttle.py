"""Waits after failures, with the clock in the test's hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slipway.auth.guesses import MAX_FAMILIAR, MAX_REFUSED, Guesses, network
from slipway.auth.throttle import Throttle


def test_waits_begin_after_the_free_failures_and_double() -> None:
    throttle = Throttle(free=3, first_s=1.0, longest_s=8.0, forget_s=60.0)
    now = 100.0
    waits = []
    for _ in range(8):
        waits.append(throttle.failed("peer", now=now))
        now += throttle.wait_s("peer", now=now)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 8]


def test_another_key_does_not_wait() -> None:
    throttle = Throttle(free=0)
    throttle.failed("peer", now=0.0)
    assert throttle.wait_s("peer", now=0.5) == 0.5
    assert throttle.wait_s("other", now=0.5) == 0
    assert throttle.wait_s("peer", now=1.0) == 0


def test_failures_are_forgiven_after_a_minute_without_any_and_by_a_success() -> None:
    throttle = Throttle(free=1, forget_s=60.0)
    throttle.failed("a", now=0.0)
    throttle.failed("b", now=0.0)
    assert throttle.failed("a", now=59.0) == 1.0
    assert throttle.failed("b", now=60.0) == 0.0
    throttle.succeeded("a")
    assert throttle.wait_s("a", now=59.1) == 0


def test_a_clock_that_goes_back_an_hour_ends_the_wait() -> None:
    throttle = Throttle(free=0, longest_s=60.0)
    for _ in range(10):
        throttle.failed("peer", now=10_000.0)
    assert throttle.wait_s("peer", now=10_000.0) == 60.0
    assert throttle.wait_s("peer", now=6_400.0) == 0
    assert throttle.failed("peer", now=6_400.0) == 1.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-5, 100)), max_size=40))
def test_no_history_makes_anybody_wait_longer_than_the_longest(history: list[tuple[str, float]]) -> None:
    throttle = Throttle(free=1, longest_s=8.0, entries=2)
    now = 1000.0
    for key, step in history:
        now += step
        assert 0 <= throttle.wait_s(key, now=now) <= 8.0
        assert 0 <= throttle.failed(key, now=now) <= 8.0
        assert len(throttle) <= 2


def test_many_different_guesses_do_not_grow_memory() -> None:
    guesses = Guesses()
    for number in range(10_000):
        peer = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        guesses.failed("wrong_password", "", peer=peer, user=f"user{number}", now=float(number))
        guesses.succeeded(peer=peer, user=f"user{number}")
    refused = guesses.drain()
    assert len(refused) == MAX_REFUSED + 1
    assert sum(row[3] for row in refused) == 10_000
    assert refused[-1] == ("wrong_password", "", "", 10_000 - MAX_REFUSED)
    assert guesses.drain() == []
    assert len(guesses._familiar) == MAX_FAMILIAR
    assert len(guesses._users) <= 4096


def test_a_name_that_many_addresses_guess_stays_open_where_it_got_in_before() -> None:
    guesses = Guesses()
    guesses.succeeded(peer="192.0.2.1", user="alice")
    for number in range(60):
        guesses.failed("wrong_password", "alice", peer=f"198.51.100.{number}", user="alice", now=1000.0)
    assert guesses.wait_s(peer="203.0.113.9", user="alice", now=1000.0) > 0
    assert guesses.wait_s(peer="192.0.2.1", user="alice", now=1000.0) == 0
    assert guesses.wait_s(peer="203.0.113.9", user="bob", now=1000.0) == 0


def test_one_address_that_guesses_many_names_waits_for_each() -> None:
    guesses = Guesses()
    for number in range(21):
        guesses.failed("unknown_user", "", peer="192.0.2.1", user=f"user{number}", now=1000.0)
    assert guesses.wait_s(peer="192.0.2.1", user="fresh", now=1000.0) > 0
    assert guesses.wait_s(peer="192.0.2.2", user="fresh", now=1000.0) == 0


def test_addresses_of_one_subscriber_count_as_one() -> None:
    assert network("2001:db8:1:2::1") == network("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::1") != network("2001:db8:1:2::1")
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") == "192.0.2.1"
    assert network("unix") == "unix"
    assert len(network("x" * 5000)) == 64


def test_those_without_an_address_do_not_lock_each_other_out() -> None:
    """They come by a Unix socket (streams of the native gRPC door); guesses at one name say nothing about another's."""
    guesses = Guesses()
    for number in range(100):
        guesses.failed("unknown_user", "", peer="", user=f"nobody-{number}", now=0.0)
    assert guesses.wait_s(peer="", user="bob", now=0.0) == 0.0
    for number in range(100):
        guesses.failed("unknown_user", "", peer="192.0.2.1", user=f"nobody-{number}", now=0.0)
    assert guesses.wait_s(peer="192.0.2.1", user="bob", now=0.0) > 0.0
