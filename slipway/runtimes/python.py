"""Python classes: a `slipway.Model` in a file or module, called with numpy arrays."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

import msgspec
import numpy as np

from slipway.errors import InvalidOutput, LoadFailure, ModelFailure, SlipwayError
from slipway.infer.arrays import Array, datatype_of, to_array, to_tensor
from slipway.infer.example import example_tensors
from slipway.infer.runtime import LoadOptions
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor
from slipway.runtimes.batches import check_output, empty_answer, no_rows
from slipway.runtimes.model import Model
from slipway.runtimes.options import cuda_index
from slipway.runtimes.python_form import Form, find_form
from slipway.runtimes.recognise import CLASS_PATH, find_model_for


def load(path: str, options: LoadOptions) -> PythonRuntime:
    """Make the model of `FILE.py`, `FILE.py:Class`, a folder with a model.py, or `module:Class` (working folder first).

    Options go to the class's constructor. Raises LoadFailure with the model's own words where it fails.
    """
    cuda_index(options.device)
    kind = _model_class(path)
    form = find_form(kind)
    settings = _constructor_settings(kind, options.options)
    runner = _Runner()
    try:
        model = kind(**settings)
        model.threads, model.device = options.threads, options.device
        runner.finish(model.load())
        runtime = PythonRuntime(model, form, runner)
        runner.finish(model.warm_up())
    except (SlipwayError, MemoryError):
        runner.close()
        raise
    except Exception as error:
        runner.close()
        raise LoadFailure(f"{kind.__name__} failed to load: {_words(error)}") from error
    return runtime


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _model_class(path: str) -> type[Model]:
    if not CLASS_PATH.fullmatch(path):
        path = find_model_for("python", path).path
    where, _, name = path.rpartition(":")
    try:
        module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    except (SlipwayError, MemoryError):
        raise
    except BaseException as error:  # also SystemExit: a script that was meant to be run
        if isinstance(error, KeyboardInterrupt):
            raise
        raise LoadFailure(f"importing {where!r} failed: {_words(error)}") from error
    kind = getattr(module, name, None)
    if kind is None:
        models = [key for key, each in vars(module).items() if isinstance(each, type) and issubclass(each, Model)]
        near = get_close_matches(name, [each for each in models if each != "Model"], n=1)
        raise LoadFailure(f"{where!r} has no class {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if not (isinstance(kind, type) and issubclass(kind, Model)):
        raise LoadFailure(f"{where}:{name} is not a class derived from slipway.Model")
    return kind


def _import_module(name: str) -> ModuleType:
    """Relative to the working folder, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadFailure(
                f"there is no module {error.name!r} in {here!r} or among the installed packages"
            ) from error
        raise LoadFailure(
            f"{name!r} imports {error.name!r}, which is not installed: pip install {error.name}"
        ) from error


