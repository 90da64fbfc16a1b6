"""The scikit-learn runtime against scikit-learn itself: same models, same data, same answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import threadpoolctl
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PowerTransformer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from slipway.errors import InvalidInput, LoadFailure, ModelFailure, UnsafeModel
from slipway.infer.arrays import to_array, to_tensor
from slipway.infer.runtime import LoadOptions, Runtime
from slipway.infer.signature import TensorSpec, count_rows
from slipway.runtimes.table import load_runtime

pytestmark = pytest.mark.filterwarnings("ignore")

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
TABLE = pd.DataFrame(
    {
        "age": [31.0, 42.5, np.nan, 57.0] * 5,
        "city": ["Oslo", "Rome", "Bonn", "Oslo"] * 5,
        "note": ["very nice", "bad one", "it is ok", "fine"] * 5,
        "visits": [1, 2, 3, 4] * 5,
    }
)
BOUGHT = np.array(["no", "yes", "no", "yes"] * 5)
MIXED = ColumnTransformer(
    [
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "visits"]),
        ("city", OneHotEncoder(), ["city"]),
        ("words", TfidfVectorizer(), "note"),
    ]
)
Serve = Callable[..., Runtime]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """A runtime of a fitted model that was saved and loaded again."""

    def make(model: Any, *, trust: bool = False, threads: int = 1, **options: str) -> Runtime:
        joblib.dump(model, tmp_path / "model.joblib")
        settings = LoadOptions(trust_pickle=trust, threads=threads, options=options)
        return load_runtime("sklearn", str(tmp_path / "model.joblib"), settings)

    return make


def ask(runtime: Runtime, **inputs: Any) -> dict[str, np.ndarray]:
    """As a gateway asks: checked against the signature first."""
    tensors = [to_tensor(name, value) for name, value in inputs.items()]
    count_rows(runtime.signature, tensors)
    return {tensor.name: to_array(tensor) for tensor in runtime.predict(tensors)}


def outputs(runtime: Runtime) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(spec.name, spec.datatype, spec.shape) for spec in runtime.signature.outputs]


def test_classifiers_give_label_and_probabilities(serve: Serve) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(X, NAMES)
    runtime = serve(model)
    assert outputs(runtime) == [("label", "BYTES", (-1,)), ("probabilities", "FP64", (-1, 3))]
    assert runtime.signature.inputs[0].shape == (-1, 4)
    assert runtime.extra["classes"] == {"probabilities": ["setosa", "versicolor", "virginica"]}
    answers = ask(runtime, input=X)
    assert [label.decode() for label in answers["label"]] == list(model.predict(X))
    np.testing.assert_array_equal(answers["probabilities"], model.predict_proba(X))


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u4", "u8", "?"])
def test_inputs_of_every_number(serve: Serve, dtype: str) -> None:
    model = LogisticRegression(max_iter=300).fit(X, Y)
    rows = X.astype(dtype)
    np.testing.assert_array_equal(ask(serve(model), input=rows)["label"], model.predict(rows))


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(7, random_state=0),
        ExtraTreesClassifier(7, random_state=0),
        DecisionTreeClassifier(max_depth=2, random_state=0),
        ExtraTreeClassifier(max_depth=2, random_state=0),
        BaggingClassifier(random_state=0),
        CalibratedClassifierCV(LogisticRegression(max_iter=300), cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_labels_taken_from_probabilities_are_those_of_predict(serve: Serve, model: Any) -> None:
    rng = np.random.default_rng(0)
    model.fit(X, NAMES)
    rows = np.concatenate([X, rng.uniform(0, 8, (300, 4)).round(1)])
    runtime = serve(model)
    calls: list[str] = []
    inner = type(model).predict
    type(model).predict = lambda self, data: calls.append("predict") or inner(self, data)  # type: ignore[method-assign]
    try:
        answers = ask(runtime, input=rows)
    finally:
        type(model).predict = inner  # type: ignore[method-assign]
    assert not calls, "one call was promised"
    assert [label.decode() for label in answers["label"]] == list(model.predict(rows))
    np.testing.assert_array_equal(answers["probabilities"], model.predict_proba(rows))


def test_the_way_to_two_answers_is_gone_once(serve: Serve) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(X, Y)
    runtime = serve(model)
    calls: list[int] = []
    inner = StandardScaler.transform
    StandardScaler.transform = lambda self, data: calls.append(len(data)) or inner(self, data)  # type: ignore[method-assign]
    try:
        ask(runtime, input=X)
    finally:
        StandardScaler.transform = inner  # type: ignore[method-assign]
    assert calls == [150]


def test_other_kinds_of_models(serve: Serve) -> None:
    ridge = Ridge().fit(X, Y)
    runtime = serve(ridge)
    assert outputs(runtime) == [("prediction", "FP64", (-1,))]
    np.testing.assert_array_equal(ask(runtime, input=X)["prediction"], ridge.predict(X))
    assert outputs(serve(Ridge().fit(X, np.c_[Y, Y]))) == [("prediction", "FP64", (-1, 2))]

    means = KMeans(3, random_state=0).fit(X)
    runtime = serve(means)
    assert outputs(runtime) == [("cluster", "INT64", (-1,))]
    np.testing.assert_array_equal(ask(runtime, input=X)["cluster"], means.predict(X))

    forest = IsolationForest(random_state=0).fit(X)
    runtime = serve(forest)
    assert outputs(runtime) == [("label", "INT64", (-1,)), ("score", "FP64", (-1,))]
    np.testing.assert_allclose(ask(runtime, input=X)["score"], forest.decision_function(X))

    assert outputs(serve(PCA(2).fit(X))) == [("output", "FP64", (-1, 2))]
    assert outputs(serve(LinearSVC().fit(X, Y))) == [("label", "INT64", (-1,))]
    assert outputs(serve(Pipeline([("s", StandardScaler()), ("end", "passthrough")]).fit(X))) == [
        ("output", "FP64", (-1, 4))
    ]
    sparse = OneHotEncoder(handle_unknown="ignore").fit(X.round())
    np.testing.assert_array_equal(ask(serve(sparse), input=X.round())["output"], sparse.transform(X.round()).toarray())


def test_several_targets(serve: Serve) -> None:
    targets = np.c_[Y, Y > 1]
    for model in (MultiOutputClassifier(LogisticRegression(max_iter=300)), KNeighborsClassifier()):
        model.fit(X, targets)
        runtime = serve(model)
        assert outputs(runtime) == [
            ("label", "INT64", (-1, 2)),
            ("probabilities_0", "FP64", (-1, 3)),
            ("probabilities_1", "FP64", (-1, 2)),
        ]
        answers = ask(runtime, input=X)
        np.testing.assert_array_equal(answers["label"], model.predict(X))
        for at, wanted in enumerate(model.predict_proba(X)):
            np.testing.assert_array_equal(answers[f"probabilities_{at}"], wanted)
        assert runtime.extra["classes"]["probabilities_1"] == [0, 1]
    many_x, many_y = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    runtime = serve(MLPClassifier(max_iter=20, random_state=0).fit(many_x, many_y))
    assert outputs(runtime) == [("label", "INT64", (-1, 3)), ("probabilities", "FP64", (-1, 3))]


def test_models_of_a_table_by_column(serve: Serve) -> None:
    model = make_pipeline(MIXED, LogisticRegression()).fit(TABLE, BOUGHT)
    runtime = serve(model)
    assert [(spec.name, spec.datatype, spec.shape) for spec in runtime.signature.inputs] == [
        ("age", "FP64", (-1,)),
        ("city", "BYTES", (-1,)),
        ("note", "BYTES", (-1,)),
        ("visits", "FP64", (-1,)),
    ]
    answers = ask(
        runtime,
        visits=TABLE["visits"].to_numpy()[:, None],  # as a matrix of one column, and in another order
        note=TABLE["note"].to_numpy(),
        city=TABLE["city"].to_numpy(),
        age=TABLE["age"].to_numpy(),
    )
    assert [label.decode() for label in answers["label"]] == list(model.predict(TABLE))
    np.testing.assert_array_equal(answers["probabilities"], model.predict_proba(TABLE))
    with pytest.raises(InvalidInput, match="Found unknown categories"):
        ask(runtime, age=[1.0], city=["Paris"], note=["x"], visits=[1])
    with pytest.raises(InvalidInput, match="missing input 'note'"):
        ask(runtime, age=[1.0], city=["Oslo"], visits=[1])


def test_models_of_numeric_tables_by_column_or_position(serve: Serve) -> None:
    table = TABLE[["visits", "age"]].fillna(40.0)
    model = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [1, 2]}, cv=2)
    model.fit(table, BOUGHT)
    runtime = serve(model)
    assert runtime.signature.inputs[0].shape == (-1, 2)
    assert [spec.name for spec in runtime.signature.columns] == ["visits", "age"]
    wanted = model.predict_proba(table)
    by_position = ask(runtime, input=table.to_numpy())
    by_column = ask(runtime, age=table["age"].to_numpy(), visits=table["visits"].to_numpy())
    np.testing.assert_array_equal(by_position["probabilities"], wanted)
    np.testing.assert_array_equal(by_column["probabilities"], wanted)


def test_models_get_a_dataframe_where_they_were_trained_on_one(serve: Serve) -> None:
    add = FunctionTransformer(np.log1p, feature_names_out="one-to-one").set_output(transform="pandas")
    model = make_pipeline(ColumnTransformer([("a", add, ["visits"])]), LogisticRegression())
    model.fit(TABLE[["age", "visits"]], BOUGHT)
    assert len(ask(serve(model), age=[1.0], visits=[2])["label"]) == 1


def test_a_table_of_text_alone(serve: Serve) -> None:
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(TABLE[["city"]], BOUGHT)
    runtime = serve(model)
    assert runtime.signature.inputs == (TensorSpec("input", "BYTES", (-1, 1)),)
    cities = TABLE[["city"]].to_numpy()
    for answers in (ask(runtime, input=cities), ask(runtime, city=cities[:, 0])):
        assert [label.decode() for label in answers["label"]] == list(model.predict(TABLE[["city"]]))


def test_categories_of_gradient_boosting(serve: Serve) -> None:
    table = TABLE[["age", "city"]].astype({"city": "category"})
    model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2, categorical_features="from_dtype")
    model.fit(table, BOUGHT)
    answers = ask(serve(model), age=table["age"].to_numpy(), city=TABLE["city"].to_numpy())
    np.testing.assert_allclose(answers["probabilities"], model.predict_proba(table))


def test_texts(serve: Serve) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TABLE["note"].to_numpy(), BOUGHT)
    runtime = serve(model)
    assert runtime.signature.inputs[0].datatype == "BYTES"
    answers = ask(runtime, input=TABLE["note"].to_numpy())
    assert [label.decode() for label in answers["label"]] == list(model.predict(TABLE["note"]))
    with pytest.raises(InvalidInput, match="element 0 is not UTF-8"):
        ask(runtime, input=np.array([b"\xff"], object))


def test_models_of_dicts_are_refused(serve: Serve) -> None:
    with pytest.raises(LoadFailure, match=r"DictVectorizer, which takes dicts.*slipway.Model"):
        serve(make_pipeline(DictVectorizer(), LogisticRegression()).fit([{"a": 1}, {"b": 1}], [0, 1]))


def test_columns_and_example_by_option(serve: Serve) -> None:
    table = TABLE[["visits", "age"]].fillna(40.0)
    runtime = serve(LogisticRegression().fit(table, BOUGHT), columns="visits:INT64")
    assert [spec.datatype for spec in runtime.signature.columns] == ["INT64", "FP64"]
    with pytest.raises(LoadFailure, match="no column 'vists'; it has visits, age"):
        serve(LogisticRegression().fit(table, BOUGHT), columns="vists:INT64")
    with pytest.raises(LoadFailure, match="unknown datatype 'float', did you mean FP32"):
        serve(LogisticRegression().fit(table, BOUGHT), columns="age:float")

    picky = FunctionTransformer(np.log, validate=True)
    model = make_pipeline(picky, StandardScaler(), LogisticRegression()).fit(X, Y)
    runtime = serve(model, example="[5.1, 3.5, 1.4, 0.2]")
    assert to_array(runtime.example(2)[0]).tolist() == [[5.1, 3.5, 1.4, 0.2]] * 2
    with pytest.raises(LoadFailure, match="it is a list of 4 numbers"):
        serve(model, example="[1, 2]")
    with pytest.raises(LoadFailure, match="is not JSON"):
        serve(model, example="5.1; 3.5")
    by_name = serve(LogisticRegression().fit(table, BOUGHT), example='{"visits": 2, "age": 30.5}')
    assert to_array(by_name.example(1)[0]).tolist() == [[2, 30.5]]


def test_an_example_is_found_that_the_model_can_compute(serve: Serve) -> None:
    runtime = serve(PowerTransformer("box-cox").fit(X + 1))  # zeros are not allowed here
    assert to_array(runtime.example(1)[0]).tolist() == [[1, 1, 1, 1]]
    runtime.predict(runtime.example(8))


def test_outputs_by_option(serve: Serve) -> None:
    model = LogisticRegression(max_iter=300).fit(X, Y)
    assert [name for name, *_ in outputs(serve(model, outputs="probabilities"))] == ["probabilities"]
    with pytest.raises(LoadFailure, match="no output 'probability', did you mean 'probabilities'"):
        serve(model, outputs="probability")
    with pytest.raises(LoadFailure, match="no option 'output', did you mean 'outputs'"):
        serve(model, output="label")


def test_bad_values_are_the_callers_fault_and_others_the_models(serve: Serve) -> None:
    runtime = serve(LogisticRegression(max_iter=300).fit(X, Y))
    with pytest.raises(InvalidInput, match="Input X contains NaN"):
        ask(runtime, input=np.full((1, 4), np.nan))
    runtime.close()
    with pytest.raises(ModelFailure, match="closed"):
        ask(runtime, input=X)


def test_no_rows_give_no_rows(serve: Serve) -> None:
    answers = ask(serve(LogisticRegression(max_iter=300).fit(X, NAMES)), input=X[:0])
    assert (answers["label"].shape, answers["probabilities"].shape) == ((0,), (0, 3))


class Own(ClassifierMixin, BaseEstimator):
    """A class of the user's, which only trust lets in."""

    def fit(self, rows: Any, labels: Any) -> Own:
        self.classes_ = np.unique(labels)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows: Any) -> Any:
        if rows[0, 0] > 90:
            raise RuntimeError("this flower is too long")
        return np.repeat(self.classes_[:1], len(rows))


