"""What the tests of the gRPC doors stand on: a door over a StubService on a loop of its own, and a plain client."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import uvloop

from slipway.infer.guard import UNGUARDED, Guard
from slipway.infer.protobuf.messages import INFERENCE, POOL, class_of
from slipway.testing.service import StubService
from slipway.transports.grpc.door import GrpcDoor, open_grpc_door

KINDS = ("native", "grpcio")
MAX_MESSAGE_BYTES = 4 * 2**20
T = TypeVar("T")

Infer = class_of(POOL.FindMessageTypeByName("inference.ModelInferRequest"))


class Stand:
    """An open door: `service` to turn the knobs of, `channel` to call through."""

    def __init__(self, service: StubService, door: GrpcDoor, loop: asyncio.AbstractEventLoop) -> None:
        self.service, self.door, self._loop = service, door, loop
        self.channel = connect(door.port)

    def call(self, method: str, *, service: str = INFERENCE, timeout: float = 10, **fields: Any) -> Any:
        """One unary call with the fields of its request; the parsed answer. Raises grpc.RpcError."""
        described = POOL.FindServiceByName(service).methods_by_name[method]
        payload = build(class_of(described.input_type), fields).SerializeToString()
        return class_of(described.output_type).FromString(self.send(method, payload, service=service, timeout=timeout))

    def send(
        self, method: str, payload: bytes, *, service: str = INFERENCE, timeout: float = 10, **options: Any
    ) -> Any:
        return self.channel.unary_unary(f"/{service}/{method}")(payload, timeout=timeout, **options)

    def start(self, method: str, payload: bytes, **options: Any) -> Any:
        return self.channel.unary_unary(f"/{INFERENCE}/{method}").future(payload, **options)

    def infer(self, message: Any, **options: Any) -> Any:
        answer_class = class_of(POOL.FindMessageTypeByName("inference.ModelInferResponse"))
        return answer_class.FromString(self.send("ModelInfer", message.SerializeToString(), **options))

    def on_loop(self, function: Callable[[], T]) -> T:
        """Run it where the service runs."""

        async def run() -> T:
            return function()

        return self.wait(run())

    def wait(self, awaitable: Awaitable[T], timeout_s: float = 20) -> T:
        async def run() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout_s)

    def begin(self, awaitable: Awaitable[T]) -> Any:
        async def run() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self._loop)


def connect(port: int) -> grpc.Channel:
    options = [
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, as another process would have
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=options)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def stand(kind: str, *, guard: Guard = UNGUARDED, **options: Any) -> Iterator[Stand]:
    """A door of this kind, closed at the end if the test did not."""
    with running_loop() as loop:
        service = StubService()
        service.guard = guard

        async def open_it() -> GrpcDoor:
            return await open_grpc_door(service, kind=kind, **{"max_message_bytes": MAX_MESSAGE_BYTES, **options})

        door = asyncio.run_coroutine_threadsafe(open_it(), loop).result(20)
        assert door.kind == kind  # the case proves which implementation ran
        found = Stand(service, door, loop)
        closed = False

        async def close(drain_s: float) -> None:
            nonlocal closed
            closed = True
            await type(door).close(door, drain_s)

        door.close = close  # type: ignore[method-assign]
        try:
            yield found
        finally:
            found.channel.close()
            if not closed:
                found.wait(door.close(0))


def reset(service: StubService) -> None:
    """All knobs back, for the next test."""
    service.__init__()  # type: ignore[misc]


def build(kind: Any, fields: dict[str, Any]) -> Any:
    """A message from its fields. Old protobuf takes no dicts as values of a map, so `parameters` are set one by one."""
    parameters = fields.pop("parameters", {})
    message = kind(**fields)
    for name, value in parameters.items():
        message.parameters[name].MergeFrom(type(message.parameters[name])(**value))
    return message


def affine(*numbers: float, **fields: Any) -> Any:
    """A request of the model `affine`: y = 2x + 1."""
    numbers = numbers or (1, 2, 3, 4)
    message = build(Infer, {"model_name": "affine", **fields})
    message.inputs.add(name="x", datatype="FP32", shape=[len(numbers) // 4, 4])
    message.raw_input_contents.append(struct.pack(f"<{len(numbers)}f", *numbers))
    return message


def numbers_of(answer: Any) -> list[float]:
    data = answer.raw_output_contents[0]
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def failure(call: Callable[[], Any]) -> grpc.RpcError:
    try:
        found = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"expected an error, got {found!r}")


def trailers(error: Any) -> dict[str, str]:
    return dict(error.trailing_metadata())


def until(condition: Callable[[], Any], timeout_s: float = 10) -> None:
    """Poll until it is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
