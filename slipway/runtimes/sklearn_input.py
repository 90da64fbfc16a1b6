"""What a scikit-learn model takes: rows of numbers, a table with named columns, or texts.

Estimators remember how many columns they were trained on and, if it was a DataFrame, what those were called, but not
what was in them. So encoders and vectorizers inside of the model are asked: theirs are columns of text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from slipway.errors import InvalidInput, LoadFailure, MissingExtra
from slipway.infer.arrays import Array, to_array, to_tensor
from slipway.infer.signature import TensorSpec
from slipway.infer.tensor import Tensor
from slipway.runtimes.declared import parse_datatype
from slipway.runtimes.sklearn_columns import ColumnFacts, column_facts, first_step

NUMBERS = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32")
_TEXT = "a few words of text"


class Table:
    """From tensors to what the model's methods take, and an example row for those who have none.

    `columns` are the second way of giving the inputs; where columns differ in kind, they are the only one, in `inputs`.
    """

    inputs: tuple[TensorSpec, ...]
    columns: tuple[TensorSpec, ...] = ()

    def rows(self, inputs: Sequence[Tensor]) -> Any:
        raise NotImplementedError

    def examples(self) -> list[Any]:
        """Rows to try, the likeliest first; `choose` tells which one the model could compute."""
        raise NotImplementedError

    def example(self, rows: int) -> list[Tensor]:
        raise NotImplementedError

    def choose(self, example: Any) -> None:
        self.chosen = example


class Matrix(Table):
    """Numbers by position, handed on as an array."""

    def __init__(self, width: int, given: Any) -> None:
        self.inputs = (TensorSpec("input", "FP64", (-1, width), NUMBERS),)
        self._width = max(width, 1)
        self._given = given
        self.chosen: Any = self.examples()[0]

    def rows(self, inputs: Sequence[Tensor]) -> Any:
        return to_array(inputs[0])

    def examples(self) -> list[Any]:
        if self._given is not None:
            if not isinstance(self._given, list) or (self.inputs[0].shape[1] not in (-1, len(self._given))):
                raise LoadFailure(f"option example={self._given!r}: it is a list of {self.inputs[0].shape[1]} numbers")
            return [self._given]
        return [[number] * self._width for number in (0.0, 1.0, 0.5)]

    def example(self, rows: int) -> list[Tensor]:
        matrix = np.array([self.chosen] * rows, np.float64).reshape(rows, len(self.chosen))
        return [to_tensor("input", matrix, datatype="FP64")]


class Texts(Table):
    """One text a row, for models that begin with a vectorizer."""

    def __init__(self, given: Any) -> None:
        self.inputs = (TensorSpec("input", "BYTES", (-1,), column=True),)
        self._given = given
        self.chosen: Any = self.examples()[0]

    def rows(self, inputs: Sequence[Tensor]) -> Any:
        return _texts(inputs[0])

    def examples(self) -> list[Any]:
        return [_TEXT if self._given is None else str(self._given)]

    def example(self, rows: int) -> list[Tensor]:
        return [to_tensor("input", np.array([self.chosen] * rows, dtype=object))]


class Frame(Table):
    """Named columns, handed on as a pandas DataFrame, as in training."""

    def __init__(self, facts: Sequence[ColumnFacts], given: Any) -> None:
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra(
                "the model was trained on a DataFrame and needs pandas: pip install 'slipway[sklearn]'"
            ) from error
        self._make = pd.DataFrame
        self._names = [each.name for each in facts]
        self._index = pd.Index(self._names)
        self._facts = {each.name: each for each in facts}
        self._given = given
        by_column = tuple(
            TensorSpec(
                each.name,
                each.datatype,
                (-1,),
                tuple(name for name in _also(each) if name != each.datatype),
                column=True,
            )
            for each in facts
        )
        datatypes = {each.datatype for each in facts}
        if datatypes == {"BYTES"}:
            self.inputs, self.columns = (TensorSpec("input", "BYTES", (-1, len(facts))),), by_column
        elif "BYTES" in datatypes or "input" in self._names:
            self.inputs = by_column
        else:
            self.inputs, self.columns = (TensorSpec("input", "FP64", (-1, len(facts)), NUMBERS),), by_column
        self.chosen: Any = self.examples()[0]

    def rows(self, inputs: Sequence[Tensor]) -> Any:
        if self.columns and inputs[0].name == "input":
            tensor = inputs[0]
            values = _texts(tensor) if tensor.datatype == "BYTES" else to_array(tensor)
            return self._make(values, columns=self._index, copy=False)
        by_name = {each.name: each for each in inputs}
        columns = {
            name: _texts(by_name[name]).reshape(-1)
            if by_name[name].datatype == "BYTES"
            else to_array(by_name[name]).reshape(-1)
            for name in self._names
        }
        return self._make(columns, columns=self._index, copy=False)

    def examples(self) -> list[Any]:
        if self._given is not None:
            given = self._given
            if isinstance(given, list) and len(given) == len(self._names):
                given = dict(zip(self._names, given, strict=True))
            if not isinstance(given, dict) or set(given) != set(self._names):
                raise LoadFailure(f"option example={self._given!r}: it is an object with {', '.join(self._names)}")
            return [given]
        return [
            {name: number if facts.example is None else facts.example for name, facts in self._facts.items()}
            for number in (0.0, 1.0, 0.5)
        ]

    def example(self, rows: int) -> list[Tensor]:
        columns = {}
        for name, facts in self._facts.items():
            values: Array = np.empty(rows, dtype=object)
            values[:] = [self.chosen[name]] * rows
            try:
                columns[name] = to_tensor(name, values, datatype=facts.datatype, error=LoadFailure)
            except LoadFailure:
                columns[name] = to_tensor(name, values)  # a column of numbers that the model takes text in too
        if not self.columns:
            return list(columns.values())
        if self.inputs[0].datatype == "BYTES":
            matrix = np.array([[self.chosen[name] for name in self._names]] * rows, dtype=object)
            return [to_tensor("input", matrix.reshape(rows, len(self._names)), datatype="BYTES")]
        if any(tensor.datatype == "BYTES" for tensor in columns.values()):
            return list(columns.values())
        matrix = np.array([[float(self.chosen[name]) for name in self._names]] * rows, np.float64)
        return [to_tensor("input", matrix.reshape(rows, len(self._names)))]


def _also(facts: ColumnFacts) -> tuple[str, ...]:
    if facts.datatype == "BYTES":
        return ()
    return (*NUMBERS, "FP64", "BYTES") if facts.maybe_text else (*NUMBERS, "FP64")


def _texts(tensor: Tensor) -> Array:
    """BYTES as an object array of `str`. Raises InvalidInput for what is not UTF-8."""
    array = to_array(tensor)
    flat = array.reshape(-1)
    for at, item in enumerate(flat):
        try:
            flat[at] = item.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"input {tensor.name!r}: element {at} is not UTF-8 text: {error}") from error
    return array


def find_table(model: Any, *, columns: str, example: str) -> Table:
    """How to give rows to `model`; `columns` and `example` are the options of those names. Raises LoadFailure."""
    given = _example(example)
    names = getattr(model, "feature_names_in_", None)
    declared = _declared(columns, [] if names is None else [str(name) for name in names])
    if names is not None:
        return Frame(column_facts(model, [str(name) for name in names], declared), given)
    first = first_step(model)
    if hasattr(first, "build_analyzer"):
        return Texts(given)
    if type(first).__name__ in ("DictVectorizer", "FeatureHasher"):
        raise LoadFailure(
            f"the model begins with a {type(first).__name__}, which takes dicts, and no protocol here carries those; "
            "wrap it in a slipway.Model class that builds them"
        )
    width = getattr(model, "n_features_in_", None)
    return Matrix(-1 if width is None else int(width), given)


def _declared(columns: str, names: Sequence[str]) -> Mapping[str, str]:
    declared: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in columns.split(","))):
        name, _, datatype = part.rpartition(":")
        if name not in names:
            known = f"it has {', '.join(names)}" if names else "it was not trained on a DataFrame"
            raise LoadFailure(f"option columns: the model has no column {name or part!r}; {known}")
        declared[name] = parse_datatype(name, datatype)
    return declared


def _example(text: str) -> Any:
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise LoadFailure(
            f'option example={text!r} is not JSON ({error}); it looks like [5.1, 3.5] or {{"city": "Oslo"}}'
        ) from error
