"""Which names a pickle may say: an allow-list, because a pickle that may say any name may run any code.

A pickle builds objects by naming classes and functions and calling them. So every name on this page was read for what
it does when a stranger chooses its arguments: nothing here opens a file, starts a process, imports by name, evaluates
text, or looks an attribute up by a name that it was given. Two things follow that may surprise:

- whole packages are never allowed. `scipy.stats` distributions `exec` a template from their state, `numpy.memmap` and
  the classes of `scipy.io` and `pandas.io` open files, `numpy.lib` has loaders, `operator.attrgetter` and
  `builtins.getattr` reach everything from anything.
- to name is not to call. Estimators hold functions as settings (a score function, a ufunc); those may be *values* of a
  model, but only classes and the listed reconstructors may be *called* while it loads.
"""

from __future__ import annotations

import enum
import re
from types import BuiltinFunctionType, FunctionType
from typing import Any


class Verdict(enum.Enum):
    REFUSE = "refuse"
    VALUE = "value"  # may be part of a model, may not be called while it loads
    CALL = "call"  # may also be called, or instantiated, while it loads


def _names(module: str, names: str) -> set[tuple[str, str]]:
    return {(module, name) for name in names.split()}


_NUMPY_SCALARS = (
    "bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 longdouble intc uintc "
    "longlong ulonglong intp uintp object_ str_ bytes_ void datetime64 timedelta64 generic number integer floating"
)
_PANDAS_CLASSES = (
    "DataFrame Series Index RangeIndex MultiIndex CategoricalIndex DatetimeIndex IntervalIndex CategoricalDtype "
    "Categorical DatetimeTZDtype StringDtype BooleanDtype Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype "
    "UInt16Dtype UInt32Dtype UInt64Dtype Float32Dtype Float64Dtype Interval SparseDtype IntervalDtype"
)
_PANDAS_ARRAYS = (
    "DatetimeArray StringArray IntegerArray FloatingArray BooleanArray SparseArray Categorical IntervalArray "
    "TimedeltaArray NumpyExtensionArray"
)

