"""ONNX models with ONNX Runtime. One row of a tiny model takes this file about a microsecond beside `session.run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from slipway.errors import InvalidOutput, LoadFailure, MissingExtra, ModelFailure
from slipway.infer.arrays import NUMPY, Array, raw_bytes, to_tensor
from slipway.infer.runtime import LoadOptions
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor
from slipway.runtimes.batches import check_output, empty_answer
from slipway.runtimes.onnx_form import Form, find_form
from slipway.runtimes.onnx_values import class_matrix, clean, from_ort_value, ort_value, text_array
from slipway.runtimes.options import OptionReader, cuda_index
from slipway.runtimes.recognise import find_model_for

_LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_MODES = {"sequential": ort.ExecutionMode.ORT_SEQUENTIAL, "parallel": ort.ExecutionMode.ORT_PARALLEL}


def load(path: str, options: LoadOptions) -> OnnxRuntime:
    """Load an `.onnx` or `.ort` file, or the folder around one, with its external data beside it.

    Options: `graph_optimization_level` (disabled, basic, extended, all), `execution_mode` (sequential, parallel),
    `allow_spinning` (threads wait busily for work; only for a machine of their own), `batchable` (whether rows of
    several requests may be computed together; found out by a trial otherwise), `initializers_as_inputs` (let requests
    replace stored weights that the graph lists as inputs), `shape.INPUT=-1,3,224,224` (narrower than the graph says),
    `session.*` (ONNX Runtime's own session entries) and `provider.*` (settings of the execution provider).
    Raises LoadFailure, and MissingExtra where the device needs another onnxruntime package.
    """
    read = OptionReader("onnx", options.options)
    level = _LEVELS[read.choice("graph_optimization_level", list(_LEVELS), "all")]
    mode = _MODES[read.choice("execution_mode", list(_MODES), "sequential")]
    spin = read.flag("allow_spinning", False)
    batchable = read.flag("batchable")
    replaceable = bool(read.flag("initializers_as_inputs", False))
    shapes = read.prefixed("shape.")
    entries = read.prefixed("session.")
    provider = read.prefixed("provider.")
    read.finish()

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = level
    settings.execution_mode = mode
    settings.log_severity_level = 3  # errors: its warnings about graphs are for those who export them
    for key, value in {"session.intra_op.allow_spinning": "01"[bool(spin)], **entries}.items():
        settings.add_session_config_entry(key, value)
    file = find_model_for("onnx", path).path if Path(path).is_dir() else path
    providers = _providers(options.device, {key.partition(".")[2]: value for key, value in provider.items()})
    try:
        session = ort.InferenceSession(file, settings, providers=providers)
    except Exception as error:
        raise LoadFailure(f"ONNX Runtime {ort.__version__} refuses {file!r}: {clean(error)}") from error
    if session.get_providers()[0] != providers[0][0]:
        raise LoadFailure(
            f"ONNX Runtime could not start on {options.device}: {providers[0][0]} fell back to "
            f"{session.get_providers()[0]}; are the CUDA and cuDNN libraries that onnxruntime-gpu needs installed?"
        )
    session.disable_fallback()
    form = find_form(session, shapes=shapes, batchable=batchable, replaceable=replaceable)
    return OnnxRuntime(session, form)


def _providers(device: str, settings: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    gpu = cuda_index(device)
    if gpu is None:
        return [("CPUExecutionProvider", settings)]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise MissingExtra(
            f"device {device} needs ONNX Runtime for CUDA, and the onnxruntime that is installed runs on "
            f"{', '.join(ort.get_available_providers())}: pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    return [("CUDAExecutionProvider", {"device_id": str(gpu), **settings}), ("CPUExecutionProvider", {})]


class OnnxRuntime:
    """A session, and all that can be known before the first request worked out."""

    platform = "onnx_onnxruntime"

    def __init__(self, session: ort.InferenceSession, form: Form) -> None:
        self.signature: Signature = form.signature
        self.extra: dict[str, Any] = {"classes": form.classes} if form.classes else {}
        self._form = form
        self._session: ort.InferenceSession | None = session
        self._run: Callable[[list[str], dict[str, Any]], list[Any]] = session.run
        if any(spec.datatype == "BF16" for spec in (*form.signature.inputs, *form.signature.outputs)):
            self._run = self._run_by_value
        self._names = [spec.name for spec in form.signature.outputs]
        self._outputs = [(spec, *_plain_form(spec, form)) for spec in form.signature.outputs]

    def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        rows = -1
        if self.signature.batchable:
            rows = inputs[0].shape[0]
            if rows == 0:
                return empty_answer(self.signature)
        feed: dict[str, Any] = {}
        for tensor in inputs:
            dtype = NUMPY.get(tensor.datatype)
            if dtype is None:
                feed[tensor.name] = text_array(tensor) if tensor.datatype == "BYTES" else tensor
                continue
            array: Array = np.ndarray(tensor.shape, dtype, tensor.data)
            feed[tensor.name] = array if array.flags.aligned else array.copy()
        try:
            results = self._run(self._names, feed)
        except MemoryError:
            raise
        except Exception as error:
            raise ModelFailure(f"ONNX Runtime: {clean(error)}") from error
        answers: list[Tensor] = []
        for (spec, dtype, tail), result in zip(self._outputs, results, strict=True):
            if dtype is None or type(result) is not np.ndarray:
                answer = self._unusual(spec, result)
            else:
                answer = Tensor(spec.name, spec.datatype, result.shape, raw_bytes(result, share=True))
            if answer.shape != (rows, *tail):
                check_output(spec, answer.shape, rows)
            answers.append(answer)
        return answers

    def _unusual(self, spec: TensorSpec, result: Any) -> Tensor:
        """An output that is no plain array: text, bfloat16, nothing, or one map of class to probability a row."""
        if result is None:
            raise InvalidOutput(f"the model's output {spec.name!r} is empty this time; every output must have a value")
        classes = self._form.classes.get(spec.name)
        if classes is not None:
            result = class_matrix(spec, classes, result)
        if isinstance(result, Tensor):
            return result
        return to_tensor(spec.name, result, datatype=spec.datatype)

    def _run_by_value(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        """Through OrtValues, which numpy need not understand: slower, and the only way for bfloat16."""
        if self._session is None:
            raise RuntimeError("the model is closed")
        values = self._session.run_with_ort_values(names, {name: ort_value(each) for name, each in feed.items()})
        return [from_ort_value(name, value) for name, value in zip(names, values, strict=True)]

    def example(self, rows: int) -> list[Tensor]:
        return self._form.example(rows)

    def close(self) -> None:
        self._session = None
        self._run = _closed


def _plain_form(spec: TensorSpec, form: Form) -> tuple[np.dtype[Any] | None, tuple[int, ...]]:
    """(its dtype, where the array that comes out is just that; the sizes after the first)."""
    is_plain = spec.name not in form.classes and spec.datatype in NUMPY
    return NUMPY[spec.datatype] if is_plain else None, spec.shape[1:]


def _closed(*_: Any) -> list[Any]:
    raise RuntimeError("the model is closed")
