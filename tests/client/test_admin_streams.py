"""Streams without a network: bytes in any pieces become the same events, each once, over broken connections."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.client.admin_protocol import AdminProtocol
from slipway.client.admin_streams import EventFollower, EventReader, LogFollower, Patience
from slipway.client.exchange import Incoming, Lost, TimedOut
from slipway.client.retry import Retry
from slipway.errors import Forbidden, InvalidInput, Unavailable
from slipway.spec.resources import Event


def event(number: int) -> Event:
    return Event(id=number, at=1.0, kind="version.ready", deployment="iris", version="v1", message="ré\nady")


def wire(*numbers: int, newline: str = "\n") -> bytes:
    lines = []
    for number in numbers:
        lines += [f"id: {number}", "event: version.ready", f"data: {msgspec.json.encode(event(number)).decode()}", ""]
    return "".join(line + newline for line in lines).encode()


def follower(after: int | None = None) -> EventFollower:
    protocol = AdminProtocol("")
    return EventFollower(protocol, Patience(protocol, Retry(attempts=3), lambda: 0.5, "http://there"), "iris", after)


@given(
    cuts=st.lists(st.integers(0, 2000), max_size=20),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_bytes_may_come_in_any_pieces(cuts: list[int], newline: str) -> None:
    data = b"retry: 1000\n\n" + wire(1, 2, 3, newline=newline) + b": still here\n\n"
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    follows = follower()
    found = [one for a, b in pairwise(places) for one in follows.feed(data[a:b])]
    assert found == [event(1), event(2), event(3)]


def test_an_id_alone_moves_on() -> None:
    follows = follower()
    assert follows.feed(b"retry: 1000\nid: 41\n\n") == []
    assert follows.outgoing().headers["last-event-id"] == "41"


def test_what_was_seen_is_asked_for_no_more_and_told_no_more() -> None:
    follows = follower(after=5)
    assert follows.outgoing().headers["last-event-id"] == "5"
    assert [one.id for one in follows.feed(wire(6, 7))] == [6, 7]
    assert follows.ended(None) is not None
    assert follows.outgoing().headers["last-event-id"] == "7"
    assert [one.id for one in follows.feed(wire(7, 8))] == [8]


def test_half_an_event_of_a_broken_connection_is_dropped() -> None:
    follows = follower()
    whole = wire(6)
    follows.feed(whole[:-10])
    follows.outgoing()
    assert [one.id for one in follows.feed(wire(6, 7))] == [6, 7]


def test_tries_are_bounded_and_what_came_refills_them() -> None:
    follows = follower()
    for _ in range(3):
        assert follows.ended(Lost("refused", sent=False)) is not None
    with pytest.raises(Unavailable, match="cannot reach http://there: refused"):
        follows.ended(Lost("refused", sent=False))
    follows = follower()
    for number in range(1, 30):
        assert follows.ended(TimedOut()) is not None
        follows.feed(wire(number))


def test_what_is_wrong_for_good_is_raised_at_once() -> None:
    body = b'{"detail": "not yours", "code": "forbidden", "status": 403}'
    with pytest.raises(Forbidden, match="not yours"):
        follower().ended(Incoming(403, {}, body))


def test_a_name_that_is_none_asks_nobody() -> None:
    protocol = AdminProtocol("")
    with pytest.raises(InvalidInput, match="cannot name a deployment"):
        LogFollower(protocol, Patience(protocol, Retry(), lambda: 0.0, "x"), "../keys", "", 1)


@given(cuts=st.lists(st.integers(0, 200), max_size=10))
def test_lines_of_a_log_come_whole(cuts: list[int]) -> None:
    data = "erste Zeile\nzweite, ü\n\nhalb".encode()
    protocol = AdminProtocol("")
    follows = LogFollower(protocol, Patience(protocol, Retry(), lambda: 0.0, "x"), "iris", "v1", 7)
    assert follows.outgoing().path == "/api/v1/deployments/iris/logs?version=v1&tail=7&follow=true"
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    found = [one for a, b in pairwise(places) for one in follows.feed(data[a:b])]
    assert found == ["erste Zeile", "zweite, ü", ""]
    assert follows.ended(None) is None


def test_comments_and_unknown_fields_are_left_aside() -> None:
    assert EventReader().feed(b": hello\nfoo: bar\nid: x\n\n") == []