# Reconstructors and classes that may be called. Exact names: what they resolve to is what was read.
_CALLABLE: set[tuple[str, str]] = (
    _names("builtins", "object set frozenset list dict tuple int float complex bool str bytes bytearray slice range")
    | _names("collections", "OrderedDict defaultdict Counter deque")
    | _names("copyreg", "_reconstructor __newobj__ __newobj_ex__")
    | _names("_codecs", "encode")  # how protocols 0 to 2 spell bytes
    | _names("datetime", "datetime date time timedelta timezone")
    | _names("decimal", "Decimal")
    | _names("fractions", "Fraction")
    | _names("functools", "partial")
    | _names("re", "_compile")
    | _names("numpy", f"ndarray dtype {_NUMPY_SCALARS}")
    | _names("numpy.core.multiarray", "_reconstruct scalar")
    | _names("numpy._core.multiarray", "_reconstruct scalar")
    | _names("numpy.core.numeric", "_frombuffer")
    | _names("numpy._core.numeric", "_frombuffer")
    | _names("numpy.ma", "MaskedArray")
    | _names("numpy.ma.core", "MaskedArray MaskedConstant _mareconstruct")
    | _names("numpy.random._pickle", "__randomstate_ctor __generator_ctor __bit_generator_ctor")
    | _names("numpy.random.bit_generator", "SeedSequence __pyx_unpickle_SeedSequence")
    | _names("numpy.random._mt19937", "MT19937")
    | _names("numpy.random._pcg64", "PCG64 PCG64DXSM")
    | _names("numpy.random._philox", "Philox")
    | _names("numpy.random._sfc64", "SFC64")
    | _names("pandas", _PANDAS_CLASSES)
    | _names("pandas.arrays", _PANDAS_ARRAYS)
    | _names("pandas.core.frame", "DataFrame")
    | _names("pandas.core.series", "Series")
    | _names("pandas.core.indexes.base", "Index _new_Index")
    | _names("pandas.core.indexes.range", "RangeIndex")
    | _names("pandas.core.indexes.multi", "MultiIndex")
    | _names("pandas.core.indexes.category", "CategoricalIndex")
    | _names("pandas.core.indexes.datetimes", "DatetimeIndex _new_DatetimeIndex")
    | _names("pandas.core.indexes.numeric", "Int64Index Float64Index UInt64Index")
    | _names("pandas.core.internals.managers", "BlockManager SingleBlockManager")
    | _names("pandas.core.dtypes.dtypes", "CategoricalDtype DatetimeTZDtype IntervalDtype")
    | _names("pandas.core.arrays.categorical", "Categorical")
    | _names("pandas.core.arrays.datetimes", "DatetimeArray")
    | _names("pandas.core.arrays.string_", "StringArray StringDtype")
    | _names("pandas.core.arrays.integer", "IntegerArray Int8Dtype Int16Dtype Int32Dtype Int64Dtype")
    | _names("pandas.core.arrays.floating", "FloatingArray Float32Dtype Float64Dtype")
    | _names("pandas.core.arrays.boolean", "BooleanArray BooleanDtype")
    | _names("pandas.core.arrays.numpy_", "NumpyExtensionArray PandasArray")
    | _names("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked")
    | _names("pandas._libs.internals", "_unpickle_block BlockPlacement")
    | _names("pandas._libs.interval", "Interval")
    | _names("pandas._libs.sparse", "IntIndex BlockIndex")
    | _names("pandas._libs.tslibs.timestamps", "_unpickle_timestamp")
    | _names("pandas._libs.tslibs.timedeltas", "_timedelta_unpickle")
    | _names("xgboost.core", "Booster")
    | _names("xgboost.sklearn", "XGBClassifier XGBRegressor XGBRanker XGBRFClassifier XGBRFRegressor XGBModel")
    | _names("lightgbm.basic", "Booster")
    | _names("lightgbm.sklearn", "LGBMClassifier LGBMRegressor LGBMRanker LGBMModel _LGBMLabelEncoder")
    | _names("catboost.core", "CatBoost CatBoostClassifier CatBoostRegressor CatBoostRanker")
)

# Settings that models hold. Pure functions of arrays; ufuncs are checked to be ufuncs.
_VALUES: set[tuple[str, str]] = (
    _names("numpy", "nan nan_to_num ravel squeeze reshape round around clip mean median sum std var min max amin amax")
    | _names("numpy", "argmax argmin")
    | _names("pandas", "NA NaT")
    | _names("pandas._libs.missing", "NA NAType")
    | _names("sklearn.metrics._scorer", "_passthrough_scorer")
    | _names("sklearn.preprocessing._function_transformer", "_identity")
    | _names("sklearn.utils.validation", "check_array")
    | _names("sklearn.cluster._kmeans", "_kmeans_single_lloyd _kmeans_single_elkan")
    | _names("scipy._lib.array_api_compat.numpy._aliases", "asarray")  # a BSpline holds it
    | _names("scipy._external.array_api_compat.numpy._aliases", "asarray")
    | _names("sklearn.feature_extraction.text", "strip_accents_unicode strip_accents_ascii strip_tags")
)
_UFUNC_MODULES = ("numpy", "scipy.special", "scipy.special._ufuncs", "scipy.special._special_ufuncs")
_VALUE_MODULES = (
    "sklearn.feature_selection._univariate_selection",
    "sklearn.feature_selection._mutual_info",
    "sklearn.metrics._classification",
    "sklearn.metrics._ranking",
    "sklearn.metrics._regression",
    "sklearn.metrics.cluster._supervised",
    "sklearn.metrics.cluster._unsupervised",
    "sklearn.metrics.pairwise",
)

