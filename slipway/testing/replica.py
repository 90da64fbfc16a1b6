"""A replica that is no process: an engine's link for tests, which answers, fails and dies when it is told to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import cast

from slipway.engine.batch import Batch, join_inputs
from slipway.engine.link import Link, LinkOwner
from slipway.errors import ModelFailure
from slipway.infer.tensor import Tensor
from slipway.testing.runtime import affine
from slipway.wire.messages import Failed

Compute = Callable[[Sequence[Tensor]], list[Tensor]]


class StubReplica:
    """Stands where a `slipway.engine.link.Link` stands; `attach()` makes it known to the engine.

    `compute` gives the outputs of a batch, and may raise ModelFailure. To look at: `batches`, all that it was sent,
    `inputs`, what was in them, `in_flight`, what it has not answered, and `closed`.
    """

    _indices = itertools.count(1)

    def __init__(self, owner: LinkOwner, *, compute: Compute = affine) -> None:
        self.index = next(self._indices)
        self.generation = 1
        self.compute = compute
        self.batches: list[Batch] = []
        self.inputs: list[list[Tensor]] = []
        self.in_flight: dict[int, Batch] = {}
        self.closed = False
        self._owner = owner

    # --- for the engine ---

    def run(self, batch: Batch) -> None:
        heads, body = join_inputs(batch.slices, batch.rows)
        whole, at = b"".join(body), 0
        tensors = []
        for head in heads:
            tensors.append(Tensor(head.name, head.datatype, head.shape, whole[at : at + head.nbytes]))
            at += head.nbytes
        self.batches.append(batch)
        self.inputs.append(tensors)
        self.in_flight[batch.number] = batch

    def retire(self) -> None:
        self._owner.detach(self._as_link())
        if not self.in_flight:
            self.close()

    def close(self) -> None:
        """As a connection that is hung up: `lost` follows, here at once."""
        if not self.closed:
            self.die()

    # --- for a test ---

    def attach(self) -> StubReplica:
        self._owner.attach(self._as_link())
        return self

    def answer(self, outputs: list[Tensor] | None = None, *, compute_ns: int = 1000) -> None:
        """Answer the batch that it holds: with `outputs`, or with what `compute` makes of its inputs."""
        number, batch = next(iter(self.in_flight.items()))
        if outputs is None:
            try:
                outputs = self.compute(self.inputs[-1])
            except ModelFailure as failure:
                self.fail(failure)
                return
        del self.in_flight[number]
        self._owner.ran(self._as_link(), batch, outputs, compute_ns)

    def fail(self, error: ModelFailure) -> None:
        number, batch = self.in_flight.popitem()
        self._owner.failed(self._as_link(), batch, Failed(number, error.code, error.message, error.correlation))

    def die(self) -> None:
        """The process is gone with whatever it held."""
        self.closed = True
        batches, self.in_flight = list(self.in_flight.values()), {}
        self._owner.lost(self._as_link(), batches)

    def _as_link(self) -> Link:
        return cast("Link", self)
