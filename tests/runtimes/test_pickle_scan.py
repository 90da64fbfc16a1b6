"""Pickles that attack, and honest ones that must pass.

Every attack would create a file, or change something that the test looks at, if it got through; each is first shown to
work against the plain unpickler, so that the test cannot pass because the attack is broken.
"""

from __future__ import annotations

import builtins
import bz2
import copyreg
import functools
import gzip
import io
import lzma
import operator
import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer

from slipway.errors import LoadFailure, MissingExtra, SlipwayError, UnsafeModel
from slipway.runtimes.pickle_policy import Verdict
from slipway.runtimes.pickle_scan import load_pickle, names_in

X, Y = load_iris(return_X_y=True)


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.made

    def __call__(self) -> None:
        """Only what can be called may stand first in what `__reduce__` gives."""


class Ops:
    """A pickle by hand, opcode by opcode."""

    def __init__(self) -> None:
        self.data = b"\x80\x04"

    def name(self, module: str, name: str) -> Ops:
        self.data += f"c{module}\n{name}\n".encode()
        return self

    def stack_name(self, module: str, name: str) -> Ops:
        for each in (module, name):
            self.data += b"\x8c" + bytes([len(each)]) + each.encode()
        self.data += b"\x93"
        return self

    def value(self, value: Any) -> Ops:
        self.data += pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"")
        return self

    def raw(self, data: bytes) -> Ops:
        self.data += data
        return self

    def end(self) -> bytes:
        return self.data + b"."


