"""What every runtime promises (`slipway.infer.runtime.Runtime`), held against each of them with real models."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from slipway.errors import LoadFailure, MissingExtra, SetupError, SlipwayError
from slipway.infer.arrays import to_array, to_tensor
from slipway.infer.runtime import LoadOptions, Runtime
from slipway.infer.signature import count_rows
from slipway.infer.tensor import DATATYPES, Tensor, check_size, join_rows, take_rows
from slipway.runtimes.recognise import recognise
from slipway.runtimes.table import RUNTIMES, load_runtime

ROOT = Path(__file__).parents[2]
X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
TABLE = pd.DataFrame({"age": [1.5, 2, 3, 4] * 5, "city": ["Oslo", "Rome", "Bonn", "Oslo"] * 5})


class Case(NamedTuple):
    """`make` writes the model and gives its path. `runtime`, `platform`: who must turn out to serve it. `rows`: real
    inputs. `wanted`: the name of an output and its values for them, from the model itself."""

    runtime: str
    platform: str
    make: Callable[[Path], Path]
    rows: Callable[[], list[Tensor]]
    wanted: Callable[[], tuple[str, np.ndarray]]


IRIS_MODEL = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(X, NAMES)
TABLE_MODEL = make_pipeline(ColumnTransformer([("c", OneHotEncoder(), ["city"])], remainder="passthrough"),
                            LogisticRegression()).fit(TABLE, [0, 1] * 10)  # fmt: skip
FOREST = RandomForestRegressor(5, random_state=0).fit(X, Y)

ASYNC = """
import numpy as np
from slipway import Model

class Doubler(Model):
    inputs = {"x": "FP32[-1,2]", "t": "BYTES[-1]"}
    outputs = {"t": "BYTES[-1]", "y": "FP32[-1,2]"}

    async def predict(self, **inputs):
        return {"y": inputs["x"] * 2, "t": inputs["t"]}
