"""What a model takes and gives. The gateway checks requests against it, so that bad input never meets a model."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import msgspec

from slipway.errors import InvalidInput
from slipway.infer.tensor import Tensor


class TensorSpec(msgspec.Struct, frozen=True):
    """`shape`: -1 is any size. `also`: further datatypes that the runtime converts by itself.

    `column`: one column of a table, for which [rows, 1] is as good as the [rows] of `shape`.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    also: tuple[str, ...] = ()
    optional: bool = False
    column: bool = False


class Signature(msgspec.Struct, frozen=True):
    """Names, datatypes and shapes of a model's inputs and outputs.

    `columns` is a second way to give the inputs, one tensor a column, for models trained on a table.
    `batchable`: the first dimension of every input and output counts rows, so that rows of several requests
    may be computed together; otherwise each request is computed alone.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    columns: tuple[TensorSpec, ...] = ()
    batchable: bool = True


def count_rows(signature: Signature, inputs: Sequence[Tensor]) -> int:
    """Check `inputs` against the signature; the rows that they hold (1 where the model is not batchable).

    Raises InvalidInput that names the tensor, what was expected and what came.
    """
    form = signature.inputs
    if signature.columns and not any(tensor.name == form[0].name for tensor in inputs):
        form = signature.columns
    if len(inputs) == 1 == len(form):  # by far the most common case
        spec, tensor = form[0], inputs[0]
        if tensor.name != spec.name:
            _refuse_names(signature, form, inputs)
        _check(spec, tensor)
        return tensor.shape[0] if signature.batchable else 1
    by_name = {spec.name: spec for spec in form}
    rows = -1
    for tensor in inputs:
        found = by_name.pop(tensor.name, None)
        if found is None:
            _refuse_names(signature, form, inputs)
            continue
        _check(found, tensor)
        if signature.batchable:
            if rows not in (-1, tensor.shape[0]):
                raise InvalidInput(
                    f"input {tensor.name!r} has {tensor.shape[0]} rows, but input {inputs[0].name!r} has {rows}; "
                    "all inputs of a request hold the same number of rows"
                )
            rows = tensor.shape[0]
    missing = [spec for spec in by_name.values() if not spec.optional]
    if missing:
        wanted = ", ".join(describe(spec) for spec in missing)
        raise InvalidInput(f"missing input {wanted}")
    return rows if rows >= 0 else 1


def batch_key(inputs: Sequence[Tensor]) -> tuple[object, ...]:
    """Requests with equal keys may share a batch: same names, datatypes and shapes but for the rows."""
    return tuple((tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in inputs)


def describe(spec: TensorSpec) -> str:
    return f"{spec.name!r} ({spec.datatype} {list(spec.shape)})"


def _check(spec: TensorSpec, tensor: Tensor) -> None:
    if tensor.datatype != spec.datatype and tensor.datatype not in spec.also:
        wanted = " or ".join((spec.datatype, *spec.also))
        raise InvalidInput(f"input {spec.name!r} has datatype {tensor.datatype}, expected {wanted}")
    shape, wanted_shape = tensor.shape, spec.shape
    fits = len(shape) == len(wanted_shape)
    if fits:
        for size, wanted_size in zip(shape, wanted_shape, strict=True):
            if size != wanted_size and wanted_size != -1:
                fits = False
    elif spec.column and len(shape) == 2 and shape[1] == 1:
        fits = True
    if not fits:
        raise InvalidInput(
            f"input {spec.name!r} has shape {list(shape)}, expected {list(wanted_shape)} (-1 is any size)"
        )


def _refuse_names(signature: Signature, form: Sequence[TensorSpec], inputs: Sequence[Tensor]) -> None:
    """Raise for the first unknown or repeated name."""
    known = [spec.name for spec in form]
    seen: set[str] = set()
    for tensor in inputs:
        if tensor.name in seen:
            raise InvalidInput(f"input {tensor.name!r} is given twice")
        seen.add(tensor.name)
        if tensor.name not in known:
            same = [name for name in known if name.lower() == tensor.name.lower()]
            near = same or get_close_matches(tensor.name[:200], known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            wanted = ", ".join(map(describe, signature.inputs))
            if signature.columns:
                wanted += ", or column by column: " + ", ".join(map(describe, signature.columns))
            raise InvalidInput(f"unknown input {tensor.name!r}{hint} the model takes {wanted}")
