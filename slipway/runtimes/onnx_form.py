"""What an ONNX model takes and gives, from what the graph declares and from what a trial shows.

Graphs leave much open: shapes of outputs that nobody inferred, first dimensions that are dynamic and yet do not count
rows, maps whose keys only the model knows. So the model computes two batches of zeros at load, and what it declared is
corrected by what it did.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import onnxruntime as ort

from slipway.errors import LoadFailure
from slipway.infer.arrays import to_array
from slipway.infer.example import zeros
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor
from slipway.runtimes.declared import parse_spec
from slipway.runtimes.onnx_values import clean, from_ort_value, ort_value, text_array

_log = logging.getLogger(__name__)

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_TENSOR = re.compile(r"(optional\()?tensor\((\w+)\)\)?")
_CLASS_MAP = re.compile(r"seq\(map\((?:int64|string),tensor\((float|double)\)\)\)")
_TRIAL_SIZES = (1, 8, 32, 64, 224)
"""What a dynamic dimension may be for the model to work at all: convolutions need some room."""


class Form(msgspec.Struct, frozen=True):
    """`classes`: for each output that is a map, its keys in the order of the columns. `size`: of dynamic dimensions
    in an example."""

    signature: Signature
    classes: dict[str, list[Any]]
    size: int

    def example(self, rows: int) -> list[Tensor]:
        return example(self.signature.inputs, rows, size=self.size, batchable=self.signature.batchable)


def example(specs: Sequence[TensorSpec], rows: int, *, size: int, batchable: bool) -> list[Tensor]:
    """Zeros for every input that must be given, with `size` for each dynamic dimension but the rows."""
    made = []
    for spec in specs:
        if not spec.optional:
            first = spec.shape[:1] if batchable else tuple(size if each == -1 else each for each in spec.shape[:1])
            rest = tuple(size if each == -1 else each for each in spec.shape[1:])
            made.append(zeros(msgspec.structs.replace(spec, shape=first + rest), rows, batchable=batchable))
    return made


def find_form(
    session: ort.InferenceSession, *, shapes: dict[str, str], batchable: bool | None, replaceable: bool
) -> Form:
    """The form of a model. `shapes`: `shape.INPUT` options. `batchable` None: find out. Raises LoadFailure."""
    inputs = [_input_spec(each) for each in session.get_inputs()]
    if replaceable:
        inputs += [
            msgspec.structs.replace(_input_spec(each), optional=True) for each in session.get_overridable_initializers()
        ]
    inputs = _narrowed(inputs, shapes)
    everything = (*session.get_inputs(), *session.get_outputs())
    if any(spec.datatype == "BYTES" for spec in inputs) and any("bfloat16" in each.type for each in everything):
        raise LoadFailure(
            "the model takes text and has bfloat16 inputs or outputs, which ONNX Runtime's Python interface cannot "
            "pass in one call; cast the bfloat16 ones to float in the graph"
        )
    required = [spec for spec in inputs if not spec.optional]
    may_batch = bool(required) and all(spec.shape[:1] == (-1,) for spec in inputs)
    if batchable and not may_batch:
        fixed = next((spec for spec in inputs if spec.shape[:1] != (-1,)), None)
        raise LoadFailure(
            f"option batchable=true: input {fixed.name!r} has the shape {list(fixed.shape)}, so its first dimension "
            "does not count rows"
            if fixed
            else "option batchable=true: the model has no input that counts rows"
        )
    trial = _Trial(session, inputs, batched=may_batch and batchable is not False)
    outputs: list[TensorSpec] = []
    classes: dict[str, list[Any]] = {}
    for at, declared in enumerate(session.get_outputs()):
        spec, keys = _output_spec(declared, trial, at)
        outputs.append(spec)
        if keys is not None:
            classes[spec.name] = keys
    is_batchable = trial.batched and (bool(batchable) or _counts_rows(session, trial, outputs))
    if is_batchable:
        outputs = [msgspec.structs.replace(spec, shape=(-1, *spec.shape[1:])) for spec in outputs]
    signature = Signature(tuple(inputs), tuple(outputs), batchable=is_batchable)
    return Form(signature, classes, trial.size)


def _narrowed(inputs: list[TensorSpec], shapes: dict[str, str]) -> list[TensorSpec]:
    wanted = {key.partition(".")[2]: text.strip("[] ") for key, text in shapes.items()}
    known = {spec.name for spec in inputs}
    for name in wanted:
        if name not in known:
            raise LoadFailure(
                f"option shape.{name}: the model has no input {name!r}, it has {', '.join(sorted(known))}"
            )
    return [
        msgspec.structs.replace(spec, shape=parse_spec(spec.name, f"{spec.datatype}[{wanted[spec.name]}]").shape)
        if spec.name in wanted
        else spec
        for spec in inputs
    ]


def _input_spec(declared: Any) -> TensorSpec:
    found = _TENSOR.fullmatch(declared.type)
    datatype = DATATYPES.get(found[2]) if found else None
    if found is None or datatype is None:
        raise LoadFailure(
            f"input {declared.name!r} is a {declared.type}, which no protocol here can carry; known are tensors of "
            f"{', '.join(DATATYPES)}"
        )
    return TensorSpec(declared.name, datatype, _sizes(declared.shape), optional=bool(found[1]))


def _sizes(shape: Sequence[Any]) -> tuple[int, ...]:
    """Symbols and unknown sizes as -1."""
    return tuple(size if isinstance(size, int) and size >= 0 else -1 for size in shape)


class _Trial:
    """Two batches of zeros (or one, where rows are not counted) and what came of them.

    `results`: what the first gave, or None with `failure`. `grew`: what the second gave.
    """

    def __init__(self, session: ort.InferenceSession, inputs: Sequence[TensorSpec], *, batched: bool) -> None:
        self.batched = batched
        self.failure = ""
        self.results: list[Any] | None = None
        self.grew: list[Any] | None = None
        dynamic = any(-1 in (spec.shape[1:] if batched else spec.shape) for spec in inputs)
        for self.size in _TRIAL_SIZES if dynamic else _TRIAL_SIZES[:1]:
            try:
                self.results = _run(session, example(inputs, 2, size=self.size, batchable=batched))
                break
            except Exception as error:
                self.failure = self.failure or clean(error)
        else:
            self.size = 1
            _log.warning("the model does not compute a batch of zeros: %s", self.failure)
        if self.results is not None and batched:
            try:
                self.grew = _run(session, example(inputs, 3, size=self.size, batchable=True))
            except Exception as error:
                self.failure = clean(error)


def _run(session: ort.InferenceSession, inputs: Sequence[Tensor]) -> list[Any]:
    if all(each.type != "tensor(bfloat16)" for each in (*session.get_inputs(), *session.get_outputs())):
        feed = {each.name: text_array(each) if each.datatype == "BYTES" else to_array(each) for each in inputs}
        return list(session.run(None, feed))
    values = {each.name: ort_value(each if each.datatype == "BF16" else to_array(each)) for each in inputs}
    names = [each.name for each in session.get_outputs()]
    return [
        from_ort_value(name, value)
        for name, value in zip(names, session.run_with_ort_values(names, values), strict=True)
    ]


def _output_spec(declared: Any, trial: _Trial, at: int) -> tuple[TensorSpec, list[Any] | None]:
    """The spec of output `at`, and its classes where it is a map of classes a row."""
    result = None if trial.results is None else trial.results[at]
    found = _TENSOR.fullmatch(declared.type)
    if found is not None and found[2] in DATATYPES:
        shape = _sizes(declared.shape)
        grew = None if trial.grew is None else trial.grew[at]
        if result is not None:
            shape = _corrected(shape, tuple(result.shape), None if grew is None else tuple(grew.shape))
        return TensorSpec(declared.name, DATATYPES[found[2]], shape), None
    maps = _CLASS_MAP.fullmatch(declared.type)
    if maps is None:
        raise LoadFailure(
            f"output {declared.name!r} is a {declared.type}, which no protocol here can carry: an output is one tensor "
            f"of {', '.join(DATATYPES)}. Export the model with a tensor there, such as by Concat or SequenceAt"
        )
    if not result:
        raise LoadFailure(
            f"output {declared.name!r} is a {declared.type}, whose classes only a trial shows, and that failed: "
            f"{trial.failure or 'it was empty'}. Export the model with options={{'zipmap': False}}"
        )
    keys = sorted(result[0])
    return TensorSpec(declared.name, DATATYPES[maps[1]], (-1, len(keys))), keys


def _corrected(declared: tuple[int, ...], seen: tuple[int, ...], grew: tuple[int, ...] | None) -> tuple[int, ...]:
    """What was declared, as far as the trial did not prove it wrong."""
    if len(declared) != len(seen):
        return tuple(-1 for _ in seen)
    other = grew if grew is not None and len(grew) == len(seen) else seen
    return tuple(size if size == one == two else -1 for size, one, two in zip(declared, seen, other, strict=True))


def _counts_rows(session: ort.InferenceSession, trial: _Trial, outputs: Sequence[TensorSpec]) -> bool:
    """Whether the first dimension of every output is that of the inputs."""
    if trial.results is None:  # only the words of the graph are left: one symbol for all first dimensions
        everything = (*session.get_inputs(), *session.get_outputs())
        firsts = {each.shape[0] if each.shape else None for each in everything}
        return len(firsts) == 1 and isinstance(firsts.pop(), str)
    if trial.grew is None:
        return False
    for spec, two, three in zip(outputs, trial.results, trial.grew, strict=True):
        if isinstance(two, list):
            if (len(two), len(three)) != (2, 3):
                return False
        elif not spec.shape or (two.shape[0], three.shape[0]) != (2, 3):
            return False
    return True
