"""The serving loop over real sockets, with a runtime that the test holds in its hand."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import InvalidInput, ModelFailure
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor
from slipway.launchers.memory import Memory
from slipway.testing.runtime import AFFINE, StubRuntime
from slipway.wire.framing import encode, heads_of, recv_frame, tensors_of
from slipway.wire.messages import Failed, LinkMessage, Ran, Run
from slipway.worker.outputs import check_outputs
from slipway.worker.pulse import Pulse
from slipway.worker.sandbox import SandboxPlan
from slipway.worker.serve import Desk, ServingLoop

_decode = msgspec.msgpack.Decoder(LinkMessage).decode


class Gateway:
    """One gateway's end of a link."""

    def __init__(self, path: Path) -> None:
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(10)
        self.link.connect(str(path))

    def ask(self, batch: int, values: Sequence[float]) -> None:
        self.send_frame(frame(batch, values))

    def send_frame(self, stream: bytes) -> None:
        self.link.sendall(stream)

    def answer(self) -> tuple[Ran | Failed | Run, list[Tensor]]:
        got = recv_frame(self.link)
        assert got is not None, "the worker hung up"
        message = _decode(got[0])
        return message, tensors_of(message.tensors, got[1]) if isinstance(message, Ran) else []

    def numbers(self) -> tuple[int, list[float]]:
        message, tensors = self.answer()
        assert isinstance(message, Ran), message
        data = bytes(tensors[0].data)
        return message.batch, list(struct.unpack(f"<{len(data) // 4}f", data))

    def is_hung_up_on(self) -> bool:
        try:
            return recv_frame(self.link) is None
        except ConnectionError:
            return True