def touch(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def nested(inner: bytes) -> Any:
    return Calls(pickle.loads, inner)


def dist_state(path: Path) -> Any:
    """scipy's distributions `exec` a template out of their own state."""
    return {**scipy.stats.norm.__getstate__(), "_parse_arg_template": touch(path) + "\n" + "x = 1"}


class Distribution:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (copyreg._reconstructor, (type(scipy.stats.norm), object, None), dist_state(self.path))


ATTACKS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (lambda p: pickle.dumps(Calls(os.system, f"touch {p}")), "posix.system"),
    "os.system, protocol 0": (lambda p: pickle.dumps(Calls(os.system, f"touch {p}"), 0), "posix.system"),
    "eval": (lambda p: pickle.dumps(Calls(eval, touch(p))), "builtins.eval"),
    "exec, python 2 name": (lambda p: pickle.dumps(Calls(exec, touch(p)), 2), "builtins.exec"),
    "open": (lambda p: pickle.dumps(Calls(open, str(p), "w")), "io.open"),
    "getattr": (
        lambda p: pickle.dumps(Calls(Calls(getattr, np.ndarray(0), "tofile"), str(p))),
        "builtins.getattr",
    ),
    "methodcaller": (
        lambda p: pickle.dumps(Calls(operator.methodcaller("tofile", str(p)), np.zeros(2))),
        "operator.methodcaller",
    ),
    "save of numpy": (lambda p: pickle.dumps(Calls(np.save, str(p), 1)), "numpy.save"),
    "memmap of numpy": (
        lambda p: (
            Ops()
            .name("numpy", "memmap")
            .raw(b"(")
            .value(str(p))
            .value("uint8")
            .value("w+")
            .value(0)
            .value((4,))
            .raw(b"tR")
            .end()
        ),
        "",
    ),
    "dotted name": (
        lambda p: Ops().stack_name("numpy.f2py", "os.system").value(f"touch {p}").raw(b"\x85R").end(),
        "numpy.f2py.os.system",
    ),
    "dotted name in an allowed module": (
        lambda p: Ops().stack_name("sklearn.base", "np.save").raw(b"(").value(str(p)).value(1).raw(b"tR").end(),
        "sklearn.base.np.save",
    ),
    "name through the memo": (
        lambda p: (
            Ops().raw(b"\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93").value(f"touch {p}").raw(b"\x85R").end()
        ),
        "posix.system",
    ),
    "INST opcode": (lambda p: Ops().raw(b"(").value(f"touch {p}").raw(b"iposix\nsystem\n").end(), "posix.system"),
    "OBJ opcode": (
        lambda p: Ops().raw(b"(").name("posix", "system").value(f"touch {p}").raw(b"o").end(),
        "posix.system",
    ),
    "a pickle inside of a pickle": (
        lambda p: pickle.dumps(nested(pickle.dumps(Calls(os.system, f"touch {p}")))),
        "_pickle.loads",
    ),
    "distribution of scipy": (lambda p: pickle.dumps(Distribution(p)), "scipy.stats"),
    "cloudpickle lambda": (
        lambda p: cloudpickle.dumps(FunctionTransformer(lambda _, path=p: path.touch())),
        "cloudpickle.cloudpickle._make_function",
    ),
    "partial that is called": (
        lambda p: pickle.dumps(Calls(functools.partial(os.system, f"touch {p}"))),
        "posix.system",
    ),
}
NOT_BY_LOADING = {"cloudpickle lambda"}  # runs at predict only


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_work_on_the_plain_unpickler(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    try:
        model = pickle.loads(ATTACKS[name][0](trace))
    except Exception:  # it may well fail after it has done its work
        model = None
    if name in NOT_BY_LOADING:
        model.transform(X)
    assert trace.exists() or (tmp_path / "trace.npy").exists()


@pytest.mark.parametrize("shape", ["raw", "gzip", "zlib", "bz2", "xz"])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused_with_their_names(name: str, shape: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "model.pkl"
    make, refused = ATTACKS[name]
    pack = {"raw": bytes, "gzip": gzip.compress, "zlib": zlib.compress, "bz2": bz2.compress, "xz": lzma.compress}
    path.write_bytes(pack[shape](make(trace)))
    with pytest.raises(SlipwayError) as caught:
        load_pickle(str(path))
    assert [each.name for each in tmp_path.iterdir()] == ["model.pkl"]
    if refused:
        assert isinstance(caught.value, UnsafeModel)
        assert refused in caught.value.message
        assert "--trust-pickle" in caught.value.message


def test_what_is_trusted_may_do_what_it_likes(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Calls(os.system, f"touch {tmp_path / 'trace'}")))
    load_pickle(str(tmp_path / "model.pkl"), trusted=True)
    assert (tmp_path / "trace").exists()


def test_all_names_are_listed_not_only_the_first(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump([X, Calls(os.system, "true"), {"a": np.array([Calls(eval, "1")], object)}, Calls(os.getcwd)], path)
    with pytest.raises(UnsafeModel, match=r"builtins\.eval, posix\.getcwd, posix\.system\."):
        load_pickle(str(path))
    assert names_in(str(path))["numpy.ndarray"] is Verdict.CALL


def test_object_arrays_of_joblib_are_held_to_the_same_list(tmp_path: Path) -> None:
    """joblib reads those with an unpickler of its own, which in older versions asked nobody."""
    path, trace = tmp_path / "model.joblib", tmp_path / "trace"
    model = LogisticRegression().fit(X, Y)
    model.extra = np.array([Calls(os.system, f"touch {trace}")], dtype=object)
    joblib.dump(model, path, compress=3)
    with pytest.raises(UnsafeModel, match=r"posix\.system"):
        load_pickle(str(path))
    assert not trace.exists()


def test_wrappers_that_read_other_files_are_not_known(tmp_path: Path) -> None:
    """joblib's old wrapper names a file, and loads it with pickles allowed."""
    np.save(tmp_path / "array.npy", np.array([Calls(os.system, f"touch {tmp_path / 'trace'}")], object))
    path = tmp_path / "model.joblib"
    ops = Ops().name("joblib.numpy_pickle_compat", "NDArrayWrapper").raw(b")\x81")
    path.write_bytes(ops.value({"filename": "array.npy", "subclass": None}).raw(b"b").end())
    with pytest.raises(UnsafeModel, match="NDArrayWrapper"):
        load_pickle(str(path))
    assert not (tmp_path / "trace").exists()


class Gadget:
    """`_Scorer` and stacking call the method that a setting names, on any object that the file brings along."""

    def __init__(self, cls: type, state: dict[str, Any]) -> None:
        self.cls, self.state = cls, state

    def __reduce__(self) -> Any:
        return (copyreg._reconstructor, (self.cls, object, None), self.state)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gadget(type(make_scorer(mean_squared_error)), {"_response_method": "tofile"}),
        lambda: Gadget(StackingClassifier, {"stack_method_": ["to_pickle"]}),
        lambda: Gadget(LogisticRegression, {"__class__": dict}),
        lambda: Gadget(LogisticRegression, {"__setstate__": functools.partial(int)}),
        lambda: Calls(type(make_scorer(mean_squared_error)), mean_squared_error, 1, {}, "tofile"),
        lambda: Calls(functools.partial(mean_squared_error), [1], [1]),
        lambda: Calls(mean_squared_error, [1], [1]),
        lambda: Calls(copyreg._reconstructor, LogisticRegression(), object, None),
    ],
)
def test_allowed_names_may_not_be_turned_into_tools(make: Callable[[], Any], tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(make(), 2))
    with pytest.raises(UnsafeModel, match=r"a call of|a state with|a setting that calls"):
        load_pickle(str(tmp_path / "model.pkl"))


