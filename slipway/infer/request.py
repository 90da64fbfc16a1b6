"""One question to a model and its answer, whatever the protocol that carried them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import msgspec

from slipway.errors import InvalidOutput, MalformedRequest, SlipwayError
from slipway.infer.guard import Allowance, Identity
from slipway.infer.tensor import DATATYPES, Tensor, row_offsets

NEVER = math.inf
"""A deadline that does not pass."""


class Request(msgspec.Struct, gc=False):
    """`outputs`: the names asked for, or None for all. `deadline`: seconds on the monotonic clock.

    `priority`: 0 is the most urgent; the scheduler clips it to its own range. `trace`: the W3C traceparent.
    `caller`: who asks, None where nobody was asked who he is. `allowance`: what is left to him, where that is limited.
    """

    model: str
    inputs: list[Tensor]
    version: str = ""
    id: str = ""
    outputs: tuple[str, ...] | None = None
    parameters: dict[str, Any] | None = None
    deadline: float = NEVER
    priority: int = 1
    trace: str = ""
    protocol: str = "http"
    caller: Identity | None = None
    allowance: Allowance | None = None


class BatchOutputs:
    """The outputs of a whole batch, cut into answers on demand.

    `check` comes before `cut`. `memo`: free for codecs, by their name: they may write all rows of a batch at once and
    take their pieces of that.
    """

    __slots__ = ("_offsets", "memo", "tensors")

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.memo: dict[str, list[bytes]] = {}
        self._offsets: dict[int, list[int]] = {}

    def check(self, rows: int) -> None:
        """Raise InvalidOutput unless every output holds `rows` rows.

        A worker checks that too; but a batch cut at wrong offsets would give one caller another's answer.
        """
        for place, output in enumerate(self.tensors):
            if not output.shape or output.shape[0] != rows:
                raise InvalidOutput(f"output {output.name!r} has shape {list(output.shape)}, expected {rows} rows")
            item_bytes = DATATYPES[output.datatype].item_bytes
            if not item_bytes:
                self._offsets[place] = _checked_offsets(output)
            elif len(output.data) != item_bytes * prod(output.shape):
                raise InvalidOutput(f"output {output.name!r} has {len(output.data)} bytes for {list(output.shape)}")

    def cut(self, start: int, stop: int) -> list[Tensor]:
        """Rows start..stop of every output; they share the batch's memory."""
        pieces = []
        for place, tensor in enumerate(self.tensors):
            shape = tensor.shape
            step = DATATYPES[tensor.datatype].item_bytes * prod(shape[1:])
            first, last = start * step, stop * step
            if not DATATYPES[tensor.datatype].item_bytes:
                offsets = self._offsets[place]
                first, last = offsets[start], offsets[stop]
            data = memoryview(tensor.data)[first:last]
            pieces.append(Tensor(tensor.name, tensor.datatype, (stop - start, *shape[1:]), data))
        return pieces


def _checked_offsets(output: Tensor) -> list[int]:
    try:
        offsets = row_offsets(output)
    except (MalformedRequest, IndexError):
        offsets = [-1]
    if offsets[-1] != len(output.data):
        raise InvalidOutput(f"output {output.name!r}: its bytes are not BYTES elements of shape {list(output.shape)}")
    return offsets


class Response:
    """`outputs`, or the single `row` of a `batch` that they are: then they are cut out when somebody asks."""

    __slots__ = ("_outputs", "batch", "id", "model", "parameters", "row", "version")

    def __init__(
        self,
        model: str,
        version: str,
        outputs: list[Tensor] | None = None,
        id: str = "",
        parameters: dict[str, Any] | None = None,
        *,
        batch: BatchOutputs | None = None,
        row: int = 0,
    ) -> None:
        self.model = model
        self.version = version
        self.id = id
        self.parameters = parameters
        self.batch = batch
        self.row = row
        self._outputs = outputs

    @property
    def outputs(self) -> list[Tensor]:
        if self._outputs is None:
            self._outputs = [] if self.batch is None else self.batch.cut(self.row, self.row + 1)
        return self._outputs


Done = Callable[[Response | SlipwayError], None]
"""Called exactly once for each request that was handed over, from the event loop's thread."""