def frame(batch: int, values: Sequence[float]) -> bytes:
    tensor = Tensor("x", "FP32", (len(values) // 4, 4), struct.pack(f"<{len(values)}f", *values))
    return b"".join(bytes(part) for part in encode(Run(batch, heads_of([tensor])), [tensor.data]))


class Worker:
    def __init__(self, runtime: StubRuntime, path: Path) -> None:
        self.runtime = runtime
        self.path = path
        self.pulse = Pulse()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(8)
        desk = Desk(runtime, pulse=self.pulse, memory=Memory(), plan=SandboxPlan(on=False))
        self.loop = ServingLoop(desk, listener)
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def stop(self) -> None:
        self.loop.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


Serve = Callable[..., Worker]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(runtime: StubRuntime | None = None) -> Worker:
            worker = Worker(runtime or StubRuntime(), tmp_path / "door")
            stack.callback(worker.stop)
            return worker

        yield start


def test_a_batch_is_answered_with_its_number_and_its_time(serve: Serve) -> None:
    worker = serve()
    gateway = Gateway(worker.path)
    gateway.ask(41, [0, 1, 2, 3])
    message, tensors = gateway.answer()
    assert isinstance(message, Ran) and message.batch == 41 and message.compute_ns > 0
    assert tensors[0].name == "y" and tensors[0].shape == (1, 4)
    assert struct.unpack("<4f", tensors[0].data) == (1, 3, 5, 7)
    assert worker.pulse.batches == 1 and worker.pulse.busy_s() == 0


def test_frames_in_the_pipeline_are_answered_in_order(serve: Serve) -> None:
    gateway = Gateway(serve().path)
    gateway.send_frame(b"".join(frame(number, [float(number)] * 4) for number in range(200)))
    answers = [gateway.numbers() for _ in range(200)]
    assert answers == [(number, [2.0 * number + 1] * 4) for number in range(200)]


def test_a_byte_at_a_time_is_served_all_the_same(serve: Serve) -> None:
    gateway = Gateway(serve().path)
    for byte in frame(5, [1, 2, 3, 4]):
        gateway.send_frame(bytes([byte]))
    assert gateway.numbers() == (5, [3, 5, 7, 9])


def test_a_large_batch_goes_both_ways(serve: Serve) -> None:
    gateway = Gateway(serve().path)
    values = [float(number % 1000) for number in range(400_000)]
    sender = threading.Thread(target=gateway.ask, args=(9, values))
    sender.start()
    assert gateway.numbers() == (9, [2 * value + 1 for value in values])
    sender.join()


def test_gateways_come_and_go_and_each_gets_its_own_answers(serve: Serve) -> None:
    worker = serve()
    first, second, leaver = (Gateway(worker.path) for _ in range(3))
    leaver.ask(1, [9] * 4)
    leaver.link.close()
    for number in range(50):
        first.ask(number, [1] * 4)
        second.ask(1000 + number, [2] * 8)
    assert [first.numbers() for _ in range(50)] == [(number, [3.0] * 4) for number in range(50)]
    assert [second.numbers() for _ in range(50)] == [(1000 + number, [5.0] * 8) for number in range(50)]
    late = Gateway(worker.path)
    late.ask(7, [0] * 4)
    assert late.numbers() == (7, [1.0] * 4)


def test_a_busy_gateway_does_not_starve_another(serve: Serve) -> None:
    worker = serve(StubRuntime(delay_s=0.002))
    busy, modest = Gateway(worker.path), Gateway(worker.path)
    busy.send_frame(b"".join(frame(number, [0] * 4) for number in range(500)))
    assert busy.numbers()[0] == 0
    modest.ask(1, [0] * 4)
    assert modest.numbers()[0] == 1
    assert len(worker.runtime.batches) < 100


def test_a_gateway_that_stops_halfway_holds_up_nobody(serve: Serve) -> None:
    worker = serve()
    halfway, other = Gateway(worker.path), Gateway(worker.path)
    halfway.send_frame(frame(1, [0] * 80_000)[:200_000])
    other.ask(2, [0] * 4)
    assert other.numbers()[0] == 2
    halfway.send_frame(frame(1, [0] * 80_000)[200_000:])
    assert halfway.numbers()[0] == 1


def test_a_gateway_that_does_not_read_holds_up_nobody_and_loses_nothing(serve: Serve) -> None:
    size = 4_000_000
    signature = Signature(AFFINE.inputs, (TensorSpec("y", "UINT8", (-1, size)),))
    runtime = StubRuntime(signature=signature, compute=lambda _: [Tensor("y", "UINT8", (1, size), bytes(size))])
    worker = serve(runtime)
    deaf, other = Gateway(worker.path), Gateway(worker.path)
    for number in range(20):
        deaf.ask(number, [0] * 4)
    other.ask(1, [0] * 4)
    assert other.answer()[0].batch == 1
    assert len(runtime.batches) < 20  # it does not compute ahead for who does not listen
    assert [deaf.answer()[0].batch for _ in range(20)] == list(range(20))


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(12),
        b"".join(bytes(part) for part in encode(Failed(1, "no", "a gateway never says this", ""))),
        frame(1, [0] * 4)[:8] + b"\x05" + frame(1, [0] * 4)[9:],
    ],
)
def test_nonsense_ends_that_link_and_no_other(serve: Serve, garbage: bytes) -> None:
    worker = serve()
    good, bad = Gateway(worker.path), Gateway(worker.path)
    bad.send_frame(garbage + bytes(4096))
    bad.link.shutdown(socket.SHUT_WR)
    assert bad.is_hung_up_on()
    good.ask(3, [0] * 4)
    assert good.numbers() == (3, [1.0] * 4)


