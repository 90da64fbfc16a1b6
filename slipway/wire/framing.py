"""Frames: a fixed prefix, a head (MessagePack of one message), then the raw bytes of its tensors.

    0        4            12
    | u32 LE | u64 LE     | head bytes | body bytes |
      head     body size

Anything that is not such a frame is a WireError: the peer is of another version or broken, and the only safe thing is
to hang up. `FrameReader` is pure; `recv_frame` is for a child that has nothing else to do than to wait for its first
word. The worker's end of a link is `wire.source`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from slipway.infer.tensor import Buffer, Tensor
from slipway.wire.messages import TensorHead

PREFIX = struct.Struct("<IQ")
MAX_HEAD_BYTES = 16 * 2**20
MAX_BODY_BYTES = 4 * 2**30

_encode = msgspec.msgpack.Encoder().encode
JOIN_BELOW_BYTES = 65_536
"""Smaller frames are joined to one buffer (one short copy); larger ones go out piece by piece."""


class WireError(Exception):
    """What came is not a frame. Never shown to a client: the link is closed and its work goes elsewhere."""


def encode(message: Any, body: Sequence[Buffer] = ()) -> list[Buffer]:
    """A frame as buffers to write one after the other."""
    head = _encode(message)
    if not body:
        return [PREFIX.pack(len(head), 0) + head]
    size = 0
    for part in body:
        size += len(part)
    prefix = PREFIX.pack(len(head), size)
    if size < JOIN_BELOW_BYTES:
        return [b"".join((prefix, head, *body))]
    return [prefix + head, *body]


def heads_of(tensors: Sequence[Tensor]) -> list[TensorHead]:
    return [TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in tensors]


def tensors_of(heads: Sequence[TensorHead], body: Buffer) -> list[Tensor]:
    """The tensors of a frame; they share the body's memory. Raises WireError where the sizes disagree."""
    if len(heads) == 1:  # by far the most common case
        head = heads[0]
        if head.nbytes != len(body):
            raise WireError(f"the head of a frame speaks of {head.nbytes} bytes, its body has {len(body)}")
        return [Tensor(head.name, head.datatype, head.shape, body)]
    view = memoryview(body)
    tensors, at = [], 0
    for head in heads:
        end = at + head.nbytes
        tensors.append(Tensor(head.name, head.datatype, head.shape, view[at:end]))
        at = end
    if at != len(view):
        raise WireError(f"the heads of a frame speak of {at} bytes, its body has {len(view)}")
    return tensors


def check_prefix(head_size: int, body_size: int) -> None:
    """Raise WireError for sizes that no frame has."""
    if head_size > MAX_HEAD_BYTES or body_size > MAX_BODY_BYTES or head_size == 0:
        raise WireError(f"not a frame: a head of {head_size} and a body of {body_size} bytes")


class FrameReader:
    """Bytes in, frames out, however the bytes are cut. A frame is (head, body); the body may be a view."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes | bytearray) -> list[tuple[Buffer, Buffer]]:
        """The frames that `data` completes. Raises WireError; the reader is useless afterwards."""
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted():
                return []
            data, self._pending = self._pending, bytearray()  # handed over, not copied: the views keep it
        frames: list[tuple[Buffer, Buffer]] = []
        at, size = 0, len(data)
        view = memoryview(data)
        while size - at >= 12:
            head_size, body_size = PREFIX.unpack_from(data, at)
            check_prefix(head_size, body_size)
            body_at = at + 12 + head_size
            end = body_at + body_size
            if end > size:
                break
            frames.append((view[at + 12 : body_at], view[body_at:end]))
            at = end
        if at < size:
            self._pending += view[at:]
        return frames

    def _wanted(self) -> int:
        """Bytes that the frame at hand needs before it is worth another look."""
        if len(self._pending) < 12:
            return 12
        head_size, body_size = PREFIX.unpack_from(self._pending)
        check_prefix(head_size, body_size)
        return int(12 + head_size + body_size)


def recv_frame(link: socket.socket) -> tuple[bytes, memoryview] | None:
    """Wait for one frame on a blocking socket; None where the peer hung up between frames. Raises WireError."""
    prefix = _recv_exactly(link, 12)
    if prefix is None:
        return None
    head_size, body_size = PREFIX.unpack(prefix)
    check_prefix(head_size, body_size)
    head = _recv_exactly(link, head_size)
    body = _recv_exactly(link, body_size) if body_size else memoryview(b"")
    if head is None or body is None:
        raise WireError("the peer hung up inside a frame")
    return bytes(head), body


def _recv_exactly(link: socket.socket, size: int) -> memoryview | None:
    view = memoryview(bytearray(size))
    got = 0
    while got < size:
        count = link.recv_into(view[got:])
        if count == 0:
            if got:
                raise WireError("the peer hung up inside a frame")
            return None
        got += count
    return view