def test_a_list_that_changes_after_it_was_looked_at(tmp_path: Path) -> None:
    methods = ["predict"]
    state = pickle.dumps({"stack_method_": methods}, 2)
    ops = Ops().name("sklearn.ensemble._stacking", "StackingClassifier").raw(b")\x81")
    ops.raw(b"}U\rstack_method_]q\x05U\x07predictasb").raw(b"h\x05U\x09to_pickleaN\x860" + b"K\x01")
    assert state  # the same by hand, with the list in the memo
    (tmp_path / "model.pkl").write_bytes(ops.end())
    with pytest.raises(UnsafeModel, match="calls the method 'to_pickle'"):
        load_pickle(str(tmp_path / "model.pkl"))


def every_builtin() -> list[str]:
    harmless = {"object", "set", "frozenset", "list", "dict", "tuple", "int", "float", "complex", "bool", "str"}
    harmless |= {"bytes", "bytearray", "slice", "range"}
    return sorted(name for name in vars(builtins) if callable(getattr(builtins, name)) and name not in harmless)


DANGEROUS_IN = {
    "os": "popen",
    "subprocess": "Popen",
    "sys": "exit",
    "importlib": "import_module",
    "runpy": "run_path",
    "operator": "attrgetter itemgetter",
    "types": "FunctionType CodeType",
    "marshal": "loads",
    "pickle": "loads",
    "ctypes": "CDLL",
    "socket": "socket",
    "webbrowser": "open",
    "pty": "spawn",
    "code": "interact",
    "timeit": "timeit",
    "functools": "reduce",
    "inspect": "getattr_static",
    "numpy": "load fromfile fromregex savetxt vectorize frompyfunc apply_along_axis ",
    "numpy.lib.npyio": "DataSource NpzFile",
    "numpy.testing": "rundocs",
    "numpy.ctypeslib": "load_library",
    "numpy.f2py": "compile",
    "numpy.distutils.exec_command": "exec_command",
    "numpy.lib._npyio_impl": "load",
    "scipy": "LowLevelCallable",
    "scipy.io": "loadmat netcdf_file",
    "scipy.stats": "rv_discrete",
    "scipy.optimize": "minimize",
    "scipy.stats._distn_infrastructure": "rv_frozen",
    "scipy.sparse": "load_npz",
    "pandas": "read_pickle eval HDFStore ExcelFile",
    "pandas.io.pickle": "read_pickle",
    "pandas.core.computation.eval": "eval",
    "joblib": "load Memory",
    "joblib.memory": "Memory",
    "sklearn.utils._testing": "TempMemmap",
    "sklearn.utils.parallel": "Parallel",
    "sklearn.datasets": "load_files",
    "sklearn.utils._joblib": "Memory",
    "sklearn.metrics._scorer": "_cached_call get_scorer",
    "sklearn.base": "clone",
    "sklearn.pipeline": "check_memory",
    "sklearn.model_selection._validation": "cross_val_predict",
    "sklearn.metrics": "RocCurveDisplay",
    "sklearn.externals": "joblib",
    "sklearn.ensemble._stacking": "Parallel",
    "sklearn": "show_versions",
    "skops.io": "load",
    "cloudpickle": "loads",
    "torch": "load",
    "__main__": "Anything",
    "": "",
    "sklearn.tree._classes": "np",
}
DANGEROUS = [
    *(("builtins", name) for name in every_builtin()),
    *((module, name) for module, names in DANGEROUS_IN.items() for name in names.split(" ")),
]


