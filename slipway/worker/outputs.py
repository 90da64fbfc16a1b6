"""What a model answered, held against what its signature promises, before it can mix up the rows of several callers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from slipway.errors import InvalidOutput
from slipway.infer.signature import Signature, TensorSpec, describe
from slipway.infer.tensor import DATATYPES, Tensor

_ANY = (-1,)


def check_outputs(signature: Signature, outputs: Sequence[Tensor], rows: int) -> None:
    """Raise InvalidOutput unless `outputs` are those of the signature, in its order, with `rows` rows each.

    `rows` counts only where the model is batchable.
    """
    specs = signature.outputs
    if len(outputs) != len(specs):
        wanted = ", ".join(describe(spec) for spec in specs)
        got = ", ".join(repr(tensor.name) for tensor in outputs) or "none"
        raise InvalidOutput(f"the model gave {len(outputs)} outputs ({got}), expected {len(specs)}: {wanted}")
    for spec, tensor in zip(specs, outputs, strict=True):
        shape = tensor.shape
        if tensor.name != spec.name:
            raise InvalidOutput(f"the model gave output {tensor.name!r} where {describe(spec)} was expected")
        if tensor.datatype != spec.datatype and tensor.datatype not in spec.also:
            raise InvalidOutput(f"output {spec.name!r} has datatype {tensor.datatype}, expected {spec.datatype}")
        if shape[1:] != spec.shape[1:] or spec.shape[:1] != _ANY:  # the common case costs no loop
            _check_shape(spec, shape)
        if signature.batchable and (not shape or shape[0] != rows):
            got_rows = shape[0] if shape else "no"
            raise InvalidOutput(f"output {spec.name!r} has {got_rows} rows for {rows} rows of input, expected {rows}")
        item_bytes = DATATYPES[tensor.datatype].item_bytes
        if item_bytes and prod(shape) * item_bytes != len(tensor.data):
            raise InvalidOutput(
                f"output {spec.name!r} has {len(tensor.data)} bytes, expected {prod(shape) * item_bytes} for "
                f"{tensor.datatype} {list(shape)}"
            )


def _check_shape(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    wanted = spec.shape
    if len(shape) != len(wanted) or any(size not in (-1, got) for size, got in zip(wanted, shape, strict=True)):
        raise InvalidOutput(f"output {spec.name!r} has shape {list(shape)}, expected {list(wanted)} (-1 is any size)")
