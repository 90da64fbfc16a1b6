"""A link over a real socket: whatever a replica sends, nobody's answer is lost, doubled or another's."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from engine_stage import ask, is_right, model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.engine.engine import Engine
from slipway.engine.link import Link
from slipway.errors import ModelFailure, NotReady, ReplicaLost, SlipwayError
from slipway.infer.request import Response
from slipway.spec.serve import ModelSpec
from slipway.wire.framing import FrameReader, encode, heads_of, tensors_of
from slipway.wire.messages import Failed, Ran, Run

import msgspec  # isort: skip

decode_run = msgspec.msgpack.Decoder(Run).decode
Behaviour = Callable[["Worker", Run, Any], None]


def honest(worker: Worker, run: Run, body: Any) -> None:
    outputs = model(tensors_of(run.tensors, body))
    worker.send(b"".join(encode(Ran(run.batch, heads_of(outputs), 1000), [tensor.data for tensor in outputs])))


class Worker(asyncio.Protocol):
    """The other end. `behaviour` is what it does with each batch."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.batches = 0
        self.gone = asyncio.get_running_loop().create_future()
        self._reader = FrameReader()
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for head, body in self._reader.feed(data):
            self.batches += 1
            self.behaviour(self, decode_run(head), body)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.gone.set_result(None)

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def hang_up(self) -> None:
        self._transport.abort()


