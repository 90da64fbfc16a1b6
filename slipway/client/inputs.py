"""From what people have (arrays, lists, dicts, DataFrames) to the tensors that a model takes.

numpy makes float64 and int64 of nearly everything, and models rarely want these. So a value is converted to the
datatype that the model declares where nothing but precision can be lost, and refused otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from slipway.errors import InvalidInput
from slipway.infer.arrays import to_tensor
from slipway.infer.signature import Signature, TensorSpec, describe
from slipway.infer.tensor import DATATYPES, Tensor


def to_inputs(value: Any, signature: Signature) -> list[Tensor]:
    """`value`: an array or nested list for a model with one input; a mapping of input name to array; a DataFrame.

    A DataFrame's columns are inputs of their own where the model has inputs of these names, otherwise the rows of
    its one input. Raises InvalidInput that says what the model takes.
    """
    if is_frame(value):
        return _from_frame(value, signature)
    if isinstance(value, Mapping):
        return [_tensor(str(name), item, _spec_of(str(name), signature)) for name, item in value.items()]
    spec = _only_input(signature)
    return [_tensor(spec.name, value, spec)]


def is_frame(value: Any) -> bool:
    """Told without importing pandas."""
    return type(value).__module__.split(".")[0] == "pandas" and hasattr(value, "columns")


def _from_frame(frame: Any, signature: Signature) -> list[Tensor]:
    columns = [str(column) for column in frame.columns]
    for form in (signature.inputs, signature.columns):
        by_name = {spec.name: spec for spec in form}
        if by_name.keys() & set(columns):
            unknown = [column for column in columns if column not in by_name]
            if unknown:
                raise InvalidInput(_unknown_input(unknown[0], form))
            return [_column(frame.iloc[:, place], by_name[name]) for place, name in enumerate(columns)]
    if len(signature.inputs) != 1:
        raise InvalidInput(f"no column of the DataFrame ({', '.join(columns)}) is an input; {_takes(signature.inputs)}")
    spec, matrix = signature.inputs[0], frame.to_numpy()
    if matrix.dtype == object and spec.datatype != "BYTES":  # numbers and text make no matrix; perhaps it takes columns
        return [_tensor(name, frame.iloc[:, place].to_numpy(), None) for place, name in enumerate(columns)]
    return [_tensor(spec.name, matrix, spec)]


def _column(series: Any, spec: TensorSpec) -> Tensor:
    values = series.to_numpy()
    return _tensor(spec.name, values.reshape(-1, 1) if len(spec.shape) == 2 else values, spec)


def _only_input(signature: Signature) -> TensorSpec:
    needed = [spec for spec in signature.inputs if not spec.optional] or list(signature.inputs)
    if len(needed) != 1:
        raise InvalidInput(f"the model has several inputs: give a dict of name to array; {_takes(signature.inputs)}")
    return needed[0]


def _spec_of(name: str, signature: Signature) -> TensorSpec | None:
    """None for a name that is not known here: the server has the last word, and models may have changed since."""
    return next((spec for spec in (*signature.inputs, *signature.columns) if spec.name == name), None)


def _tensor(name: str, value: Any, spec: TensorSpec | None) -> Tensor:
    datatype = spec.datatype if spec is not None and spec.datatype in DATATYPES else None
    try:
        return to_tensor(name, value, datatype=datatype, share=True, error=InvalidInput)
    except InvalidInput as error:
        hint = f"; the model takes {describe(spec)}" if spec is not None else ""
        raise InvalidInput(error.message.replace("tensor", "input", 1) + hint) from error


def _unknown_input(name: str, form: Sequence[TensorSpec]) -> str:
    near = get_close_matches(name, [spec.name for spec in form], n=1)
    hint = f", did you mean {near[0]!r}?" if near else ";"
    return f"the DataFrame's column {name!r} is no input{hint} {_takes(form)}"


def _takes(form: Sequence[TensorSpec]) -> str:
    return f"the model takes {', '.join(map(describe, form))}"
