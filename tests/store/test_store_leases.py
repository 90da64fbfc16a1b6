"""Who holds the lease after each request: the decision alone, with a clock that may do anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.store.chain import START
from slipway.store.database import Head
from slipway.store.leases import decide
from slipway.store.opening import open_store

FREE = Head(holder="", expires_at=0.0, epoch=0, audit_seq=0, audit_hash=START)


def test_take_renew_and_take_over() -> None:
    first = decide(FREE, holder="one", ttl_s=10, now=100.0)
    assert first == FREE._replace(holder="one", expires_at=110.0, epoch=1)
    assert decide(first, holder="two", ttl_s=10, now=109.0) == first
    assert decide(first, holder="one", ttl_s=10, now=105.0) == first._replace(expires_at=115.0)
    assert decide(first, holder="one", ttl_s=10, now=150.0) == first._replace(expires_at=160.0)  # nobody else came
    assert decide(first, holder="two", ttl_s=10, now=110.0) == first._replace(holder="two", expires_at=120.0, epoch=2)


def test_a_clock_set_back_an_hour_keeps_nobody_waiting_for_an_hour() -> None:
    first = decide(FREE, holder="one", ttl_s=10, now=5000.0)
    asked = decide(first, holder="two", ttl_s=10, now=1400.0)
    assert asked == first._replace(expires_at=1410.0)  # still the first one's, but for a full time at most
    assert decide(asked, holder="two", ttl_s=10, now=1410.0).holder == "two"
    assert decide(asked, holder="one", ttl_s=10, now=1405.0).expires_at == 1415.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-4000, 4000), st.floats(0.1, 20)), max_size=40))
def test_whatever_the_clock_does(requests: list[tuple[str, float, float]]) -> None:
    head, now = FREE, 10_000.0
    for holder, passed, ttl_s in requests:
        now += passed
        after = decide(head, holder=holder, ttl_s=ttl_s, now=now)
        changed = after.holder != head.holder
        assert after.epoch == head.epoch + changed  # one leader an epoch, and epochs only grow
        assert not changed or (after.holder == holder and head.expires_at <= now)
        assert now < after.expires_at <= now + ttl_s
        assert (after.audit_seq, after.audit_hash) == (head.audit_seq, head.audit_hash)
        head = after


def test_a_lease_of_nobody_or_for_no_time() -> None:
    store = open_store("sqlite://")
    for holder, ttl_s in (("", 1.0), ("one", 0.0)):
        with pytest.raises(ValueError, match="holder"):
            store.lease(holder=holder, ttl_s=ttl_s)