# Where every class is allowed, if it was defined in one of these too.
_CLASS_MODULES = re.compile(
    r"sklearn\.(?:base|calibration|cluster|compose|covariance|cross_decomposition|decomposition|discriminant_analysis"
    r"|dummy|ensemble|feature_extraction|feature_selection|frozen|gaussian_process|impute|isotonic"
    r"|kernel_approximation|kernel_ridge|linear_model|manifold|metrics|mixture|model_selection|multiclass|multioutput"
    r"|naive_bayes|neighbors|neural_network|pipeline|preprocessing|random_projection|semi_supervised|svm|tree|_loss"
    r"|utils\._bunch|utils\._encode|utils\._metadata_requests|utils\._random|utils\._seq_dataset|utils\._weight_vector"
    r"|utils\._isotonic)(?:\.\w+)*"
    r"|scipy\.sparse\._?(?:csr|csc|coo|bsr|dia|dok|lil|base|arrays|matrix)"
    r"|scipy\.sparse"
    r"|scipy\.interpolate\._?(?:interpolate|bsplines)"
    r"|scipy\.interpolate"
    r"|scipy\.spatial\._?ckdtree"
)
_NEVER_IN = re.compile(r"\.(?:tests?|conftest|externals|_?testing|_plot|_?plotting|_display|_repr_html)(?:\.|$)")
_NEVER = re.compile(r"Display$")
_CYTHON_RECONSTRUCTOR = re.compile(r"__pyx_unpickle_\w+|newObj")


def judge(module: str, name: str) -> Verdict:
    """What the words alone allow. Imports nothing; `judge_resolved` has the last word."""
    if "." in name or not name:  # protocol 4 walks attributes: `numpy` and `f2py.os.system`
        return Verdict.REFUSE
    if (module, name) in _CALLABLE or _in_class_module(module, name):
        return Verdict.CALL
    if (module, name) in _VALUES or module in _UFUNC_MODULES or module in _VALUE_MODULES:
        return Verdict.VALUE
    return Verdict.REFUSE


def _in_class_module(module: str, name: str) -> bool:
    if not _CLASS_MODULES.fullmatch(module) or _NEVER_IN.search(module) or _NEVER.search(name):
        return False
    return module not in _VALUE_MODULES or name[:1].isupper() or (name[:1] == "_" and name[1:2].isupper())


def judge_resolved(module: str, name: str, thing: Any) -> Verdict:
    """What is allowed of what `module` and `name` turned out to be.

    A module holds more than it defines: what it imported from elsewhere (`sklearn.pipeline` has joblib's `Memory`) is
    judged by where it comes from.
    """
    verdict = judge(module, name)
    if verdict is Verdict.REFUSE or (module, name) in _CALLABLE or (module, name) in _VALUES:
        return verdict
    if type(thing).__name__ == "ufunc" and type(thing).__module__ == "numpy":
        return Verdict.VALUE
    home = getattr(thing, "__module__", None)
    if not isinstance(home, str):
        return Verdict.REFUSE
    if isinstance(thing, type):
        return Verdict.CALL if _in_class_module(home, thing.__name__) else Verdict.REFUSE
    if _CYTHON_RECONSTRUCTOR.fullmatch(name):
        is_cython = isinstance(thing, BuiltinFunctionType) or type(thing).__name__ == "cython_function_or_method"
        return Verdict.CALL if is_cython and _CLASS_MODULES.fullmatch(home) else Verdict.REFUSE
    if isinstance(thing, FunctionType) and home in _VALUE_MODULES and not name.startswith("_"):
        return Verdict.VALUE
    return Verdict.REFUSE


def why_refused(name: str) -> str:
    """A word of advice for names that honest models contain, or ''."""
    if name.startswith("__main__."):
        return (
            f"{name} was defined in the script that trained the model, so the file does not hold its code; serve such "
            "a model with a slipway.Model class"
        )
    if name.startswith("scipy.stats."):
        return (
            "scipy.stats distributions run code from their state; they come with a RandomizedSearchCV: save its "
            "best_estimator_ instead"
        )
    if name.startswith("cloudpickle."):
        return "cloudpickle packed functions or classes of your own into the file, and those are code"
    return ""