def _import_file(file: Path) -> ModuleType:
    """The file as a module under its own name, with its neighbours importable."""
    folder = str(file.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise LoadFailure(f"{str(file)!r} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise LoadFailure(
            f"{str(file)!r} imports {error.name!r}, which is not installed: pip install {error.name}"
        ) from error
    return module


def _constructor_settings(kind: type[Model], options: Mapping[str, str]) -> dict[str, Any]:
    """Options as keyword arguments, converted to what the constructor says it takes."""
    if not options:
        return {}
    parameters = inspect.signature(kind).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    hints = get_type_hints(kind.__init__) if inspect.isfunction(kind.__init__) else {}
    settings: dict[str, Any] = {}
    for key, text in options.items():
        if key not in parameters and not takes_any:
            near = get_close_matches(key, parameters, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            raise LoadFailure(
                f"{kind.__name__} takes no option {key!r}{hint} it takes {', '.join(parameters) or 'none'}"
            )
        settings[key] = _convert(kind, key, text, hints.get(key, str))
    return settings


def _convert(kind: type[Model], key: str, text: str, wanted: Any) -> Any:
    if wanted not in (int, float, bool):
        return text
    try:
        return msgspec.convert(text, wanted, strict=False)
    except msgspec.ValidationError:
        raise LoadFailure(f"{kind.__name__}'s option {key}={text!r} is not {wanted.__name__}") from None


class _Runner:
    """Finishes what may be a coroutine, on an event loop that is made when the first one comes."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def finish(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(_await(result))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()
            self._loop = None


async def _await(result: Any) -> Any:
    return await result


class PythonRuntime:
    platform = "python_class"

    def __init__(self, model: Model, form: Form, runner: _Runner) -> None:
        self._model = model
        self._form = form
        self._runner = runner
        required = [spec for spec in form.inputs if not spec.optional]
        rows_in = bool(required) and all(spec.shape[:1] == (-1,) for spec in form.inputs)
        self.signature = Signature(form.inputs, form.outputs, batchable=rows_in)
        outputs = form.outputs or self._outputs_by_trial()
        rows_out = all(spec.shape[:1] == (-1,) for spec in outputs)
        batchable = rows_in and rows_out and model.batchable is not False
        if model.batchable and not batchable:
            raise LoadFailure(
                f"{type(model).__name__} says batchable = True, but not every input and output begins with -1"
            )
        self.signature = Signature(form.inputs, outputs, batchable=batchable)

    def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if no_rows(self.signature, inputs):
            return empty_answer(self.signature)
        answer = self._call(inputs)
        rows = inputs[0].shape[0] if self.signature.batchable else -1
        tensors: list[Tensor] = []
        for spec, value in zip(self.signature.outputs, self._by_output(answer), strict=True):
            tensor = to_tensor(spec.name, value, datatype=spec.datatype)
            check_output(spec, tensor.shape, rows)
            tensors.append(tensor)
        return tensors

    def _call(self, inputs: Sequence[Tensor]) -> Any:
        arrays = {tensor.name: _writable(to_array(tensor)) for tensor in inputs}
        try:
            if self._form.as_dict:
                return self._runner.finish(self._model.predict(**{self._form.as_dict: arrays}))
            return self._runner.finish(self._model.predict(**arrays))
        except (SlipwayError, MemoryError):
            raise
        except Exception as error:
            raise ModelFailure(f"{type(self._model).__name__} failed: {_words(error)}") from error

    def _by_output(self, answer: Any) -> list[Any]:
        """The values of an answer in the order of the outputs."""
        names = [spec.name for spec in self.signature.outputs]
        who = type(self._model).__name__
        if isinstance(answer, Mapping):
            missing = [name for name in names if name not in answer]
            unknown = [str(name) for name in answer if name not in names]
            if missing or unknown:
                what = f"lacks {', '.join(missing)}" if missing else f"has the unknown {', '.join(unknown)}"
                raise InvalidOutput(f"the answer of {who} {what}; its outputs are {', '.join(names)}")
            return [answer[name] for name in names]
        if isinstance(answer, tuple) or (isinstance(answer, list) and len(names) > 1):
            if len(answer) != len(names):
                raise InvalidOutput(f"{who} answers {len(answer)} values for its outputs {', '.join(names)}")
            return list(answer)
        if answer is None or len(names) > 1:
            raise InvalidOutput(
                f"{who} answers a {type(answer).__name__}, expected a dict or tuple of {', '.join(names)}"
                if len(names) > 1
                else f"{who} answers nothing; does its predict lack a return?"
            )
        return [answer]

    def _outputs_by_trial(self) -> tuple[TensorSpec, ...]:
        """Nobody declared the outputs: compute two examples of different rows and see what stays the same."""
        try:
            answers = [self._call(self.example(rows)) for rows in (2, 3)]
            one, two = (_named_arrays(answer) for answer in answers)
        except SlipwayError as error:
            raise LoadFailure(
                f"{type(self._model).__name__} declares no outputs, and a trial to find them failed: {error.message}. "
                'Declare them: outputs = {"y": "FP32[-1,3]"}'
            ) from error
        if one.keys() != two.keys():
            raise LoadFailure(
                f"{type(self._model).__name__} declares no outputs, and answers {', '.join(one)} at one time and "
                f"{', '.join(two)} at another; declare them"
            )
        specs = []
        for name, array in one.items():
            datatype = datatype_of(array.dtype)
            if datatype is None or array.ndim != two[name].ndim:
                raise LoadFailure(f"output {name!r} has dtype {array.dtype}, which no protocol here can carry")
            sizes = zip(array.shape, two[name].shape, strict=True)
            specs.append(TensorSpec(name, datatype, tuple(size if size == other else -1 for size, other in sizes)))
        return tuple(specs)

    def example(self, rows: int) -> list[Tensor]:
        given = self._model.example(rows)
        if given is None:
            return example_tensors(self.signature, rows)
        specs = {spec.name: spec for spec in self.signature.inputs}
        unknown = [name for name in given if name not in specs]
        if unknown:
            raise LoadFailure(f"{type(self._model).__name__}.example gives {unknown[0]!r}, which is no input")
        return [
            to_tensor(name, value, datatype=specs[name].datatype, error=LoadFailure) for name, value in given.items()
        ]

    def close(self) -> None:
        try:
            self._runner.finish(self._model.close())
        finally:
            self._runner.close()


def _writable(array: Array) -> Array:
    """People change their arguments; what came in a read-only buffer is copied first."""
    return array if array.flags.writeable else array.copy()


def _named_arrays(answer: Any) -> dict[str, Array]:
    if isinstance(answer, Mapping):
        return {str(name): np.asarray(value) for name, value in answer.items()}
    if isinstance(answer, tuple):
        if len(answer) == 1:
            return {"output": np.asarray(answer[0])}
        return {f"output_{at}": np.asarray(value) for at, value in enumerate(answer)}
    if answer is None:
        raise InvalidOutput("predict answers nothing; does it lack a return?")
    return {"output": np.asarray(cast("Any", answer))}
