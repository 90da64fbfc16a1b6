"""What every runtime does alike with a batch: count its rows, answer none, check what came out."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.errors import InvalidOutput
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor


def no_rows(signature: Signature, inputs: Sequence[Tensor]) -> bool:
    """Whether there is nothing to compute: many models fail on an empty batch, and its answer is known."""
    return signature.batchable and bool(inputs) and inputs[0].shape[0] == 0


def empty_answer(signature: Signature) -> list[Tensor]:
    """All outputs with no rows; a size that only the model knows is 0 too."""
    return [
        Tensor(spec.name, spec.datatype, (0, *(max(size, 0) for size in spec.shape[1:])), b"")
        for spec in signature.outputs
    ]


def check_output(spec: TensorSpec, shape: tuple[int, ...], rows: int) -> None:
    """Raise InvalidOutput unless `shape` is what `spec` promises; `rows` is -1 where nobody counts rows."""
    wanted = spec.shape
    if len(shape) != len(wanted) or any(size not in (-1, got) for size, got in zip(wanted, shape, strict=True)):
        raise InvalidOutput(
            f"the model's output {spec.name!r} has shape {list(shape)}, expected {list(wanted)} (-1 is any size)"
        )
    if rows >= 0 and shape[0] != rows:
        raise InvalidOutput(f"the model's output {spec.name!r} has {shape[0]} rows for {rows} rows of input")
