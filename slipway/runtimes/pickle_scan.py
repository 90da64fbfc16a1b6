"""Load pickle-family files without running what they bring along.

One unpickler reads pickles and joblib files (which are pickles with raw arrays between the opcodes). It asks
`pickle_policy` about every name, and calls nothing that did not come from there. Where it refuses, a second reader goes
through the file again and builds only puppets, so that the error can list every name that is in the way.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from importlib import import_module
from math import prod
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from slipway.errors import LoadFailure, MissingExtra, UnsafeModel
from slipway.runtimes.pickle_policy import Verdict, judge, judge_resolved, why_refused
from slipway.runtimes.sniff import HEAD_BYTES, compression_of, open_compressed

_METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "auto", "default")
_METHOD_SETTINGS = ("_response_method", "response_method", "stack_method", "stack_method_")
_OF_CLASSES: dict[Any, int] = {
    copyreg._reconstructor: 2,  # type: ignore[attr-defined]
    copyreg.__newobj__: 1,  # type: ignore[attr-defined]
    copyreg.__newobj_ex__: 1,  # type: ignore[attr-defined]
}
"""What makes instances of its first arguments, so that those must be classes that may be called."""

_MOST_NAMES = 12
_PIECE_BYTES = 16 * 2**20


class Refused(pickle.UnpicklingError):
    """The file says a name, or does something with one, that the policy does not allow."""


class ArrayWrapper:
    """Stands in for `joblib.numpy_pickle.NumpyArrayWrapper`: what joblib puts before the raw bytes of an array."""

    shape: Any = ()
    order: Any = "C"
    dtype: Any = None
    numpy_array_alignment_bytes: Any = None


_Unpickler: Any = pickle._Unpickler


class _Reader(_Unpickler):  # type: ignore[misc]
    """What the checking and the listing reader share: the joblib format.

    The Python unpickler of the standard library, as in joblib itself, for the C one has no place to stop at.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_Unpickler.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.file = file

    def load_build(self) -> None:
        _Unpickler.load_build(self)
        top = self.stack[-1]
        if isinstance(top, ArrayWrapper):
            self.stack[-1] = self.read_array(top)

    dispatch[pickle.BUILD[0]] = load_build

    def read_array(self, wrapper: ArrayWrapper) -> Any:
        raise NotImplementedError

    def skip_padding(self, wrapper: ArrayWrapper) -> None:
        """joblib ≥ 1.2 aligns arrays: one byte with a count, then so many of padding."""
        if wrapper.numpy_array_alignment_bytes is not None:
            self.file.read(self.file.read(1)[0])

    def old_names(self, module: str, name: str) -> tuple[str, str]:
        """Python 2's names, in protocols before 3, to today's."""
        if self.proto < 3 and self.fix_imports:
            if (module, name) in NAME_MAPPING:
                return NAME_MAPPING[module, name]
            return IMPORT_MAPPING.get(module, module), name
        return module, name