"""


def onnx_file(path: Path, *, zipmap: bool) -> Path:
    model = to_onnx(IRIS_MODEL, X[:1].astype("f4"), options={"zipmap": zipmap})
    return write(path / "weights.bin", model.SerializeToString())


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def dumped(path: Path, model: Any, **options: Any) -> Path:
    joblib.dump(model, path / "thing", **options)
    return path / "thing"


def skops_file(path: Path, model: Any) -> Path:
    skops.io.dump(model, path / "thing")
    return path / "thing"


def table_rows() -> list[Tensor]:
    return [to_tensor(name, TABLE[name].to_numpy()) for name in TABLE]


def probabilities(name: str) -> tuple[str, np.ndarray]:
    return name, IRIS_MODEL.predict_proba(X)


CASES = {
    "onnx": Case("onnx", "onnx_onnxruntime", lambda path: onnx_file(path, zipmap=False),
                 lambda: [to_tensor("X", X.astype("f4"))], lambda: probabilities("probabilities")),
    "onnx maps": Case("onnx", "onnx_onnxruntime", lambda path: onnx_file(path, zipmap=True),
                      lambda: [to_tensor("X", X.astype("f4"))], lambda: probabilities("output_probability")),
    "joblib": Case("sklearn", "sklearn_joblib", lambda path: dumped(path, IRIS_MODEL),
                   lambda: [to_tensor("input", X)], lambda: probabilities("probabilities")),
    "compressed regressor": Case("sklearn", "sklearn_joblib", lambda path: dumped(path, FOREST, compress=("xz", 2)),
                                 lambda: [to_tensor("input", X.astype("f4"))],
                                 lambda: ("prediction", FOREST.predict(X.astype("f4")))),
    "skops": Case("sklearn", "sklearn_skops", lambda path: skops_file(path, IRIS_MODEL),
                  lambda: [to_tensor("input", X)], lambda: probabilities("probabilities")),
    "table": Case("sklearn", "sklearn_joblib", lambda path: dumped(path, TABLE_MODEL), table_rows,
                  lambda: ("probabilities", TABLE_MODEL.predict_proba(TABLE))),
    "python": Case("python", "python_class", lambda path: ROOT / "examples" / "language",  # noqa: ARG005
                   lambda: [to_tensor("text", np.array(["det er ikke en bog", "the cat is on it", "zzz"]))],
                   lambda: ("language", np.array([b"da", b"en", b"und"], object))),
    "python async": Case("python", "python_class", lambda path: write(path / "any.py", ASYNC.encode()),
                         lambda: [to_tensor("x", X[:, :2].astype("f4")), to_tensor("t", NAMES)],
                         lambda: ("y", 2 * X[:, :2].astype("f4"))),
}  # fmt: skip
IMPLEMENTATIONS = {
    "onnx": "slipway.runtimes.onnx.OnnxRuntime",
    "sklearn": "slipway.runtimes.sklearn.SklearnRuntime",
    "python": "slipway.runtimes.python.PythonRuntime",
}


class Served(NamedTuple):
    case: Case
    path: str
    runtime: Runtime


@pytest.fixture(scope="module", params=CASES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    case = CASES[request.param]
    path = str(case.make(tmp_path_factory.mktemp("model")))
    runtime = load_runtime(recognise(path), path, LoadOptions())
    yield Served(case, path, runtime)
    runtime.close()


def test_every_runtime_of_the_table_is_here() -> None:
    assert {case.runtime for case in CASES.values()} == set(RUNTIMES) == set(IMPLEMENTATIONS)


def test_it_is_the_implementation_that_it_should_be(served: Served) -> None:
    kind = type(served.runtime)
    assert f"{kind.__module__}.{kind.__qualname__}" == IMPLEMENTATIONS[served.case.runtime]
    assert served.runtime.platform == served.case.platform


def test_the_signature_is_complete(served: Served) -> None:
    signature = served.runtime.signature
    for specs in (signature.inputs, signature.outputs, signature.columns):
        assert len({spec.name for spec in specs}) == len(specs)
        for spec in specs:
            assert spec.name
            assert {spec.datatype, *spec.also} <= set(DATATYPES)
            assert all(size >= -1 for size in spec.shape)
            assert not signature.batchable or spec.shape[0] == -1
    assert signature.inputs
    assert signature.outputs


def check_answer(runtime: Runtime, answers: list[Tensor], rows: int) -> None:
    specs = runtime.signature.outputs
    assert [answer.name for answer in answers] == [spec.name for spec in specs]
    for spec, answer in zip(specs, answers, strict=True):
        assert answer.datatype == spec.datatype
        assert answer.shape[0] == rows
        assert len(answer.shape) == len(spec.shape)
        if rows:
            assert all(size in (-1, got) for size, got in zip(spec.shape, answer.shape, strict=True))
        check_size(answer)


@pytest.mark.parametrize("rows", [0, 1, 2, 7])
def test_examples_fit_and_are_computed(served: Served, rows: int) -> None:
    inputs = served.runtime.example(rows)
    for tensor in inputs:
        check_size(tensor)
    assert count_rows(served.runtime.signature, inputs) == rows
    check_answer(served.runtime, served.runtime.predict(inputs), rows)


def test_the_answer_is_the_models_own(served: Served) -> None:
    inputs = served.case.rows()
    rows = count_rows(served.runtime.signature, inputs)
    answers = served.runtime.predict(inputs)
    check_answer(served.runtime, answers, rows)
    name, wanted = served.case.wanted()
    (found,) = [to_array(answer) for answer in answers if answer.name == name]
    if wanted.dtype == object:
        assert found.tolist() == wanted.tolist()
    else:
        np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_rows_do_not_depend_on_their_batch(served: Served) -> None:
    inputs = [take_rows(tensor, 0, 3) for tensor in served.case.rows()]
    together = served.runtime.predict(inputs)
    alone = [served.runtime.predict([take_rows(tensor, row, row + 1) for tensor in inputs]) for row in range(3)]
    for at, answer in enumerate(together):
        np_together, np_alone = to_array(answer), to_array(join_rows([each[at] for each in alone]))
        if np_together.dtype == object:
            assert np_together.tolist() == np_alone.tolist()
        else:
            np.testing.assert_allclose(np_together, np_alone, atol=1e-6)


@pytest.mark.parametrize("wrap", [bytes, bytearray, lambda data: memoryview(b"?" + bytes(data))[1:]])
def test_any_buffer_will_do_and_none_is_changed(served: Served, wrap: Callable[[Any], Any]) -> None:
    inputs = served.case.rows()
    plain = [bytes(answer.data) for answer in served.runtime.predict(inputs)]
    wrapped = [Tensor(tensor.name, tensor.datatype, tensor.shape, wrap(tensor.data)) for tensor in inputs]
    assert [bytes(answer.data) for answer in served.runtime.predict(wrapped)] == plain
    assert [bytes(tensor.data) for tensor in wrapped] == [bytes(tensor.data) for tensor in inputs]


def test_an_answer_outlives_the_next_question(served: Served) -> None:
    inputs = [take_rows(tensor, 0, 2) for tensor in served.case.rows()]
    first = served.runtime.predict(inputs)
    before = [bytes(answer.data) for answer in first]
    for _ in range(3):
        served.runtime.predict([take_rows(tensor, 1, 3) for tensor in served.case.rows()])
    assert [bytes(answer.data) for answer in first] == before


def test_order_of_inputs_does_not_matter(served: Served) -> None:
    inputs = served.case.rows()
    one, two = served.runtime.predict(inputs), served.runtime.predict(inputs[::-1])
    assert [bytes(answer.data) for answer in one] == [bytes(answer.data) for answer in two]


def test_unknown_options_are_refused(served: Served) -> None:
    with pytest.raises(LoadFailure, match="option 'no_such_option'"):
        load_runtime(served.case.runtime, served.path, LoadOptions(options={"no_such_option": "1"}))


def test_unknown_devices_are_refused(served: Served) -> None:
    with pytest.raises(LoadFailure, match="device"):
        load_runtime(served.case.runtime, served.path, LoadOptions(device="abacus"))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("data", [b"", b"words", bytes(range(256)), b"\x80\x04", b"\x08\x09", b"PK\x03\x04"])
def test_files_that_are_no_models_are_refused_whatever_the_runtime(runtime: str, data: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "model.bin", data)
    with pytest.raises(SetupError) as caught:
        load_runtime(runtime, str(path), LoadOptions())
    assert "model.bin" in caught.value.message
    with pytest.raises(SlipwayError):
        load_runtime(runtime, str(tmp_path / "absent"), LoadOptions())


def test_an_unknown_runtime_names_the_nearest() -> None:
    with pytest.raises(SetupError, match=r"no runtime 'onyx', did you mean 'onnx'\? known are onnx, sklearn, python"):
        load_runtime("onyx", "x", LoadOptions())


@pytest.mark.parametrize(
    ("runtime", "package"), [("onnx", "onnxruntime"), ("sklearn", "sklearn"), ("sklearn", "scipy")]
)
def test_a_missing_framework_is_told_with_the_pip_command(runtime: str, package: str) -> None:
    """In a process where the package cannot be imported, as if it were not installed."""
    code = (
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        "from slipway.errors import MissingExtra\nfrom slipway.infer.runtime import LoadOptions\n"
        "from slipway.runtimes.table import load_runtime\n"
        f"try: load_runtime({runtime!r}, 'model', LoadOptions())\n"
        "except MissingExtra as error: print(error.message)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{package!r}, which is not installed: pip install 'slipway[{RUNTIMES[runtime].extra}]'" in done.stdout


@pytest.mark.parametrize("package", ["pandas", "skops"])
def test_a_package_that_only_some_models_need(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = skops_file(tmp_path, IRIS_MODEL) if package == "skops" else dumped(tmp_path, TABLE_MODEL)
    load_runtime("sklearn", str(path), LoadOptions())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'slipway\[sklearn\]'"):
        load_runtime("sklearn", str(path), LoadOptions())


def test_the_table_imports_nothing() -> None:
    code = (
        "import sys\nimport slipway.runtimes.table\n"
        "heavy = {'numpy', 'sklearn', 'onnxruntime', 'joblib', 'pandas', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_wine_example_trains_and_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("wine_train", ROOT / "examples" / "wine" / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path / "wine.joblib")
    assert "accuracy" in capsys.readouterr().out
    runtime = load_runtime("sklearn", str(tmp_path / "wine.joblib"), LoadOptions())
    assert [spec.name for spec in runtime.signature.columns][:2] == ["alcohol", "malic_acid"]
    assert runtime.signature.inputs[0].shape == (-1, 13)
