"""The worker's end of a link: frames from a non-blocking socket, and answers to it, with as few calls as can be.

A small frame costs one `recv_into` and one short copy. A large body is received in place, straight into the memory
that the model will read. That memory is used again for the next large body unless somebody still holds on to it: a
model may keep its inputs, and what it kept must never change under it.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Sequence

from slipway.infer.tensor import Buffer
from slipway.wire.framing import PREFIX, WireError, check_prefix

RECV_BYTES = 65_536
KEEP_BYTES = 64 * 2**20
"""A body's memory beyond this is given back after its frame."""
SEND_PIECES = 512
"""Buffers to one `sendmsg`; the kernel takes at most 1,024."""


class FrameSource:
    """`fill` after the socket has become readable, then `take` until it gives None."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self._recv_into = link.recv_into
        self._view = memoryview(bytearray(RECV_BYTES))
        self._start = self._end = 0  # what was received and not yet taken
        self._large = bytearray()
        self._head = b""  # of the large frame on its way; its body is received up to `_got` of `_size`
        self._got = self._size = 0

    def fill(self) -> bool:
        """Receive once. False where the peer hung up between frames. Raises WireError, OSError."""
        try:
            if self._head:
                with memoryview(self._large) as whole, whole[self._got : self._size] as room:
                    count = self._recv_into(room)
                self._got += count
            elif self._end:
                count = self._recv_into(self._view[self._end :])
                self._end += count
            else:
                count = self._end = self._recv_into(self._view)
        except BlockingIOError:
            return True
        if count == 0 and (self._head or self._end):
            raise WireError("the peer hung up inside a frame")
        return count > 0

    @property
    def unread(self) -> bool:
        """Whether something was received that `take` has not given yet."""
        return self._end > 0

    def take(self) -> tuple[bytes, Buffer] | None:
        """The next (head, body) that is complete. The body is writable and belongs to whoever holds it."""
        if self._head:
            return self._take_large()
        at, have = self._start, self._end - self._start
        if have < 12:
            self._make_room()
            return None
        head_size, body_size = PREFIX.unpack_from(self._view, at)
        check_prefix(head_size, body_size)
        body_at = at + 12 + head_size
        end = body_at + body_size
        if end <= self._end:
            view = self._view
            frame = bytes(view[at + 12 : body_at]), bytearray(view[body_at:end])
            self._start = end
            if end == self._end:
                self._start = self._end = 0
            return frame
        if have < 12 + head_size:
            self._make_room(12 + head_size)
            return None
        self._begin_large(bytes(self._view[at + 12 : body_at]), body_at, body_size)
        return None

    def _make_room(self, wanted: int = 0) -> None:
        """Move the cut frame to the front, so that there is room for its rest, or at least for `wanted` of it."""
        if self._start or wanted > len(self._view):
            begun = bytes(self._view[self._start : self._end])
            if wanted > len(self._view):  # the head of a model with very many inputs
                self._view = memoryview(bytearray(wanted))
            self._view[: len(begun)] = begun
            self._start, self._end = 0, len(begun)

    def _begin_large(self, head: bytes, body_at: int, body_size: int) -> None:
        # 2: this object's reference and the question's. Whoever looks into the memory, be it through a memoryview or
        # an array, holds one more; counting exports instead would miss arrays, which let go of the buffer they use.
        if len(self._large) < body_size or sys.getrefcount(self._large) > 2:
            self._large = bytearray(body_size)
        got = self._end - body_at
        self._large[:got] = self._view[body_at : self._end]
        self._head, self._got, self._size = head, got, body_size
        self._start = self._end = 0

    def _take_large(self) -> tuple[bytes, Buffer] | None:
        if self._got < self._size:
            return None
        frame = self._head, memoryview(self._large)[: self._size]
        self._head = b""
        if len(self._large) > KEEP_BYTES:
            self._large = bytearray()
        return frame


class FrameSink:
    """Answers to a non-blocking socket. What the peer does not take at once waits in `unsent`."""

    def __init__(self, link: socket.socket) -> None:
        self._send = link.send
        self._sendmsg = link.sendmsg
        self.unsent: deque[Buffer] = deque()

    def put(self, buffers: Sequence[Buffer]) -> None:
        """Send now what goes. Raises OSError."""
        if not self.unsent and len(buffers) == 1:
            buffer = buffers[0]
            try:
                sent = self._send(buffer)
            except BlockingIOError:
                sent = 0
            if sent < len(buffer):
                self.unsent.append(memoryview(buffer)[sent:])
            return
        self.unsent.extend(buffers)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as it goes. Raises OSError."""
        unsent = self.unsent
        while unsent:
            try:
                sent = self._sendmsg([unsent[place] for place in range(min(len(unsent), SEND_PIECES))])
            except BlockingIOError:
                return
            while unsent and sent >= len(unsent[0]):
                sent -= len(unsent.popleft())
            if sent:
                unsent[0] = memoryview(unsent[0])[sent:]
