"""ModelStreamInfer and Health.Watch over grpc.aio: what has more than one message goes there in both doors."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import grpc.aio

from slipway.errors import SlipwayError
from slipway.infer.protobuf.messages import message_class
from slipway.infer.service import Ticket
from slipway.transports.grpc.gate import Call
from slipway.transports.grpc.handlers import HEALTH_CHECK, Handlers, health_name, is_open

STREAM_IN_FLIGHT = 256
"""Requests of one stream that may be unanswered; then it is not read on, and the client's sending stalls."""

WATCH_S = 0.25
"""How often a watched health status is looked at."""


class Context(Protocol):
    """The part of grpc.aio.ServicerContext that is used here."""

    async def read(self) -> Any: ...

    async def write(self, message: bytes) -> None: ...


class InferStream:
    """One ModelStreamInfer call: reads and starts requests, writes each answer when it is there.

    Backpressure both ways: a slot is taken before a message is read and given back after its answer was written.
    """

    def __init__(self, handlers: Handlers, context: Context, call: Call) -> None:
        self._handlers, self._context, self._call = handlers, context, call
        self._slots = asyncio.Semaphore(STREAM_IN_FLIGHT)
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()  # None: all have been answered
        self._tickets: dict[int, Ticket | None] = {}
        self._reader: asyncio.Task[None] | None = None
        self.stopped = False

    async def run(self) -> None:
        """Until the client has closed its side, or `stop`, and all that came is answered."""
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._look_for_end())
        try:
            while (answer := await self._answers.get()) is not None:
                await self._context.write(answer)
                self._slots.release()
        finally:
            self._reader.cancel()
            for ticket in self._tickets.values():
                if ticket is not None:
                    ticket.cancel()
        if not self.stopped:
            await self._reader  # raises what reading raised

    def stop(self) -> None:
        """Read no more; what was read will be answered."""
        self.stopped = True
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> None:
        number = 0
        while True:
            await self._slots.acquire()
            payload = await self._context.read()
            if payload is grpc.aio.EOF:
                return
            await self._handlers.gate.enter(self._call)  # also in the middle: a credential may have been revoked
            self._start(number, payload)
            number += 1

    def _start(self, number: int, payload: bytes) -> None:
        def answer(written: bytes) -> None:
            if self._tickets.pop(number, self) is not self:
                self._answers.put_nowait(written)
                self._look_for_end()

        self._tickets[number] = None
        self._call.received = time.monotonic()
        try:
            ticket = self._handlers.stream_infer(payload, self._call, answer)
        except SlipwayError:
            del self._tickets[number]
            raise
        if number in self._tickets:
            self._tickets[number] = ticket

    def _look_for_end(self) -> None:
        if not self._tickets and self._reader is not None and self._reader.done():
            self._answers.put_nowait(None)


async def watch_health(handlers: Handlers, context: Context, payload: bytes, call: Call) -> None:
    """Write the status at once and at each change, until the client goes. Raises DecodeError, and what the guard raises
    of a model's health."""
    name = health_name(payload)
    answer_class = message_class("grpc.health.v1.HealthCheckResponse")
    told = None
    while True:
        if not is_open(HEALTH_CHECK, payload):
            await handlers.gate.enter(call)
        status = handlers.health(name, call)
        if status != told:
            await context.write(answer_class(status=status).SerializeToString())
            told = status
        await asyncio.sleep(WATCH_S)