class Corridor:
    """An engine, and workers that listen on sockets of `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = Engine(ModelSpec("m", "p"), batchable=True)
        self.workers: list[Worker] = []

    async def worker(self, behaviour: Behaviour = honest) -> Worker:
        loop = asyncio.get_running_loop()
        worker = Worker(behaviour)
        path = str(self.folder / f"{len(self.workers)}.sock")
        server = await loop.create_unix_server(lambda: worker, path)
        link = Link(self.engine, index=len(self.workers) + 1, generation=1)
        await loop.create_unix_connection(lambda: link, path)
        server.close()
        Path(path).unlink(missing_ok=True)
        self.workers.append(worker)
        return worker

    def submit(self, values: list[int]) -> asyncio.Future[Response | SlipwayError]:
        future: asyncio.Future[Response | SlipwayError] = asyncio.get_running_loop().create_future()
        self.engine.submit(ask(values), rows=len(values), done=future.set_result)  # a second answer would raise
        return future

    async def answer(self, values: list[int]) -> Response:
        outcome = await asyncio.wait_for(self.submit(values), 10)
        assert isinstance(outcome, Response), outcome
        assert is_right(values, 1, outcome)
        return outcome


def play(folder: Path, scene: Callable[[Corridor], Awaitable[None]]) -> None:
    async def run() -> None:
        corridor = Corridor(folder)
        try:
            await asyncio.wait_for(scene(corridor), 20)
        finally:
            corridor.engine.close(NotReady("over"))
            for worker in corridor.workers:
                worker.hang_up()

    uvloop.run(run())


def test_many_requests_over_two_replicas(tmp_path: Path) -> None:
    async def scene(corridor: Corridor) -> None:
        await corridor.worker()
        await corridor.worker()
        values = [[number] * (1 + number % 9) for number in range(300)]
        outcomes = await asyncio.gather(*[corridor.submit(each) for each in values])
        assert all(is_right(each, 1, got) for each, got in zip(values, outcomes, strict=True))
        assert min(worker.batches for worker in corridor.workers) > 0

    play(tmp_path, scene)


def test_answers_in_pieces_and_large_ones(tmp_path: Path) -> None:
    def slowly(worker: Worker, run: Run, body: Any) -> None:
        outputs = model(tensors_of(run.tensors, body))
        frame = b"".join(encode(Ran(run.batch, heads_of(outputs), 1), [tensor.data for tensor in outputs]))
        pieces = [frame[at : at + 1 + len(frame) // 5] for at in range(0, len(frame), 1 + len(frame) // 5)]

        async def pour() -> None:
            for piece in pieces:
                worker.send(piece)
                await asyncio.sleep(0.001)

        worker.pouring = asyncio.get_running_loop().create_task(pour())  # type: ignore[attr-defined]

    async def scene(corridor: Corridor) -> None:
        await corridor.worker(slowly)
        await corridor.answer([1, 2, 3])
        await corridor.answer(list(range(500)))

    play(tmp_path, scene)


def test_a_failure_comes_with_its_words(tmp_path: Path) -> None:
    def fail(worker: Worker, run: Run, body: Any) -> None:  # noqa: ARG001
        worker.send(b"".join(encode(Failed(run.batch, "model_failure", "no such row", "c-1"))))

    async def scene(corridor: Corridor) -> None:
        await corridor.worker(fail)
        outcome = await corridor.submit([1])
        assert isinstance(outcome, ModelFailure)
        assert (outcome.message, outcome.correlation) == ("no such row", "c-1")

    play(tmp_path, scene)


@pytest.mark.parametrize("code", ["method_not_allowed", "not_found", "draining", "", "made_up"])
def test_a_model_cannot_claim_an_error_that_is_not_its_own(tmp_path: Path, code: str) -> None:
    def fail(worker: Worker, run: Run, body: Any) -> None:  # noqa: ARG001
        worker.send(b"".join(encode(Failed(run.batch, code, "no", ""))))

    async def scene(corridor: Corridor) -> None:
        await corridor.worker(fail)
        assert type(await corridor.submit([1])) is ModelFailure

    play(tmp_path, scene)


def frame(message: Any, *body: bytes) -> bytes:
    return b"".join(encode(message, body))


def lies(run: Run, body: Any) -> dict[str, bytes]:
    """Answers that are none."""
    outputs = model(tensors_of(run.tensors, body))
    heads, datas = heads_of(outputs), [bytes(tensor.data) for tensor in outputs]
    good = frame(Ran(run.batch, heads, 1), *datas)
    return {
        "text": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "zeros": bytes(64),
        "a huge frame": b"\xff" * 64,
        "no message": struct.pack("<IQ", 3, 0) + b"abc",
        "no utf-8": struct.pack("<IQ", 5, 0) + b"\x92\xa2\xff\xfe\x01",
        "another batch": frame(Ran(run.batch + 1, heads, 1), *datas),
        "a question": frame(Run(run.batch, heads), *datas),
        "a body that is too short": frame(Ran(run.batch, heads, 1), *datas[:-1]),
        "a body that is too long": frame(Ran(run.batch, heads, 1), *datas, b"more"),
        "twice": good + good,
        "wrong types": struct.pack("<IQ", 14, 0) + msgspec.msgpack.encode(["ran", "1", [], "x", 9.0])[:14].ljust(14),
    }


LIES = sorted(lies(Run(1, heads_of(ask([1]).inputs)), b"".join(bytes(t.data) for t in ask([1]).inputs)))


@pytest.mark.parametrize("lie", LIES)
def test_a_replica_that_speaks_another_language_is_hung_up_on_and_its_work_goes_elsewhere(
    tmp_path: Path, lie: str
) -> None:
    async def scene(corridor: Corridor) -> None:
        liar = await corridor.worker(lambda worker, run, body: worker.send(lies(run, body)[lie]))
        waiting = [corridor.submit([number]) for number in range(5)]
        while not liar.batches:
            await asyncio.sleep(0)
        await corridor.worker()
        for number, future in enumerate(waiting):
            outcome = await future
            assert isinstance(outcome, Response)
            assert is_right([number], 1, outcome)
        await liar.gone
        assert corridor.engine.replicas == 1
        await corridor.answer([7])
        assert corridor.engine.unanswered == 0

    play(tmp_path, scene)


def test_a_replica_that_hangs_up_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    def half(worker: Worker, run: Run, body: Any) -> None:
        outputs = model(tensors_of(run.tensors, body))
        worker.send(frame(Ran(run.batch, heads_of(outputs), 1), *[bytes(t.data) for t in outputs])[:-3])
        asyncio.get_running_loop().call_later(0.005, worker.hang_up)

    async def scene(corridor: Corridor) -> None:
        await corridor.worker(half)
        waiting = corridor.submit([3])
        await asyncio.sleep(0)
        await corridor.worker()
        outcome = await waiting
        assert is_right([3], 1, outcome)  # type: ignore[arg-type]

    play(tmp_path, scene)


def test_no_replica_left(tmp_path: Path) -> None:
    async def scene(corridor: Corridor) -> None:
        worker = await corridor.worker()
        await corridor.answer([1])
        worker.hang_up()
        while corridor.engine.replicas:
            await asyncio.sleep(0)
        with pytest.raises(NotReady):
            corridor.submit([2])

    play(tmp_path, scene)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_never_costs_a_request(tmp_path: Path, data: Any) -> None:
    """A good answer with some bytes changed, cut or put in: hung up on, or (where only numbers changed) passed on."""
    cuts = data.draw(
        st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=3)
    )

    def damage(worker: Worker, run: Run, body: Any) -> None:
        outputs = model(tensors_of(run.tensors, body))
        answer = bytearray(frame(Ran(run.batch, heads_of(outputs), 1), *[bytes(t.data) for t in outputs]))
        for place, count, new in cuts:
            at = int(place * len(answer))
            answer[at : at + count] = new
        worker.send(bytes(answer))
        worker.hang_up_soon = asyncio.get_running_loop().call_later(0.01, worker.hang_up)  # type: ignore[attr-defined]

    async def scene(corridor: Corridor) -> None:
        worker = await corridor.worker(damage)
        waiting = [corridor.submit([number, number]) for number in range(3)]
        while not worker.batches:
            await asyncio.sleep(0)
        await corridor.worker()
        for outcome in await asyncio.gather(*waiting):
            assert isinstance(outcome, Response | ReplicaLost | ModelFailure)
        assert corridor.engine.unanswered == 0
        await worker.gone
        await corridor.answer([9])

    play(tmp_path, scene)
