from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.supervisor.line import MAX_UNSENT_BYTES, Line
from slipway.wire.control import ControlLine, encode_control
from slipway.wire.messages import Beat, ControlMessage, Drain, Progress, Ready, SetupFailed

MESSAGES: list[ControlMessage] = [Progress("load"), Ready(), Beat(0.5, 3, 1000, 0.1), SetupFailed("a", "b" * 500)]


class Ends:
    """A line with the child's end of it, inside a running loop."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.sock = ours
        self.heard: list[ControlMessage] = []
        self.lost = 0
        self.line = Line(ours, heard=self.heard.append, lost=self._lose)

    def _lose(self) -> None:
        self.lost += 1

    async def turn(self, until: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not until():
                await asyncio.sleep(0)

    def close(self) -> None:
        self.line.close()
        self.sock.close()
        self.theirs.close()


def play(act: Callable[[Ends], Awaitable[None]]) -> None:
    async def inside() -> None:
        ends = Ends()
        try:
            await act(ends)
        finally:
            ends.close()

    asyncio.run(inside())


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_messages_arrive_however_the_bytes_are_cut(cuts: list[int]) -> None:
    async def act(ends: Ends) -> None:
        data = b"".join(map(encode_control, MESSAGES))
        for size in cuts:
            ends.theirs.sendall(data[:size])
            data = data[size:]
            await asyncio.sleep(0)
        ends.theirs.sendall(data)
        await ends.turn(lambda: len(ends.heard) == len(MESSAGES))
        assert ends.heard == MESSAGES
        assert ends.lost == 0

    play(act)


@pytest.mark.parametrize("junk", [b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\x03\0\0\0" + b"\0" * 8 + b"\xc1\xc1\xc1"])
def test_nonsense_ends_the_line(junk: bytes) -> None:
    async def act(ends: Ends) -> None:
        ends.theirs.sendall(junk)
        await ends.turn(lambda: ends.lost)
        ends.line.say(Drain())
        assert (ends.heard, ends.lost) == ([], 1)

    play(act)


def test_what_a_child_said_last_is_heard_though_it_is_gone() -> None:
    async def act(ends: Ends) -> None:
        ends.theirs.sendall(encode_control(MESSAGES[3]))
        ends.theirs.close()
        ends.line.drain()
        assert ends.heard == [MESSAGES[3]]
        assert ends.lost == 1

    play(act)


def test_long_messages_wait_until_the_child_reads() -> None:
    async def act(ends: Ends) -> None:
        long = SetupFailed("x", "y" * 3_000_000)
        ends.line.say(long)
        ends.line.say(Drain())
        child = ControlLine(ends.theirs)
        assert await asyncio.to_thread(child.hear) == long
        assert await asyncio.to_thread(child.hear) == Drain()

    play(act)


def test_a_child_that_never_reads_is_given_up() -> None:
    async def act(ends: Ends) -> None:
        long = SetupFailed("x", "y" * (MAX_UNSENT_BYTES // 3))
        for _ in range(5):
            ends.line.say(long)
        assert ends.lost == 1

    play(act)