def test_own_classes_need_trust(serve: Serve) -> None:
    model = Own().fit(X, NAMES)
    with pytest.raises(UnsafeModel, match="Own"):
        serve(model)
    runtime = serve(model, trust=True)
    assert ask(runtime, input=X[:2])["label"].tolist() == [b"setosa"] * 2
    with pytest.raises(ModelFailure, match="RuntimeError: this flower is too long"):
        ask(runtime, input=X[:2] + 99)


def test_skops_has_rules_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(X, Y), path)
    runtime = load_runtime("sklearn", str(path), LoadOptions())
    assert runtime.platform == "sklearn_skops"
    assert len(ask(runtime, input=X)["label"]) == 150
    skops.io.dump(Own().fit(X, NAMES), path)
    with pytest.raises(UnsafeModel, match=r"types that skops does not trust by itself: .*Own"):
        load_runtime("sklearn", str(path), LoadOptions())
    assert load_runtime("sklearn", str(path), LoadOptions(trust_pickle=True)).signature.batchable
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(LoadFailure):
        load_runtime("sklearn", str(path), LoadOptions())


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (LogisticRegression(), "the LogisticRegression in .* is not fitted"),
        (LogisticRegression, "holds the class LogisticRegression"),
        ({"model": 1, "scaler": 2}, "holds a dict with the keys 'model', 'scaler', which has neither predict nor"),
        (X, "holds a ndarray, which has neither"),
        (DBSCAN().fit(X), "groups the rows it was trained on and cannot place new ones"),
    ],
)
def test_what_is_no_model_is_named(serve: Serve, thing: Any, message: str) -> None:
    with pytest.raises(LoadFailure, match=message):
        serve(thing)


