"""The gateway and its replicas over real sockets: connections come, break, are made anew and are let go."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from slipway.errors import InvalidInput, NotReady, SlipwayError
from slipway.gateway.service import GatewayService
from slipway.infer.request import Request, Response
from slipway.infer.runtime import ReplicaFacts
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor
from slipway.spec.serve import ModelSpec
from slipway.testing.runtime import AFFINE, affine
from slipway.wire.framing import FrameReader, encode, heads_of, tensors_of
from slipway.wire.messages import Ran, ReplicaAddress, Routes, Run, VersionRoutes

decode_run = msgspec.msgpack.Decoder(Run).decode
ANY_WIDTH = Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1, -1)),))


class Worker:
    """Serves y = 2x + 1 on a socket, to whoever connects. `hold`: answers wait for `release`."""

    def __init__(self, path: Path, *, hold: bool = False) -> None:
        self.path = str(path)
        self.hold = hold
        self.connected: list[Any] = []
        self.connections = 0
        self.waiting: list[Callable[[], None]] = []
        self._server: Any = None

    async def listen(self) -> Worker:
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: WorkerEnd(self), self.path)
        return self

    def stop_listening(self) -> None:
        self._server.close()
        Path(self.path).unlink(missing_ok=True)

    def hang_up(self) -> None:
        for transport in tuple(self.connected):
            transport.abort()

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer()


class WorkerEnd(asyncio.Protocol):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reader = FrameReader()
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._worker.connections += 1
        self._worker.connected.append(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._worker.connected.remove(self._transport)

    def data_received(self, data: bytes) -> None:
        for head, body in self._reader.feed(data):
            run = decode_run(head)
            outputs = affine(tensors_of(run.tensors, body))
            frame = b"".join(encode(Ran(run.batch, heads_of(outputs), 5), [tensor.data for tensor in outputs]))
            if self._worker.hold:
                self._worker.waiting.append(lambda frame=frame: self._transport.write(frame))  # type: ignore[misc]
            else:
                self._transport.write(frame)


class House:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[bool] = []
        self.service = GatewayService(version="1", ask=lambda _: None, serving_changed=self.said.append)
        self.workers: list[Worker] = []

    async def worker(self, **options: Any) -> Worker:
        worker = await Worker(self.folder / f"{len(self.workers)}.sock", **options).listen()
        self.workers.append(worker)
        return worker

    def route(self, *workers: Worker, signature: Signature = AFFINE, failure: str = "", wanted: bool = True) -> None:
        places = [ReplicaAddress(self.workers.index(worker) + 1, 1, worker.path) for worker in workers]
        spec = ModelSpec("m", "p")
        facts = ReplicaFacts(signature, "stub")
        self.service.apply(Routes([VersionRoutes(spec, places, facts, failure, wanted)]))

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.002)

    def submit(self, rows: int = 1, *, width: int = 4) -> asyncio.Future[Response | SlipwayError]:
        future: asyncio.Future[Response | SlipwayError] = asyncio.get_running_loop().create_future()
        data = struct.pack(f"<{rows * width}f", *range(rows * width))
        request = Request("m", [Tensor("x", "FP32", (rows, width), data)])
        self.service.infer(request, future.set_result)
        return future

    async def answer(self, rows: int = 1) -> None:
        outcome = await asyncio.wait_for(self.submit(rows), 10)
        assert isinstance(outcome, Response), outcome
        expected = [2 * item + 1 for item in range(4 * rows)]
        assert list(struct.unpack(f"<{4 * rows}f", outcome.outputs[0].data)) == expected


def play(folder: Path, scene: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        house = House(folder)
        try:
            await asyncio.wait_for(scene(house), 20)
        finally:
            house.service.apply(Routes([]))
            for worker in house.workers:
                worker.stop_listening()
                worker.hang_up()

    uvloop.run(run())


def test_ready_once_connected(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        house.route(await house.worker(), await house.worker())
        assert not house.service.ready()
        await house.until(house.service.ready)
        await house.answer(rows=300)
        assert house.said == [True]

    play(tmp_path, scene)


def test_a_connection_that_breaks_is_made_anew(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        worker = await house.worker()
        house.route(worker)
        await house.until(house.service.ready)
        worker.hang_up()
        await house.until(lambda: not house.service.ready())
        with pytest.raises(NotReady):
            house.submit()
        await house.until(house.service.ready)
        await house.answer()
        assert (worker.connections, house.said) == (2, [True, False, True])

    play(tmp_path, scene)


def test_a_replica_that_is_not_there_yet_is_tried_until_it_is(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        worker = await house.worker()
        worker.stop_listening()
        house.route(worker)
        await asyncio.sleep(0.05)
        assert not house.service.ready()
        await worker.listen()
        await house.until(house.service.ready)
        await house.answer()

    play(tmp_path, scene)


def test_a_replica_that_is_listed_no_more_is_not_called_again(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        old, new = await house.worker(), await house.worker()
        old.stop_listening()
        house.route(old)  # in vain
        await asyncio.sleep(0.05)
        house.route(new)
        await house.until(house.service.ready)
        await old.listen()
        await house.answer()
        await asyncio.sleep(0.3)
        assert (old.connections, new.connections) == (0, 1)

    play(tmp_path, scene)


def test_a_retired_replica_finishes_what_it_holds(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        old, new = await house.worker(hold=True), await house.worker()
        house.route(old)
        await house.until(house.service.ready)
        held = house.submit()
        await house.until(lambda: old.waiting)
        house.route(new)
        await house.until(lambda: new.connected)
        await house.answer()
        assert not held.done()
        old.release()
        assert isinstance(await held, Response)
        await house.until(lambda: not old.connected)
        await asyncio.sleep(0.2)
        assert old.connections == 1

    play(tmp_path, scene)


def test_another_signature_means_another_engine_and_nothing_that_was_accepted_is_lost(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        worker = await house.worker(hold=True)
        house.route(worker)
        await house.until(house.service.ready)
        computing = house.submit()
        await house.until(lambda: worker.waiting)
        queued = house.submit()
        house.route(worker, signature=ANY_WIDTH)
        assert isinstance(await queued, NotReady)
        worker.hold = False
        worker.release()
        assert isinstance(await computing, Response)
        await house.until(house.service.ready)
        assert isinstance(await house.submit(width=3), Response)

    play(tmp_path, scene)


def test_an_unloaded_model_answers_what_waits(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        worker = await house.worker(hold=True)
        house.route(worker)
        await house.until(house.service.ready)
        computing = house.submit()
        await house.until(lambda: worker.waiting)
        queued = house.submit()
        house.route(wanted=False)
        assert isinstance(await queued, NotReady)
        worker.release()
        assert isinstance(await computing, Response)
        with pytest.raises(NotReady, match="not loaded"):
            house.submit()

    play(tmp_path, scene)


@pytest.mark.parametrize(("rows", "width", "words"), [(0, 4, "no rows"), (0, 0, "no rows"), (2**40, 0, "without any")])
def test_rows_that_are_no_work_are_refused(tmp_path: Path, rows: int, width: int, words: str) -> None:
    async def scene(house: House) -> None:
        house.route(await house.worker(), signature=ANY_WIDTH)
        await house.until(house.service.ready)
        with pytest.raises(InvalidInput, match=words):
            house.submit(rows, width=width)
        assert isinstance(await house.submit(2, width=0), Response)

    play(tmp_path, scene)


def test_shapes_that_clients_make_up_are_not_remembered_for_ever(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        house.route(await house.worker(), signature=ANY_WIDTH)
        await house.until(house.service.ready)
        (version,) = house.service.versions()
        for width in range(10_000):
            version.measure([Tensor("x", "FP32", (1, width), b"x")])
        assert len(version._forms) + len(version._keys) <= 2 * 4096
        keys = [version.measure([Tensor("x", "FP32", (1, width), b"x")])[1] for width in (1, 2, 1)]
        assert keys[0] == keys[2] != keys[1]

    play(tmp_path, scene)
