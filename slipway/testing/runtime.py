"""A runtime without a framework: what a worker does can be tested before, and apart from, any real model."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

from slipway.infer.runtime import LoadOptions
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor

AFFINE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))
"""`x` [rows, 4] to `y` = 2x + 1."""


def affine(inputs: Sequence[Tensor]) -> list[Tensor]:
    tensor = inputs[0]
    form = f"<{tensor.elements}f"
    data = struct.pack(form, *[2 * item + 1 for item in struct.unpack(form, tensor.data)])
    return [Tensor("y", "FP32", tensor.shape, data)]


class StubRuntime:
    """A `slipway.infer.runtime.Runtime`. Knobs, which may change at any moment: `compute` gives the outputs,
    `fail` is raised instead, `delay_s` is slept before. To look at: `batches` (rows of each), `closed`."""

    platform = "stub"

    def __init__(
        self,
        *,
        signature: Signature = AFFINE,
        compute: Callable[[Sequence[Tensor]], list[Tensor]] = affine,
        fail: BaseException | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.signature = signature
        self.compute = compute
        self.fail = fail
        self.delay_s = delay_s
        self.batches: list[int] = []
        self.closed = False

    def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        self.batches.append(inputs[0].shape[0] if inputs and inputs[0].shape else 1)
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.fail is not None:
            raise self.fail
        return self.compute(inputs)

    def example(self, rows: int) -> list[Tensor]:
        return [Tensor("x", "FP32", (rows, 4), bytes(16 * rows))]

    def close(self) -> None:
        self.closed = True


def load(path: str, options: LoadOptions) -> StubRuntime:
    """As a runtime's own `load`; nothing is read from `path`. `options.options["delay_s"]` sets that knob."""
    del path
    return StubRuntime(delay_s=float(options.options.get("delay_s", "0")))
