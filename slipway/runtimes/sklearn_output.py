"""What a scikit-learn model gives: which methods to call, what their answers are called, and what form they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec
import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.pipeline import Pipeline

from slipway.errors import InvalidOutput, LoadFailure
from slipway.infer.arrays import Array, datatype_of
from slipway.infer.signature import TensorSpec
from slipway.runtimes.sklearn_input import Table

# Their predict is, in scikit-learn's own code, classes_[argmax(predict_proba(X))]: one call gives both. Not so for
# others: a linear model's label comes from its decision function, whose order rounding may lose on the way to
# probabilities.
_LABEL_IS_ARGMAX = {
    ("sklearn.ensemble._forest", "RandomForestClassifier"),
    ("sklearn.ensemble._forest", "ExtraTreesClassifier"),
    ("sklearn.ensemble._bagging", "BaggingClassifier"),
    ("sklearn.calibration", "CalibratedClassifierCV"),
    ("sklearn.tree._classes", "DecisionTreeClassifier"),
    ("sklearn.tree._classes", "ExtraTreeClassifier"),
}

Compute = Callable[[Any], list[Array]]


class Answers:
    """`outputs` in order; `compute` gives their arrays for rows; `classes`: what the columns of probabilities mean."""

    def __init__(self, outputs: tuple[TensorSpec, ...], compute: Compute, classes: dict[str, list[Any]]) -> None:
        self.outputs = outputs
        self.compute = compute
        self.classes = classes

    def forget(self) -> None:
        self.compute = _closed


def _closed(rows: Any) -> list[Array]:
    raise RuntimeError(f"the model is closed and computes {len(rows)} rows no more")


class _Step(msgspec.Struct):
    """A method and what its answer is called."""

    method: str
    output: str


def find_answers(model: Any, table: Table, wanted: Sequence[str]) -> Answers:
    """Try the model on examples and see what it answers. `wanted`: output names, none for all. Raises LoadFailure."""
    before, last = _split(model)
    steps = _steps(model, last)
    if wanted:
        known = [step.output for step in steps]
        for name in wanted:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f", did you mean {near[0]!r}?" if near else ";"
                raise LoadFailure(f"option outputs: the model has no output {name!r}{hint} it has {', '.join(known)}")
        steps = [step for step in steps if step.output in wanted]
    one_call = _one_call(last, steps)

    def named(rows: Any) -> list[tuple[str, Array]]:
        for part in before:
            rows = part.transform(rows)
        return one_call(rows) if one_call else [pair for step in steps for pair in _call(last, step, rows)]

    two, three = _try(named, table)
    outputs = tuple(_spec(name, array, other) for (name, array), (_, other) in zip(two, three, strict=True))

    def compute(rows: Any) -> list[Array]:
        return [array for _, array in named(rows)]

    return Answers(outputs, compute, _classes(last, [spec.name for spec in outputs]))


def _split(model: Any) -> tuple[list[Any], Any]:
    """(steps that transform, the one that answers), so that two answers share the way there.

    Only for scikit-learn's own pipeline, whose predict is exactly this; those derived from it may do otherwise.
    """
    if type(model) is not Pipeline:
        return [], model
    before = [step for _, step in model.steps[:-1] if step is not None and step != "passthrough"]
    last = model.steps[-1][1]
    if last is None or isinstance(last, str):
        return [], model
    inner, last = _split(last)
    return before + inner, last


def _steps(model: Any, last: Any) -> list[_Step]:
    if is_classifier(model):
        steps = [_Step("predict", "label")]
        return [*steps, _Step("predict_proba", "probabilities")] if hasattr(last, "predict_proba") else steps
    if is_regressor(model):
        return [_Step("predict", "prediction")]
    kind = getattr(last, "_estimator_type", None) or _kind_by_tags(last)
    if kind == "outlier_detector" and hasattr(last, "predict"):
        steps = [_Step("predict", "label")]
        return [*steps, _Step("decision_function", "score")] if hasattr(last, "decision_function") else steps
    if kind == "clusterer" and hasattr(last, "predict"):
        return [_Step("predict", "cluster")]
    if hasattr(last, "predict"):
        steps = [_Step("predict", "prediction")]
        return [*steps, _Step("predict_proba", "probabilities")] if hasattr(last, "predict_proba") else steps
    return [_Step("transform", "output")]


def _kind_by_tags(last: Any) -> str | None:
    """`_estimator_type` went with scikit-learn 1.6, which has tags instead."""
    try:
        from sklearn.utils import get_tags

        return getattr(get_tags(last), "estimator_type", None)
    except Exception:  # an object of another library without tags
        return None


def _one_call(last: Any, steps: Sequence[_Step]) -> Callable[[Any], list[tuple[str, Array]]] | None:
    """Label and probabilities from predict_proba alone, where that is what predict does."""
    if [step.output for step in steps] != ["label", "probabilities"]:
        return None
    classes = getattr(last, "classes_", None)
    if (type(last).__module__, type(last).__name__) not in _LABEL_IS_ARGMAX or not isinstance(classes, np.ndarray):
        return None

    def both(rows: Any) -> list[tuple[str, Array]]:
        probabilities = last.predict_proba(rows)
        return [("label", classes.take(np.argmax(probabilities, axis=1))), ("probabilities", probabilities)]

    return both


def _call(last: Any, step: _Step, rows: Any) -> list[tuple[str, Array]]:
    """One answer, or for models of several targets a list of them, numbered."""
    answer = getattr(last, step.method)(rows)
    if isinstance(answer, list) and answer and all(hasattr(each, "shape") for each in answer):
        return [(f"{step.output}_{at}", _array(each)) for at, each in enumerate(answer)]
    return [(step.output, _array(answer))]


def _array(answer: Any) -> Array:
    """Sparse matrices and DataFrames as arrays."""
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def _try(
    named: Callable[[Any], list[tuple[str, Array]]], table: Table
) -> tuple[list[tuple[str, Array]], list[tuple[str, Array]]]:
    """The answers to two and to three rows of the first example that the model can compute."""
    failure: Exception | None = None
    for example in table.examples():
        table.choose(example)
        try:
            return named(table.rows(table.example(2))), named(table.rows(table.example(3)))
        except MemoryError:
            raise
        except Exception as error:
            failure = failure or error
    raise LoadFailure(
        f"the model does not compute a made-up row: {type(failure).__name__}: {failure}. Give it one that it can, such "
        "as --option 'example=[5.1, 3.5]' or --option 'example={\"city\": \"Oslo\"}'"
    ) from failure


def _spec(name: str, two: Array, three: Array) -> TensorSpec:
    if two.ndim == 0 or two.ndim != three.ndim or (two.shape[0], three.shape[0]) != (2, 3):
        raise LoadFailure(
            f"output {name!r} has shape {list(two.shape)} for 2 rows of input; it must have one row for each"
        )
    kind = two.dtype.kind
    wide = {"f": "FP64", "i": "INT64"}.get(kind) or datatype_of(two.dtype)
    if wide is None:
        raise InvalidOutput(f"output {name!r} has dtype {two.dtype}, which no protocol here can carry")
    sizes = (size if size == other else -1 for size, other in zip(two.shape[1:], three.shape[1:], strict=True))
    return TensorSpec(name, wide, (-1, *sizes))


def _classes(last: Any, outputs: Sequence[str]) -> dict[str, list[Any]]:
    """What each column of each output of probabilities stands for."""
    classes = getattr(last, "classes_", None)
    if isinstance(classes, np.ndarray) and "probabilities" in outputs:
        return {"probabilities": classes.tolist()}
    if isinstance(classes, list):
        by_output = {f"probabilities_{at}": np.asarray(each).tolist() for at, each in enumerate(classes)}
        return {name: each for name, each in by_output.items() if name in outputs}
    return {}
