"""The gateway's end of a link to one replica: batches out, answers in, and the news that the replica is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from slipway.engine.batch import Batch, join_inputs
from slipway.infer.tensor import Tensor
from slipway.wire.framing import FrameReader, WireError, encode, tensors_of
from slipway.wire.messages import Failed, LinkMessage, Ran, Run

log = logging.getLogger(__name__)
SEND_BUFFER_BYTES = 8 * 2**20
SO_SNDBUFFORCE = 32
_decode = msgspec.msgpack.Decoder(LinkMessage).decode


class LinkOwner(Protocol):
    """Who hears of what happens on a link; called on the event loop's thread."""

    def attach(self, link: Link) -> None: ...

    def detach(self, link: Link) -> None: ...

    def ran(self, link: Link, batch: Batch, outputs: Sequence[Tensor], compute_ns: int) -> None: ...

    def failed(self, link: Link, batch: Batch, failure: Failed) -> None: ...

    def lost(self, link: Link, batches: list[Batch]) -> None: ...


class Link(asyncio.Protocol):
    """One replica as an engine sees it. `in_flight`: batches it holds, in the order in which they were sent.

    `gone`: it was connected and is not any more. `token`: what the replica wants to hear first, '' for nothing.
    """

    def __init__(self, owner: LinkOwner, *, index: int, generation: int, token: str = "") -> None:
        self._owner = owner
        self._token = token.encode()
        self.index = index
        self.generation = generation
        self.in_flight: dict[int, Batch] = {}
        self.gone = False
        self._reader = FrameReader()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        _widen(transport.get_extra_info("socket"))
        if self._token:
            self._transport.write(self._token)
        self._owner.attach(self)

    def run(self, batch: Batch) -> None:
        """Send a batch. An answer, or `lost`, follows."""
        heads, body = join_inputs(batch.slices, batch.rows)
        self.in_flight[batch.number] = batch
        buffers = encode(Run(batch.number, heads), body)
        if len(buffers) == 1:
            self._transport.write(buffers[0])
        else:
            self._transport.writelines(buffers)

    def data_received(self, data: bytes) -> None:
        try:
            for head, body in self._reader.feed(data):
                message = _decode(head)
                batch = self.in_flight.get(message.batch)
                if batch is None:
                    raise WireError(f"an answer to batch {message.batch}, which was not asked")
                if type(message) is Ran:
                    outputs = tensors_of(message.tensors, body)
                    del self.in_flight[message.batch]  # not before it is known to be an answer
                    self._owner.ran(self, batch, outputs, message.compute_ns)
                elif type(message) is Failed:
                    del self.in_flight[message.batch]
                    self._owner.failed(self, batch, message)
                else:
                    raise WireError("a replica does not send Run")
        except (WireError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("replica #%d speaks another language, hanging up: %s", self.index, error)
            self._owner.detach(self)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.gone = True
        batches, self.in_flight = list(self.in_flight.values()), {}
        self._owner.lost(self, batches)

    def retire(self) -> None:
        """No further batches; hang up as soon as it holds none."""
        self._owner.detach(self)
        if not self.in_flight:
            self.close()

    def close(self) -> None:
        """Hang up; `lost` follows."""
        if self._transport is not None:
            self._transport.abort()


def _widen(link: socket.socket) -> None:
    """Let a batch of some megabytes leave at once, instead of in steps between which both ends have to wake up."""
    for option in (SO_SNDBUFFORCE, socket.SO_SNDBUF):  # the first is beyond the system's limit, for root alone
        with contextlib.suppress(OSError):
            link.setsockopt(socket.SOL_SOCKET, option, SEND_BUFFER_BYTES)
            return
