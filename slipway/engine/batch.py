"""Requests into a batch, and the outputs of a request's parts together again: shuffling bytes, never numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slipway.infer.request import Done, Request
from slipway.infer.tensor import DATATYPES, Buffer, Tensor, join_rows, row_offsets, take_rows
from slipway.schedule.queue import Entry, Slice
from slipway.wire.messages import TensorHead


class Pending(Entry):
    """A request on its way through the engine.

    `done` is None once the request was answered or given up; nothing is done for it from then on. `losses`: how
    often a replica died while it computed this request alone. `parts`: outputs so far of a request that left in
    several batches, by first row, and `missing` the rows whose outputs have not come. `offsets`: where the rows of
    its BYTES inputs begin, by place, once somebody had to know.
    """

    __slots__ = ("cancel_hook", "done", "losses", "missing", "offsets", "parts", "request")

    missing: int

    def __init__(self, request: Request, done: Done) -> None:
        self.request = request
        self.done: Done | None = done
        self.losses = 0
        self.parts: dict[int, list[Tensor]] | None = None
        self.offsets: dict[int, list[int]] | None = None
        self.cancel_hook: Any = None

    def cancel(self) -> None:
        if self.done is not None:
            self.cancel_hook(self)


class Batch:
    """What one replica computes at a time. `sent_at`: seconds, monotonic."""

    __slots__ = ("number", "rows", "sent_at", "slices")

    def __init__(self, number: int, slices: list[Slice[Pending]], sent_at: float) -> None:
        self.number = number
        self.slices = slices
        self.rows = sum([stop - start for _, start, stop in slices])
        self.sent_at = sent_at


def join_inputs(slices: Sequence[Slice[Pending]], rows: int) -> tuple[list[TensorHead], list[Buffer]]:
    """The batch as tensor heads and the buffers that follow them, without joining a byte here.

    All slices have the same names, datatypes and shapes but for the rows (the queue's key says so).
    """
    first = slices[0]
    inputs = first.entry.request.inputs
    if len(slices) == 1:
        entry, start, stop = first
        if stop - start != entry.rows:
            inputs = [_part(entry, at, start, stop) for at in range(len(inputs))]
        return [TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in inputs], [t.data for t in inputs]
    heads: list[TensorHead] = []
    body: list[Buffer] = []
    for at, tensor in enumerate(inputs):
        nbytes = 0
        for entry, start, stop in slices:
            data = entry.request.inputs[at].data
            if stop - start != entry.rows:
                data = _part(entry, at, start, stop).data
            nbytes += len(data)
            body.append(data)
        heads.append(TensorHead(tensor.name, tensor.datatype, (rows, *tensor.shape[1:]), nbytes))
    return heads, body


def add_part(entry: Pending, start: int, stop: int, outputs: list[Tensor]) -> list[Tensor] | None:
    """Keep the outputs of some rows of a request; all outputs, in order, once every row is there."""
    if entry.parts is None:
        entry.parts, entry.missing = {}, entry.rows
    entry.parts[start] = outputs
    entry.missing -= stop - start
    if entry.missing:
        return None
    ordered = [entry.parts[at] for at in sorted(entry.parts)]
    return [join_rows(column) for column in zip(*ordered, strict=True)]


def _part(entry: Pending, at: int, start: int, stop: int) -> Tensor:
    """Some rows of an input. BYTES are measured once for a request, not once for each of its many parts."""
    tensor = entry.request.inputs[at]
    if DATATYPES[tensor.datatype].item_bytes:
        return take_rows(tensor, start, stop)
    if entry.offsets is None:
        entry.offsets = {}
    offsets = entry.offsets.get(at)
    if offsets is None:
        offsets = entry.offsets[at] = row_offsets(tensor)
    data = memoryview(tensor.data)[offsets[start] : offsets[stop]]
    return Tensor(tensor.name, tensor.datatype, (stop - start, *tensor.shape[1:]), data)
