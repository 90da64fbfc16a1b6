"""The control line: messages between the supervisor and a child, over one socket pair, from a blocking side."""

from __future__ import annotations

import socket

import msgspec

from slipway.wire.framing import encode, recv_frame
from slipway.wire.messages import ControlMessage

decode_control = msgspec.msgpack.Decoder(ControlMessage).decode


def encode_control(message: ControlMessage) -> bytes:
    return b"".join(encode(message))


class ControlLine:
    """The child's end, for a worker: it speaks from any thread, since a message is one `sendall` of one frame."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def fileno(self) -> int:
        return self._line.fileno()

    def say(self, message: ControlMessage) -> None:
        """Raises OSError when the supervisor is gone."""
        self._line.sendall(encode_control(message))

    def hear(self) -> ControlMessage | None:
        """Wait for the next message; None when the supervisor is gone."""
        frame = recv_frame(self._line)
        return None if frame is None else decode_control(frame[0])
