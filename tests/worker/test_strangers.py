"""A replica talks to gateways alone: a model of somebody else finds its socket, and gets nothing through it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_serving_loop import Gateway, StubRuntime, frame

from slipway.launchers.memory import Memory
from slipway.wire.messages import Ran
from slipway.worker.pulse import Pulse
from slipway.worker.sandbox import SandboxPlan
from slipway.worker.serve import MAX_STRANGERS, Desk, ServingLoop

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "door"))
        listener.listen(64)
        desk = Desk(StubRuntime(), pulse=Pulse(), memory=Memory(), plan=SandboxPlan(on=False))
        loop = ServingLoop(desk, listener, token=TOKEN)
        thread = threading.Thread(target=loop.run)
        thread.start()
        yield tmp_path / "door"
        loop.stop()
        thread.join(10)
        assert not thread.is_alive()


def knock(door: Path) -> socket.socket:
    knocking = socket.socket(socket.AF_UNIX)
    knocking.settimeout(10)
    knocking.connect(str(door))
    return knocking


def asks_with(door: Path, *pieces: bytes) -> bytes:
    """What comes back, in the end or first."""
    with knock(door) as stranger, contextlib.suppress(ConnectionError):
        for piece in pieces:
            stranger.sendall(piece)
        return stranger.recv(100)
    return b""


@pytest.mark.parametrize("token", ["", TOKEN[:-1] + "0", TOKEN.upper(), "x" * 32], ids=repr)
def test_whoever_does_not_know_the_token_gets_no_answer(door: Path, token: str) -> None:
    assert asks_with(door, token.encode(), frame(1, [0, 1, 2, 3])) == b""


def test_a_token_may_come_in_pieces_and_together_with_the_first_batch(door: Path) -> None:
    whole = TOKEN.encode() + frame(7, [0, 1, 2, 3])
    for cut in (0, 1, 31, 32, 40):
        assert asks_with(door, whole[:cut], whole[cut:])


def test_many_strangers_do_not_keep_a_gateway_out(door: Path) -> None:
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(knock(door)) for _ in range(4 * MAX_STRANGERS)]
        ends = time.monotonic() + 10
        assert any(stranger.recv(1) == b"" for stranger in strangers[: 3 * MAX_STRANGERS])
        gateway = Gateway(door)
        gateway.link.sendall(TOKEN.encode())
        gateway.ask(3, [0, 1, 2, 3])
        message, _ = gateway.answer()
        assert isinstance(message, Ran) and message.batch == 3
        assert time.monotonic() < ends