def test_other_versions_are_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    model = LogisticRegression(max_iter=300).fit(X, Y)

    assert "_sklearn_version" in model.__getstate__()
    model.__class__.__getstate__ = lambda self: {**self.__dict__, "_sklearn_version": "1.0.2"}  # type: ignore[attr-defined]
    try:
        with caplog.at_level(logging.WARNING):
            serve(make_pipeline(StandardScaler(), model).fit(X, Y))
    finally:
        del model.__class__.__getstate__
    assert "saved with scikit-learn 1.0.2 and runs on 1." in caplog.text
    assert "install scikit-learn==1.0.2" in caplog.text


def test_threads_and_jobs_are_limited(serve: Serve) -> None:
    search = GridSearchCV(RandomForestClassifier(3), {"max_depth": [2]}, cv=2).fit(X, Y)
    search.n_jobs = search.estimator.n_jobs = search.best_estimator_.n_jobs = -1
    serve(search, threads=1)
    assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
    runtime = serve(search, threads=2)
    jobs: list[Any] = []
    inner = RandomForestClassifier.predict_proba
    RandomForestClassifier.predict_proba = (  # type: ignore[method-assign]
        lambda self, rows: jobs.append(self.n_jobs) or inner(self, rows)
    )
    try:
        ask(runtime, input=X)
    finally:
        RandomForestClassifier.predict_proba = inner  # type: ignore[method-assign]
    assert set(jobs) == {1}