@pytest.mark.parametrize(("module", "name"), DANGEROUS)
def test_dangerous_names_are_refused(module: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(Ops().stack_name(module, name).end())
    with pytest.raises(UnsafeModel):
        load_pickle(str(tmp_path / "model.pkl"))


def honest() -> dict[str, Any]:
    frame = pd.DataFrame({"a": [1, 2] * 5, "b": pd.Categorical(["x", "y"] * 5)})
    labels = np.array(["setosa", "versicolor", "virginica"])[Y]
    search = GridSearchCV(LogisticRegression(max_iter=300), {"C": [0.1, 1]}, scoring="accuracy", cv=2)
    return {
        "string labels": LogisticRegression(max_iter=300).fit(X, labels),
        "forest": RandomForestClassifier(5, random_state=np.random.RandomState(1)).fit(X, labels),
        "boosting on categories": HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype").fit(
            frame, frame["a"]
        ),
        "search": search.fit(X, Y),
        "random search": RandomizedSearchCV(LogisticRegression(max_iter=300), {"C": [1, 2]}, n_iter=1, cv=2).fit(X, Y),
        "ufuncs": make_pipeline(
            FunctionTransformer(np.log1p), FunctionTransformer(scipy.special.expit), LogisticRegression()
        ).fit(X, Y),
        "partial": FunctionTransformer(functools.partial(np.clip, a_min=0, a_max=1)).fit(X),
        "score function": make_pipeline(SelectKBest(k=2), LogisticRegression()).fit(X, Y),
        "isotonic": IsotonicRegression(out_of_bounds="clip").fit(X[:, 0], Y),
        "splines": SplineTransformer().fit(X),
        "stacking": StackingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(3))], cv=2).fit(X, Y),
        "generator": {"rng": np.random.default_rng(3)},
        "sparse": scipy.sparse.csr_matrix(X),
        "tables": [frame, frame["a"], pd.Timestamp("2020-01-01"), pd.NA, pd.Index(["a"]), frame.set_index(["a", "b"])],
        "arrays": [
            np.array(["a", 1, None], object),
            np.asfortranarray(X),
            X.astype(">f8"),
            np.ma.masked_array([1], [0]),
        ],
    }


@pytest.fixture(scope="module")
def honest_things() -> dict[str, Any]:
    return honest()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(honest()))
def test_honest_files_load_the_same_in_every_form(honest_things: dict[str, Any], name: str, tmp_path: Path) -> None:
    thing = honest_things[name]
    forms: list[Callable[[Path], Any]] = [
        *(lambda path, protocol=protocol: path.write_bytes(pickle.dumps(thing, protocol)) for protocol in range(6)),
        lambda path: path.write_bytes(cloudpickle.dumps(thing)),
        lambda path: joblib.dump(thing, path),
        *(lambda path, kind=kind: joblib.dump(thing, path, compress=(kind, 3)) for kind in ("zlib", "gzip", "xz")),
    ]
    for number, save in enumerate(forms):
        path = tmp_path / f"{number}.pkl"
        save(path)
        loaded = load_pickle(str(path))
        assert type(loaded) is type(thing)
        if hasattr(thing, "predict") and name not in ("boosting on categories", "isotonic"):
            assert loaded.predict(X).tolist() == thing.predict(X).tolist()
        if name == "arrays":
            for one, two in zip(loaded, thing, strict=True):
                assert one.tolist() == two.tolist()
                assert one.dtype.isnative or two.dtype.byteorder == ">"
        refused = [each for each, verdict in names_in(str(path)).items() if verdict is Verdict.REFUSE]
        assert not refused


def test_a_memory_mapped_array_is_loaded_as_a_plain_one(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "data", "f8", "w+", shape=(3, 2))
    mapped[:] = 7
    joblib.dump([mapped], tmp_path / "model.joblib")
    (loaded,) = load_pickle(str(tmp_path / "model.joblib"))
    assert type(loaded) is np.ndarray
    assert loaded.tolist() == [[7, 7]] * 3


def test_distributions_of_a_search_get_advice(tmp_path: Path) -> None:
    search = RandomizedSearchCV(LogisticRegression(), {"C": scipy.stats.loguniform(1, 10)}, n_iter=1, cv=2).fit(X, Y)
    joblib.dump(search, tmp_path / "model.joblib")
    with pytest.raises(UnsafeModel, match="save its best_estimator_ instead"):
        load_pickle(str(tmp_path / "model.joblib"))


def test_other_versions_and_missing_packages_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(Ops().stack_name("sklearn.linear_model._gone", "Model").end())
    with pytest.raises(
        LoadFailure, match=r"sklearn.linear_model._gone.Model, which the installed sklearn [\d.]+ does not"
    ):
        load_pickle(str(path))
    path.write_bytes(Ops().stack_name("catboost.core", "CatBoostClassifier").end())
    with pytest.raises(MissingExtra, match="pip install catboost"):
        load_pickle(str(path))
    path.write_bytes(Ops().stack_name("__main__", "MyTransformer").end())
    with pytest.raises(LoadFailure, match="defined in the script that trained"):
        load_pickle(str(path), trusted=True)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_told_and_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    joblib.dump({"a": X[:3], "b": np.array(["x", None], object)}, buffer)
    whole = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.integers(1, len(whole)))]
    path = tmp_path_factory.mktemp("damaged") / "model.joblib"
    path.write_bytes(bytes(whole))
    try:
        load_pickle(str(path))
    except (SlipwayError, MemoryError):
        pass