class CheckedUnpickler(_Reader):
    """Raises Refused instead of doing what the policy does not allow; `trusted` allows everything."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_Reader.dispatch)

    def __init__(self, file: IO[bytes], *, trusted: bool) -> None:
        super().__init__(file)
        self._trusted = trusted
        self._callable: dict[int, Any] = {}  # by id, and the object, which keeps the id its own
        self._method_settings: list[Any] = []

    def load(self) -> Any:
        model = super().load()
        for setting in self._method_settings:  # a list may have grown since it was looked at
            _check_methods(setting)
        return model

    def find_class(self, module: str, name: str) -> Any:
        module, name = self.old_names(module, name)
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return self._may_call(ArrayWrapper)
        if (module, name) in (("numpy", "memmap"), ("numpy.core.memmap", "memmap"), ("numpy._core.memmap", "memmap")):
            return self._may_call(np.ndarray)  # an array that lay in a file when it was saved; here it never does
        if self._trusted:
            return _resolve(module, name)
        if judge(module, name) is Verdict.REFUSE:
            raise Refused(f"{module}.{name}")
        thing = _resolve(module, name)
        verdict = judge_resolved(module, name, thing)
        if verdict is Verdict.REFUSE:
            raise Refused(f"{module}.{name}")
        return self._may_call(thing) if verdict is Verdict.CALL else thing

    def read_array(self, wrapper: ArrayWrapper) -> Any:
        dtype, shape = wrapper.dtype, wrapper.shape
        if not isinstance(dtype, np.dtype) or not _is_shape(shape):
            raise pickle.UnpicklingError("a joblib array without a usable dtype or shape")
        if dtype.hasobject:  # a whole pickle lies between the opcodes, under the same policy
            return CheckedUnpickler(self.file, trusted=self._trusted).load()
        self.skip_padding(wrapper)
        array = np.empty(prod(shape), dtype)
        view = memoryview(array.view(np.uint8).data) if array.nbytes else memoryview(b"")
        at = 0
        while at < len(view):
            piece = self.file.read(min(len(view) - at, _PIECE_BYTES))
            if not piece:
                raise EOFError(f"an array ends after {at} of {len(view)} bytes")
            view[at : at + len(piece)] = piece
            at += len(piece)
        array = array.reshape(shape[::-1]).transpose() if wrapper.order == "F" else array.reshape(shape)
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))

    def _may_call(self, thing: Any) -> Any:
        self._callable[id(thing)] = thing
        return thing

    def _check_call(self, function: Any, arguments: Any) -> None:
        if self._trusted:
            return
        if id(function) not in self._callable:
            raise Refused(f"a call of {_name_of(function)}")
        if function in _OF_CLASSES:
            classes = arguments[: _OF_CLASSES[function]]
            if not all(id(each) in self._callable and isinstance(each, type) for each in classes):
                raise Refused(f"a call of copyreg.{function.__name__} for something that is no class")
        if isinstance(function, type) and function.__module__.startswith("sklearn."):
            is_plain = vars(object)["__reduce__"] is function.__reduce__ and "__reduce_cython__" not in vars(function)
            if is_plain and not issubclass(function, tuple | dict) and arguments:
                # honest ones are made by __new__ and a state: here a setting would slip past the look at states
                raise Refused(f"a call of {_name_of(function)} with arguments")

    def load_reduce(self) -> None:
        self._check_call(self.stack[-2], self.stack[-1])
        _Unpickler.load_reduce(self)

    def load_newobj(self) -> None:
        self._check_new(self.stack[-2])
        _Unpickler.load_newobj(self)

    def load_newobj_ex(self) -> None:
        self._check_new(self.stack[-3])
        _Unpickler.load_newobj_ex(self)

    def _check_new(self, cls: Any) -> None:
        if not self._trusted and not (isinstance(cls, type) and id(cls) in self._callable):
            raise Refused(f"an instance of {_name_of(cls)}")

    def _instantiate(self, cls: Any, arguments: Any) -> None:
        self._check_call(cls, tuple(arguments))
        _Unpickler._instantiate(self, cls, arguments)

    def load_build(self) -> None:
        if not self._trusted:
            state = self.stack[-1]
            for part in state if isinstance(state, tuple) else (state,):
                if isinstance(part, dict):
                    self._check_state(part)
        _Reader.load_build(self)

    def _check_state(self, state: dict[Any, Any]) -> None:
        """A setting that says which method to call is as good as a name; and nobody's state has `__class__` in it."""
        for key, value in state.items():
            if isinstance(key, str) and key.startswith("__") and key.endswith("__"):
                raise Refused(f"a state with {key}")
            if key in _METHOD_SETTINGS:
                _check_methods(value)
                self._method_settings.append(value)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build


def _check_methods(value: Any) -> None:
    for each in value if isinstance(value, list | tuple) else (value,):
        if each is not None and not (type(each) is str and each in _METHODS):
            raise Refused(f"a setting that calls the method {each!r}")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(isinstance(size, int | np.integer) and size >= 0 for size in shape)


def _name_of(thing: Any) -> str:
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(kind, '__module__', '?')}.{getattr(kind, '__qualname__', '?')}"


def _resolve(module: str, name: str) -> Any:
    """Import and look up. Raises MissingExtra or LoadFailure that says what to install."""
    try:
        thing: Any = import_module(module)
        for part in name.split("."):
            thing = getattr(thing, part)
    except ImportError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] == package:
            if package not in sys.modules:
                raise MissingExtra(
                    f"the model needs the package {package!r}, which is not installed: pip install {package}"
                ) from error
            raise LoadFailure(_other_version(module, name)) from error
        raise LoadFailure(f"the model names {module}.{name}, which cannot be imported: {error}") from error
    except AttributeError as error:
        raise LoadFailure(_other_version(module, name)) from error
    return thing


def _other_version(module: str, name: str) -> str:
    advice = why_refused(f"{module}.{name}")
    if advice:
        return f"the model needs {module}.{name}: {advice}"
    package = module.partition(".")[0]
    version = getattr(sys.modules.get(package), "__version__", "")
    return (
        f"the model names {module}.{name}, which the installed {package} {version} does not have; it was saved with "
        "another version: install that one, or train again"
    )


