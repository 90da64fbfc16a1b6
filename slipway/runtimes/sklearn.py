"""scikit-learn estimators and pipelines, and what follows their interface: xgboost, lightgbm and catboost wrappers."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import threadpoolctl  # type: ignore[import-untyped]
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from slipway.errors import InvalidInput, LoadFailure, ModelFailure, SlipwayError, UnknownFormat, UnsafeModel
from slipway.infer.arrays import Array, to_tensor
from slipway.infer.runtime import LoadOptions
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor
from slipway.runtimes.batches import empty_answer, no_rows
from slipway.runtimes.options import OptionReader
from slipway.runtimes.pickle_scan import load_pickle
from slipway.runtimes.recognise import Found, find_model_for
from slipway.runtimes.sklearn_input import Table, find_table
from slipway.runtimes.sklearn_output import Answers, find_answers

_log = logging.getLogger(__name__)

_AT_FAULT = re.compile(r"Input \w+ contains|Found unknown categories|could not convert string|Missing input")
"""Beginnings of what scikit-learn says when the data, and not the model, is to blame."""


def load(path: str, options: LoadOptions) -> SklearnRuntime:
    """Load a pickle, joblib, cloudpickle or skops file, or the folder around one.

    Options: `outputs=label,probabilities` (compute only these), `columns=city:BYTES,age:INT64` (datatypes of columns,
    where the model does not tell), `example=[5.1,3.5,1.4,0.2]` or `example={"city":"Oslo","age":3}` (a row that the
    model can compute, where zeros will not do). Raises UnsafeModel, MissingExtra, LoadFailure.
    """
    read = OptionReader("sklearn", options.options)
    wanted = tuple(name.strip() for name in read.text("outputs").split(",") if name.strip())
    columns = read.text("columns")
    example = read.text("example")
    read.finish()
    if options.device != "cpu":
        raise LoadFailure(f"scikit-learn computes on the CPU; device {options.device!r} is not for it")
    threadpoolctl.threadpool_limits(options.threads)
    found = _find(path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = (
            _load_skops(found.path, options)
            if found.format == "skops"
            else load_pickle(found.path, trusted=options.trust_pickle)
        )
    _report(said)
    _check_model(found.path, model)
    _limit_jobs(model, options.threads)
    table = find_table(model, columns=columns, example=example)
    return SklearnRuntime(model, table, wanted, f"sklearn_{found.format}")


def _find(path: str) -> Found:
    """The file and its format; a file that only a person could recognise is tried as a pickle."""
    try:
        return find_model_for("sklearn", path)
    except UnknownFormat:
        if Path(path).is_file():
            return Found("sklearn", "pickle", path)
        raise


def _load_skops(path: str, options: LoadOptions) -> Any:
    """skops has a list of trusted types of its own; what is not on it is refused with the names."""
    import skops.io

    try:
        untrusted = skops.io.get_untrusted_types(file=path)
        if untrusted and not options.trust_pickle:
            raise UnsafeModel(
                f"{path!r} was not loaded: it holds types that skops does not trust by itself: "
                f"{', '.join(sorted(untrusted))}. If you trust its origin as you trust a program, allow it with "
                "--trust-pickle"
            )
        return skops.io.load(path, trusted=untrusted)
    except (SlipwayError, MemoryError):
        raise
    except Exception as error:
        raise LoadFailure(f"skops cannot load {path!r}: {type(error).__name__}: {error}") from error


def _report(said: Sequence[warnings.WarningMessage]) -> None:
    """Each pair of versions once; other warnings are of no use to those who serve."""
    versions = {
        (each.message.original_sklearn_version, each.message.current_sklearn_version)
        for each in said
        if isinstance(each.message, InconsistentVersionWarning)
    }
    for saved, here in sorted(versions):
        _log.warning(
            "the model was saved with scikit-learn %s and runs on %s, which may give wrong answers; install "
            "scikit-learn==%s, or train again",
            saved,
            here,
            saved,
        )


def _check_model(path: str, model: Any) -> None:
    if isinstance(model, type):
        raise LoadFailure(f"{path!r} holds the class {model.__name__}, not a fitted model made from it")
    if not any(hasattr(model, method) for method in ("predict", "transform")):
        if hasattr(model, "fit_predict"):
            raise LoadFailure(
                f"the {type(model).__name__} in {path!r} groups the rows it was trained on and cannot place new ones; "
                "KMeans, MiniBatchKMeans, Birch and MeanShift can"
            )
        inside = f" with the keys {', '.join(map(repr, list(model)[:8]))}" if isinstance(model, dict) else ""
        raise LoadFailure(
            f"{path!r} holds a {type(model).__name__}{inside}, which has neither predict nor transform; save the "
            "estimator or pipeline itself"
        )
    if isinstance(model, BaseEstimator):
        try:
            check_is_fitted(model)
        except NotFittedError:
            raise LoadFailure(f"the {type(model).__name__} in {path!r} is not fitted; call fit before saving") from None


def _limit_jobs(model: Any, threads: int) -> None:
    """What trained with `n_jobs=-1` shall not fight for the cores of other replicas.

    In scikit-learn's own estimators `n_jobs` starts a pool of threads for each batch, which costs more than most
    batches: those get one, and `--threads` counts for what computes in one call (BLAS, OpenMP). In others, such as
    xgboost's, it is the number of OpenMP threads.
    """
    for each in (model, getattr(model, "best_estimator_", None)):
        if isinstance(each, BaseEstimator):
            settings = each.get_params(deep=True)
            jobs = {}
            for key in settings:
                if key == "n_jobs" or key.endswith("__n_jobs"):
                    owner = each if key == "n_jobs" else settings[key.removesuffix("__n_jobs")]
                    jobs[key] = 1 if type(owner).__module__.startswith("sklearn.") else threads
            if jobs:
                each.set_params(**jobs)


class SklearnRuntime:
    def __init__(self, model: Any, table: Table, wanted: Sequence[str], platform: str) -> None:
        self.platform = platform
        self._table = table
        self._answers: Answers = find_answers(model, table, wanted)
        self.signature = Signature(table.inputs, self._answers.outputs, columns=table.columns)
        self.extra: dict[str, Any] = {"scikit_learn": sklearn.__version__}
        if self._answers.classes:
            self.extra["classes"] = self._answers.classes

    def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if no_rows(self.signature, inputs):
            return empty_answer(self.signature)
        rows = self._table.rows(inputs)
        try:
            arrays = self._answers.compute(rows)
        except (SlipwayError, MemoryError):
            raise
        except ValueError as error:
            if _AT_FAULT.match(str(error)):
                raise InvalidInput(f"the model refuses the input: {error}") from error
            raise ModelFailure(f"ValueError: {error}") from error
        except Exception as error:
            raise ModelFailure(f"{type(error).__name__}: {error}") from error
        return [_tensor(spec, array) for spec, array in zip(self.signature.outputs, arrays, strict=True)]

    def example(self, rows: int) -> list[Tensor]:
        return self._table.example(rows)

    def close(self) -> None:
        self._answers.forget()


def _tensor(spec: TensorSpec, array: Array) -> Tensor:
    if array.dtype == np.float64 and spec.datatype == "FP64":  # the common case
        return Tensor(spec.name, "FP64", array.shape, array.tobytes())
    return to_tensor(spec.name, array, datatype=spec.datatype)