@given(st.binary(max_size=200))
def test_no_head_can_end_the_worker(head: bytes) -> None:
    from slipway.wire.framing import WireError

    desk = Desk(StubRuntime(), pulse=Pulse(), memory=Memory(), plan=SandboxPlan(on=False))
    try:
        assert desk.answer(head, bytearray(16))
    except WireError:
        pass


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ModelFailure("the tree has no leaves"), "model_failure", "the tree has no leaves"),
        (InvalidInput("age is negative"), "invalid_input", "age is negative"),
        (KeyError("petal"), "model_failure", "KeyError: 'petal'"),
        (SystemExit(1), "model_failure", "called sys.exit(1)"),
    ],
)
def test_a_failure_is_told_with_a_correlation_and_the_traceback_stays_in_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: BaseException, code: str, words: str
) -> None:
    worker = serve(StubRuntime(fail=error))
    gateway = Gateway(worker.path)
    gateway.ask(8, [0] * 4)
    message, _ = gateway.answer()
    assert isinstance(message, Failed)
    assert (message.batch, message.code) == (8, code)
    assert words in message.message and "Traceback" not in message.message
    (record,) = [record for record in caplog.records if record.exc_info]
    assert getattr(record, "fields", {})["correlation"] == message.correlation
    worker.runtime.fail = None
    gateway.ask(9, [0] * 4)
    assert gateway.numbers()[0] == 9


def test_long_words_of_a_model_are_cut(serve: Serve) -> None:
    gateway = Gateway(serve(StubRuntime(fail=ValueError("x" * 100_000))).path)
    gateway.ask(1, [0] * 4)
    message, _ = gateway.answer()
    assert isinstance(message, Failed) and len(message.message) < 3_000 and "more characters" in message.message


def test_an_answer_with_the_wrong_rows_never_reaches_a_caller(serve: Serve) -> None:
    gateway = Gateway(serve(StubRuntime(compute=lambda _: [Tensor("y", "FP32", (3, 4), bytes(48))])).path)
    gateway.ask(1, [0] * 8)
    message, _ = gateway.answer()
    assert isinstance(message, Failed) and message.code == "invalid_output"
    assert "'y' has 3 rows for 2 rows of input, expected 2" in message.message


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([], r"gave 0 outputs \(none\), expected 1: 'y' \(FP32 \[-1, 4\]\)"),
        ([Tensor("z", "FP32", (2, 4), bytes(32))], r"gave output 'z' where 'y'"),
        ([Tensor("y", "FP64", (2, 4), bytes(64))], r"datatype FP64, expected FP32"),
        ([Tensor("y", "FP32", (2, 5), bytes(40))], r"shape \[2, 5\], expected \[-1, 4\]"),
        ([Tensor("y", "FP32", (2,), bytes(8))], r"shape \[2\], expected \[-1, 4\]"),
        ([Tensor("y", "FP32", (), bytes(4))], r"shape \[\], expected \[-1, 4\]"),
        ([Tensor("y", "FP32", (2, 4), bytes(31))], r"31 bytes, expected 32 for FP32 \[2, 4\]"),
    ],
)
def test_what_is_wrong_with_an_output_is_said(outputs: list[Tensor], words: str) -> None:
    from slipway.errors import InvalidOutput

    with pytest.raises(InvalidOutput, match=words):
        check_outputs(AFFINE, outputs, 2)


def test_outputs_that_fit_pass() -> None:
    check_outputs(AFFINE, [Tensor("y", "FP32", (2, 4), bytes(32))], 2)
    alone = Signature(AFFINE.inputs, (TensorSpec("y", "INT8", (-1, -1)), TensorSpec("s", "FP32", ())), batchable=False)
    check_outputs(alone, [Tensor("y", "INT8", (3, 2), bytes(6)), Tensor("s", "FP32", (), bytes(4))], 1)


def test_stop_answers_the_batch_at_hand_and_hangs_up(serve: Serve) -> None:
    worker = serve(StubRuntime(delay_s=0.3))
    gateway = Gateway(worker.path)
    gateway.send_frame(frame(1, [0] * 4) + frame(2, [0] * 4))
    until = time.monotonic() + 10
    while not worker.runtime.batches and time.monotonic() < until:
        time.sleep(0.001)
    assert worker.pulse.busy_s() > 0
    worker.loop.stop()
    assert gateway.numbers()[0] == 1
    assert gateway.is_hung_up_on()
    assert worker.runtime.batches == [1]
