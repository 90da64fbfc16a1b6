"""What was in the columns that a scikit-learn model was trained on, as far as its parts still know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np


class ColumnFacts(msgspec.Struct):
    """`example`: a value that the model has seen, or None where any number will do. `maybe_text`: nobody knows."""

    name: str
    datatype: str = "FP64"
    example: Any = None
    maybe_text: bool = False


def first_step(model: Any) -> Any:
    """The part that sees the input itself: through searches and pipelines, to the first step that does anything."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
            continue
        steps = getattr(model, "steps", None)
        if not isinstance(steps, list) or not steps:
            return model
        doing = [step for _, step in steps if step is not None and not isinstance(step, str)]
        if not doing:
            return model
        model = doing[0]


def column_facts(model: Any, names: Sequence[str], declared: Mapping[str, str]) -> list[ColumnFacts]:
    """One for each name. `declared` datatypes win over what the model's parts say."""
    facts = {name: ColumnFacts(name) for name in names}
    for found in _ask(model, list(names)):
        known = facts.get(found.name)
        if known is not None and (known.example is None or found.datatype == "BYTES"):
            facts[found.name] = found
    for name, datatype in declared.items():
        example = facts[name].example
        if datatype == "BYTES" and not isinstance(example, str):
            example = ""
        elif datatype != "BYTES" and isinstance(example, str):
            example = None
        facts[name] = ColumnFacts(name, datatype, example)
    return [facts[name] for name in names]


def _ask(part: Any, names: list[str]) -> Iterator[ColumnFacts]:
    """What `part`, which is given the columns `names`, knows about them."""
    if part is None or isinstance(part, str):  # "drop" and "passthrough"
        return
    if hasattr(part, "best_estimator_"):
        yield from _ask(part.best_estimator_, names)
    elif hasattr(part, "transformers_"):
        for _, inner, columns in part.transformers_:
            yield from _ask(inner, _selected(columns, names))
    elif isinstance(getattr(part, "steps", None), list):
        yield from _ask_steps([step for _, step in part.steps], names)
    elif hasattr(part, "transformer_list"):
        for _, inner in part.transformer_list:
            yield from _ask(inner, names)
    elif hasattr(part, "build_analyzer"):
        for name in names:
            yield ColumnFacts(name, "BYTES", "a few words of text")
    elif isinstance(getattr(part, "categories_", None), list):
        yield from _from_values(part.categories_, names)
    elif getattr(part, "_preprocessor", None) is not None:  # gradient boosting with categorical features
        yield from _ask(part._preprocessor, names)
    elif not type(part).__module__.startswith("sklearn.") or type(part).__name__ == "FunctionTransformer":
        for name in names:
            yield ColumnFacts(name, maybe_text=True)


def _ask_steps(steps: Sequence[Any], names: list[str]) -> Iterator[ColumnFacts]:
    """Imputers pass columns on as they are, so the step after them is asked too."""
    for step in steps:
        if step is None or isinstance(step, str):
            continue
        values = getattr(step, "statistics_", None)
        if type(step).__name__ != "SimpleImputer" or values is None or len(values) != len(names):
            yield from _ask(step, names)
            return
        yield from _from_values([[value] for value in values], names)


def _from_values(values: Sequence[Any], names: Sequence[str]) -> Iterator[ColumnFacts]:
    """From values that were seen in each column: categories, or what fills gaps."""
    for name, seen in zip(names, values, strict=False):
        real = [each for each in list(seen) if each is not None and each == each]  # NaN differs from itself
        text = next((each for each in real if isinstance(each, str)), None)
        if text is not None:
            yield ColumnFacts(name, "BYTES", str(text))
        elif real and isinstance(real[0], int | float | np.number | np.bool_):
            yield ColumnFacts(name, "FP64", float(real[0]))


def _selected(columns: Any, names: list[str]) -> list[str]:
    """The names that a ColumnTransformer's selection means: names, positions, a slice or a mask."""
    if isinstance(columns, str):
        return [columns]
    if isinstance(columns, int | np.integer):
        return [names[columns]]
    if isinstance(columns, slice):
        if isinstance(columns.start, str) or isinstance(columns.stop, str):
            start = names.index(columns.start) if columns.start is not None else 0
            stop = names.index(columns.stop) + 1 if columns.stop is not None else None  # labels include the last
            return names[start : stop : columns.step]
        return names[columns]
    listed = list(columns)
    if listed and all(isinstance(each, bool | np.bool_) for each in listed):
        return [name for name, taken in zip(names, listed, strict=True) if taken]
    return [each if isinstance(each, str) else names[each] for each in listed]
