"""Made-up inputs that fit a signature: to warm a model up, and to try whether a version answers."""

from __future__ import annotations

from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import DATATYPES, Tensor, pack_bytes


def example_tensors(signature: Signature, rows: int) -> list[Tensor]:
    """Zeros (or empty strings) for every input that is not optional; `rows` of them where they count rows."""
    return [zeros(spec, rows, batchable=signature.batchable) for spec in signature.inputs if not spec.optional]


def zeros(spec: TensorSpec, rows: int, *, batchable: bool) -> Tensor:
    """A tensor of `spec` with each -1 as 1, or as `rows` where it is the first of a batchable model."""
    sizes = [1 if size == -1 else size for size in spec.shape]
    if batchable and sizes:
        sizes[0] = rows
    tensor = Tensor(spec.name, spec.datatype, tuple(sizes), b"")
    item_bytes = DATATYPES[spec.datatype].item_bytes
    tensor.data = bytes(tensor.elements * item_bytes) if item_bytes else pack_bytes([b""] * tensor.elements)
    return tensor
