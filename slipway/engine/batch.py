"""Requests into a batch, and a batch's outputs back to the requests: shuffling bytes, never numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from slipway.errors import InvalidOutput
from slipway.infer.request import Done, Request
from slipway.infer.tensor import DATATYPES, BatchOutput, Buffer, Tensor, join_rows, row_offsets, take_rows
from slipway.schedule.queue import Entry, Slice
from slipway.wire.messages import TensorHead


class Pending(Entry):
    """A request on its way through the engine.

    `done` is None once the request was answered or given up; nothing is done for it from then on. `losses`: how
    often a replica died while it computed this request alone. `parts`: outputs so far of a request that left in
    several batches, by first row.
    """

    __slots__ = ("cancel_hook", "done", "losses", "parts", "request")

    def __init__(self, request: Request, done: Done) -> None:
        self.request = request
        self.done: Done | None = done
        self.losses = 0
        self.parts: dict[int, tuple[int, list[Tensor]]] | None = None
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
            inputs = [take_rows(tensor, start, stop) for tensor in inputs]
        return [TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in inputs], [t.data for t in inputs]
    heads: list[TensorHead] = []
    body: list[Buffer] = []
    for at, tensor in enumerate(inputs):
        nbytes = 0
        for entry, start, stop in slices:
            data = entry.request.inputs[at].data
            if stop - start != entry.rows:
                data = take_rows(entry.request.inputs[at], start, stop).data
            nbytes += len(data)
            body.append(data)
        heads.append(TensorHead(tensor.name, tensor.datatype, (rows, *tensor.shape[1:]), nbytes))
    return heads, body


def split_outputs(outputs: Sequence[Tensor], slices: Sequence[Slice[Pending]]) -> list[list[Tensor]]:
    """For each slice, its rows of every output; they share the batch's memory.

    Raises InvalidOutput where an output's rows are not the batch's (a worker checks that too; a split by wrong
    offsets would give one caller another's answer).
    """
    if len(slices) == 1:
        return [list(outputs)]
    rows = sum([stop - start for _, start, stop in slices])
    split: list[list[Tensor]] = [[] for _ in slices]
    for output in outputs:
        name, datatype, shape = output.name, output.datatype, output.shape
        if not shape or shape[0] != rows:
            raise InvalidOutput(f"output {name!r} has shape {list(shape)}, expected {rows} rows")
        rest = shape[1:]
        whole = BatchOutput(output)
        view = memoryview(output.data)
        step = DATATYPES[datatype].item_bytes * prod(rest)
        offsets = None if DATATYPES[datatype].item_bytes else row_offsets(output)
        row = 0
        for mine, (_, start, stop) in zip(split, slices, strict=True):
            count = stop - start
            end = row + count
            data = view[row * step : end * step] if offsets is None else view[offsets[row] : offsets[end]]
            mine.append(Tensor(name, datatype, (count, *rest), data, whole, row))
            row = end
    return split


def add_part(entry: Pending, start: int, stop: int, outputs: list[Tensor]) -> list[Tensor] | None:
    """Keep the outputs of some rows of a request; all outputs, in order, once every row is there."""
    if entry.parts is None:
        entry.parts = {}
    entry.parts[start] = (stop - start, outputs)
    if sum(count for count, _ in entry.parts.values()) < entry.rows:
        return None
    ordered = [entry.parts[at][1] for at in sorted(entry.parts)]
    return [join_rows(column) for column in zip(*ordered, strict=True)]