class _Puppet:
    """Takes the place of every object while names are listed: answers to everything, does nothing."""

    def __init__(self, name: str, arguments: Any = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


class _NameLister(_Reader):
    """Collects every name of a file in `names` and makes nothing real."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_Reader.dispatch)

    def __init__(self, file: IO[bytes], names: dict[str, Verdict]) -> None:
        super().__init__(file)
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        module, name = self.old_names(module, name)
        full = f"{module}.{name}"
        if full == "joblib.numpy_pickle.NumpyArrayWrapper":
            return ArrayWrapper
        thing = getattr(sys.modules.get(module), name, None)
        self.names[full] = judge(module, name) if thing is None else judge_resolved(module, name, thing)
        if full in ("numpy.memmap", "numpy.core.memmap.memmap", "numpy._core.memmap.memmap"):
            self.names[full] = Verdict.CALL
        return _Puppet(full)

    def _replace(self, count: int, cls_at: int, arguments_at: int) -> None:
        cls, arguments = self.stack[cls_at], self.stack[arguments_at]
        del self.stack[-count:]
        is_wrapper = cls is ArrayWrapper
        self.append(ArrayWrapper() if is_wrapper else _Puppet(getattr(cls, "name", ""), arguments))

    def load_reduce(self) -> None:
        self._replace(2, -2, -1)

    def load_newobj_ex(self) -> None:
        self._replace(3, -3, -2)

    def _instantiate(self, cls: Any, arguments: Any) -> None:
        self.append(_Puppet(getattr(cls, "name", ""), tuple(arguments)))

    def read_array(self, wrapper: ArrayWrapper) -> Any:
        item_bytes, has_objects = _puppet_dtype(wrapper.dtype)
        if has_objects:
            return _NameLister(self.file, self.names).load()
        self.skip_padding(wrapper)
        left = prod(wrapper.shape) * item_bytes
        while left > 0:
            piece = self.file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise EOFError
            left -= len(piece)
        return _Puppet("numpy.ndarray")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_reduce
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex


def _puppet_dtype(dtype: Any) -> tuple[int, bool]:
    """(bytes of an item, whether it holds objects) of `numpy.dtype(code, …)` that was never made."""
    code = dtype.arguments[0]
    fields = dtype.state[4] if isinstance(dtype.state, tuple) and len(dtype.state) > 4 else None
    if isinstance(fields, dict):
        return int(code[1:]), any(_puppet_dtype(field[0])[1] for field in fields.values())
    return np.dtype(code).itemsize, code[:1] == "O"


def open_pickle(path: str) -> IO[bytes]:
    """The pickle inside of a file, whatever compression joblib gave it. Raises MissingExtra for lz4 without lz4."""
    with Path(path).open("rb") as file:
        kind = compression_of(file.read(HEAD_BYTES))
    if not kind:
        return Path(path).open("rb")
    if kind == "lz4":
        try:
            lz4 = import_module("lz4.frame")
        except ImportError as error:
            raise MissingExtra(f"{path!r} is compressed with lz4: pip install lz4") from error
        opened: IO[bytes] = lz4.open(path, "rb")
        return opened
    return open_compressed(path, kind)


def names_in(path: str) -> dict[str, Verdict]:
    """Every name that the file says, as far as it can be read, and what the policy holds of it. Runs nothing."""
    names: dict[str, Verdict] = {}
    try:
        with open_pickle(path) as file:
            _NameLister(file, names).load()
    except Exception:  # a hostile file may fail in any way; what was found so far is what is wanted
        pass
    return names


def load_pickle(path: str, *, trusted: bool = False) -> Any:
    """The object in a pickle, cloudpickle or joblib file.

    Raises UnsafeModel with the names that are in the way, MissingExtra for a package that the model needs, LoadFailure
    for a damaged file or one of another version. `trusted` lets the file name, and run, whatever it likes.
    """
    try:
        with open_pickle(path) as file:
            return CheckedUnpickler(file, trusted=trusted).load()
    except Refused as refusal:
        raise _unsafe(path, str(refusal)) from refusal
    except (LoadFailure, MissingExtra, MemoryError):
        raise
    except Exception as error:
        raise LoadFailure(
            f"{path!r} cannot be unpickled, it is damaged or of another version: {type(error).__name__}: {error}"
        ) from error


def _unsafe(path: str, first: str) -> UnsafeModel:
    refused = sorted({name for name, verdict in names_in(path).items() if verdict is Verdict.REFUSE} | {first})
    shown = ", ".join(refused[:_MOST_NAMES])
    more = f" and {len(refused) - _MOST_NAMES} more" if len(refused) > _MOST_NAMES else ""
    advice = "".join(f" ({why})" for why in dict.fromkeys(map(why_refused, refused)) if why)
    return UnsafeModel(
        f"{path!r} was not loaded: it is a pickle that names what is not on the list of harmless names: {shown}{more}"
        f"{advice}. Loading it could run any code. If you trust its origin as you trust a program, allow it with "
        "--trust-pickle; skops files need no such trust"
    )
