"""Frames on the corridor: however the byte stream is cut, the same frames come out; what is no frame is refused."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.infer.tensor import Buffer, Tensor
from slipway.wire.control import ControlLine, decode_control, encode_control
from slipway.wire.framing import FrameReader, WireError, encode, heads_of, recv_frame, tensors_of
from slipway.wire.messages import Beat, Failed, LinkMessage, Progress, Ran, Run, TensorHead
from slipway.wire.source import FrameSink, FrameSource

Frame = tuple[bytes, bytes]

decode_link = msgspec.msgpack.Decoder(LinkMessage).decode
patterns = st.builds(lambda size, turn: _pattern(size, turn), st.integers(65_000, 140_000), st.integers(0, 250))
bodies = st.lists(st.binary(max_size=40) | patterns, max_size=3)
messages = st.builds(Failed, st.integers(0, 2**40), st.text(max_size=20), st.text(max_size=200), st.just("c"))
streams = st.lists(st.tuples(messages, bodies), min_size=1, max_size=5)


def _pattern(size: int, turn: int) -> bytes:
    """Many bytes from two numbers; a piece in the wrong place shows."""
    period = bytes((turn + place) % 251 for place in range(251))
    return (period * (size // 251 + 1))[:size]


def wire_bytes(frames: list[tuple[Any, list[bytes]]]) -> tuple[bytes, list[Frame]]:
    """The stream, and what should come out of it."""
    stream = b"".join(bytes(part) for message, body in frames for part in encode(message, body))
    return stream, [(msgspec.msgpack.encode(message), b"".join(body)) for message, body in frames]


def plain(frames: list[tuple[Buffer, Buffer]]) -> list[Frame]:
    return [(bytes(head), bytes(body)) for head, body in frames]


def cut(data: st.DataObject, stream: bytes) -> list[bytes]:
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8), label="cuts"))
    edges = [0, *places, len(stream)]
    return [stream[start:stop] for start, stop in itertools.pairwise(edges)]


def drain(source: FrameSource) -> list[Frame]:
    found = []
    while (frame := source.take()) is not None:
        found.append((bytes(frame[0]), bytes(frame[1])))
        del frame
    return found


@given(streams, st.data())
def test_any_cut_gives_the_same_frames_to_a_reader(frames: list[tuple[Any, list[bytes]]], data: st.DataObject) -> None:
    stream, expected = wire_bytes(frames)
    reader = FrameReader()
    held = [frame for piece in cut(data, stream) for frame in reader.feed(piece)]
    assert plain(held) == expected  # all at the end: an early frame has not changed under a later one


@given(streams, st.data())
def test_any_cut_gives_the_same_frames_to_a_source(frames: list[tuple[Any, list[bytes]]], data: st.DataObject) -> None:
    stream, expected = wire_bytes(frames)
    near, far = socket.socketpair()
    with near, far:
        source, found = FrameSource(near), []
        for piece in cut(data, stream):
            rest = memoryview(piece)
            while rest:
                rest = rest[far.send(rest[:30_000], socket.MSG_DONTWAIT) :]
                assert source.fill()
                found += drain(source)
        for _ in range(40):
            assert source.fill()  # nothing there is no end
            found += drain(source)
        assert found == expected
        far.close()
        assert not source.fill()


@given(streams)
def test_a_blocking_side_reads_the_same_frames(frames: list[tuple[Any, list[bytes]]]) -> None:
    stream, expected = wire_bytes(frames)
    near, far = socket.socketpair()
    with near:
        sender = threading.Thread(target=lambda: (far.sendall(stream), far.close()))
        sender.start()
        found = [recv_frame(near) for _ in expected]
        assert plain([frame for frame in found if frame is not None]) == expected
        assert recv_frame(near) is None
        sender.join()


@given(st.binary(min_size=1, max_size=300))
def test_garbage_is_refused_or_waited_for_but_never_a_crash(garbage: bytes) -> None:
    reader = FrameReader()
    with pytest.raises(WireError) if _is_impossible(garbage) else nullcontext():
        for head, body in reader.feed(garbage):
            assert len(head) > 0 and len(body) >= 0
    near, far = socket.socketpair()
    with near, far:
        far.sendall(garbage)
        far.close()
        source = FrameSource(near)
        try:
            while source.fill():
                drain(source)
        except WireError:
            pass


def _is_impossible(garbage: bytes) -> bool:
    at = 0
    while len(garbage) - at >= 12:
        head, body = struct.unpack_from("<IQ", garbage, at)
        if head == 0 or head > 16 * 2**20 or body > 4 * 2**30:
            return True
        at += 12 + head + body
    return False


@pytest.mark.parametrize("prefix", [(0, 0), (2**31, 0), (5, 2**40)])
def test_sizes_that_no_frame_has_are_refused_everywhere(prefix: tuple[int, int]) -> None:
    stream = struct.pack("<IQ", *prefix) + b"12345"
    with pytest.raises(WireError, match="not a frame"):
        FrameReader().feed(stream)
    for read in (recv_frame, lambda link: (source := FrameSource(link)).fill() and source.take()):
        near, far = socket.socketpair()
        with near, far:
            far.sendall(stream)
            with pytest.raises(WireError, match="not a frame"):
                read(near)


@pytest.mark.parametrize("keep", [5, 20, 100_000])
def test_a_peer_that_hangs_up_inside_a_frame_is_an_error(keep: int) -> None:
    stream = b"".join(bytes(part) for part in encode(Progress("load"), [bytes(200_000)]))
    near, far = socket.socketpair()
    with near:
        source = FrameSource(near)
        rest = memoryview(stream)[:keep]
        while rest:
            rest = rest[far.send(rest[:30_000], socket.MSG_DONTWAIT) :]
            assert source.fill()
            assert source.take() is None
        far.close()
        with pytest.raises(WireError, match="inside a frame"):
            while source.fill():
                assert source.take() is None


def test_a_head_larger_than_the_buffer_is_read() -> None:
    heads = [TensorHead(f"column {number}", "FP32", (1, 1), 4) for number in range(10_000)]
    stream = b"".join(bytes(part) for part in encode(Run(7, heads), [bytes(40_000)]))
    near, far = socket.socketpair()
    with near:
        sender = threading.Thread(target=far.sendall, args=(stream,))
        sender.start()
        source = FrameSource(near)
        while (frame := source.take()) is None:
            assert source.fill()
        sender.join()
        far.close()
    run = decode_link(frame[0])
    assert isinstance(run, Run) and run.tensors == heads and len(frame[1]) == 40_000


HOLDERS = {
    "memoryview": lambda body: memoryview(body)[10:20],
    "bytearray": lambda body: body if isinstance(body, bytearray) else body.obj,
    "numpy.frombuffer": lambda body: np.frombuffer(body, "u1")[10:20],
    "numpy.ndarray": lambda body: np.ndarray((100_000,), "u1", body)[10:20],
    "slice of a view of an array": lambda body: np.ndarray((50_000, 2), "u1", body).reshape(-1).view("<i2")[4:][::2],
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_what_a_model_keeps_never_changes_under_it_and_the_rest_is_used_again(hold: Callable[[Any], Any]) -> None:
    near, far = socket.socketpair()

    def receive(fill: bytes) -> Any:
        stream = b"".join(bytes(part) for part in encode(Progress("x"), [fill * 100_000]))
        sender = threading.Thread(target=far.sendall, args=(stream,))
        sender.start()
        while (frame := source.take()) is None:
            assert source.fill()
        sender.join()
        return frame[1]

    with near, far:
        source = FrameSource(near)
        kept = hold(receive(b"a"))
        before = bytes(kept)
        second = memoryview(receive(b"b"))
        assert bytes(kept) == before
        place = id(second.obj)
        second.release()
        del second
        again = receive(b"c")
        assert id(memoryview(again).obj) == place
        again[:100_000] = bytes(100_000)  # a model may write into its input
        assert bytes(kept) == before


@given(st.lists(st.binary(max_size=40) | patterns, min_size=1, max_size=4))
def test_an_answer_arrives_whole_however_slowly_it_is_taken(parts: list[bytes]) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        sink, expected, got = FrameSink(near), b"", b""
        for part in parts:
            buffers = encode(Progress("x"), [part])
            expected += b"".join(bytes(buffer) for buffer in buffers)
            sink.put(buffers)
        while len(got) < len(expected):
            got += far.recv(50_000)
            sink.flush()
        assert got == expected and not sink.unsent


def test_tensors_share_the_memory_of_the_frame() -> None:
    tensors = [
        Tensor("a", "FP32", (1, 2), bytes(8)),
        Tensor("b", "BYTES", (0,), b""),
        Tensor("c", "INT8", (3,), b"xyz"),
    ]
    body = bytearray(b"".join(bytes(tensor.data) for tensor in tensors))
    found = tensors_of(heads_of(tensors), body)
    assert [(t.name, t.datatype, t.shape, bytes(t.data)) for t in found] == [
        (t.name, t.datatype, t.shape, bytes(t.data)) for t in tensors
    ]
    body[0] = 9
    assert found[0].data[0] == 9


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [7, 9])
def test_heads_and_body_must_agree(count: int, size: int) -> None:
    heads = [TensorHead("x", "INT8", (8 // count,), 8 // count)] * count
    with pytest.raises(WireError, match=f"speaks? of 8 bytes, its body has {size}"):
        tensors_of(heads, bytes(size))


def test_a_negative_size_is_no_head() -> None:
    evil = msgspec.msgpack.encode(["run", 1, [["x", "INT8", [4], -4], ["y", "INT8", [4], 8]]])
    with pytest.raises(msgspec.ValidationError):
        decode_link(evil)


@pytest.mark.parametrize("message", [Ran(3, [TensorHead("y", "FP32", (1,), 4)], 70), Failed(4, "x", "why", "c0")])
def test_messages_survive_the_wire(message: Any) -> None:
    ((head, _),) = FrameReader().feed(b"".join(bytes(part) for part in encode(message)))
    assert decode_link(head) == message


def test_the_control_line_speaks_and_hears_and_notices_the_end() -> None:
    near, far = socket.socketpair()
    child, parent = ControlLine(near), ControlLine(far)
    child.say(Beat(0.5, 3, 1_000, 0.1))
    assert parent.hear() == Beat(0.5, 3, 1_000, 0.1)
    assert decode_control(encode_control(Progress("load"))[12:]) == Progress("load")
    near.close()
    assert parent.hear() is None
    with pytest.raises(OSError):
        parent.say(Progress("load"))
    far.close()
