"""Open Inference Protocol v2 over HTTP: an infer request's JSON and binary bytes to tensors.

JSON is what people and small requests use, the binary tensor data extension what large ones use; a request may mix
both. Small JSON is read by msgspec, which says where a mistake is; large arrays of numbers by simdjson, straight into
buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from difflib import get_close_matches
from math import prod
from typing import Any

import msgspec

from slipway.errors import InvalidInput, MalformedRequest, Unsupported
from slipway.infer.request import Request
from slipway.infer.tensor import DATATYPES, MAX_RANK, Tensor, check_size, pack_bytes
from slipway.transports.http import v2_numbers
from slipway.transports.http.v2_forms import BodyForms, Form

LARGE_JSON_BYTES = 32_768
SMALL_ELEMENTS = 512
MAX_ELEMENTS = 2**48
MAX_PACKERS = 4096


class InputBody(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: Any = msgspec.UNSET
    parameters: dict[str, Any] | None = None


class OutputBody(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] | None = None


class InferBody(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    inputs: list[InputBody]
    id: str = ""
    outputs: list[OutputBody] | None = None
    parameters: dict[str, Any] | None = None
    model_name: str = ""
    model_version: str = ""


class Wanted(msgspec.Struct, gc=False):
    """How the client wants its answer: which outputs in binary. `every`: also those that it did not list."""

    every: bool = False
    binary: frozenset[str] = frozenset()
    text: frozenset[str] = frozenset()


JSON_ONLY = Wanted()
_FORMS = BodyForms()
_decode_body = msgspec.json.Decoder(InferBody).decode


def decode_infer(
    body: bytes, *, json_bytes: int | None, model: str, version: str, now: float
) -> tuple[Request, Wanted]:
    """An infer request. `json_bytes`: the Inference-Header-Content-Length, or None where all of the body is JSON.

    Raises MalformedRequest for what cannot be read and InvalidInput for what is not a tensor.
    """
    binary = b""
    if json_bytes is None:
        known = _FORMS.read(body)
        if known is not None:
            return Request(model, [known], version), JSON_ONLY
    else:
        if json_bytes > len(body):
            raise MalformedRequest(
                f"inference-header-content-length is {json_bytes}, but the body has {len(body)} bytes"
            )
        binary, body = body[json_bytes:], body[:json_bytes]
    parsed = _parse(body)
    inputs, at = [], 0
    for place, given in enumerate(parsed.inputs):
        if given.datatype not in DATATYPES:
            raise InvalidInput(_unknown_datatype(given, place))
        _check_shape(given)
        size = None if given.parameters is None else given.parameters.get("binary_data_size")
        if size is None:
            inputs.append(_from_json(given))
        else:
            inputs.append(_from_binary(given, size, binary, at))
            at += size
    if at != len(binary):
        raise MalformedRequest(f"{len(binary)} bytes follow the JSON, but the inputs' binary_data_size add up to {at}")
    request = Request(model, inputs, version, parsed.id)
    wanted = JSON_ONLY
    if json_bytes is None and len(inputs) == 1 and not parsed.id:
        _learn_form(body, parsed, inputs[0])
    if parsed.parameters is not None:
        wanted = _read_parameters(request, parsed.parameters, now)
    if parsed.outputs is not None:
        request.outputs = tuple([output.name for output in parsed.outputs]) or None
        wanted = _read_outputs(parsed.outputs, wanted)
    return request, wanted


def _learn_form(body: bytes, parsed: InferBody, tensor: Tensor) -> None:
    """Remember the form of a body that holds one small tensor of numbers, as a flat array, and nothing else."""
    pack = _packer(tensor.datatype, tensor.shape)
    only = parsed.inputs[0]
    if pack is None or type(only.data) is not list or only.parameters or parsed.parameters or parsed.outputs:
        return

    def is_same_without_data(other: bytes) -> bool:
        try:
            return _decode_body(other) == msgspec.structs.replace(parsed, inputs=[without])
        except msgspec.DecodeError:
            return False

    without = msgspec.structs.replace(only, data=[])
    _FORMS.learn(
        body, Form(tensor.name, tensor.datatype, tensor.shape, pack), is_same_without_data=is_same_without_data
    )


def _parse(body: bytes) -> InferBody:
    if len(body) > LARGE_JSON_BYTES:
        large = v2_numbers.parse_large(body)
        if large is not None:
            return _convert(large)
    try:
        return _decode_body(body)
    except msgspec.ValidationError as error:
        raise MalformedRequest(f"not an infer request: {_with_hint(str(error))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedRequest("the body is nested too deeply") from None


def _convert(document: Any) -> InferBody:
    try:
        return msgspec.convert(document, InferBody)
    except msgspec.ValidationError as error:
        raise MalformedRequest(f"not an infer request: {_with_hint(str(error))}") from None


def _with_hint(message: str) -> str:
    """msgspec names the unknown field; add the nearest one that exists."""
    if "unknown field" not in message:
        return message
    name = message.split("`")[1][:40]
    known = sorted({*InferBody.__struct_fields__, *InputBody.__struct_fields__})
    near = get_close_matches(name, known, n=1)
    return f"{message}; did you mean `{near[0]}`?" if near else f"{message}; known are {', '.join(known)}"


def _check_shape(given: InputBody) -> None:
    shape = given.shape
    if shape and min(shape) < 0:
        raise InvalidInput(f"input {given.name!r} has shape {shape}; a dimension cannot be negative")
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"input {given.name!r} has {len(shape)} dimensions; {MAX_RANK} is the most")
    if prod([size or 1 for size in shape]) > MAX_ELEMENTS:  # a zero beside it does not make it sensible
        raise InvalidInput(f"input {given.name!r} has shape {shape}, which is larger than any tensor can be")


def _unknown_datatype(given: InputBody, place: int) -> str:
    elsewhere = {"FLOAT": "FP", "DOUBLE": "FP64", "STR": "BYTES", "OBJECT": "BYTES", "BFLOAT": "BF"}
    asked = given.datatype.upper()
    for name, ours in elsewhere.items():
        if asked.startswith(name):
            asked = asked.replace(name, ours, 1)
    near = get_close_matches(asked[:40], DATATYPES, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ";"
    known = ", ".join(DATATYPES)
    return f"inputs[{place}] ({given.name!r}) has unknown datatype {given.datatype[:40]!r}{hint} known are {known}"


def _from_binary(given: InputBody, size: Any, binary: bytes, at: int) -> Tensor:
    if type(size) is not int or size < 0:
        raise InvalidInput(f"input {given.name!r}: binary_data_size is {size!r}, expected a number of bytes")
    if given.data is not msgspec.UNSET:
        raise InvalidInput(f"input {given.name!r} has both data and binary_data_size")
    if at + size > len(binary):
        raise MalformedRequest(
            f"input {given.name!r}: binary_data_size is {size}, but only {len(binary) - at} bytes are left of the body"
        )
    tensor = Tensor(given.name, given.datatype, tuple(given.shape), memoryview(binary)[at : at + size])
    check_size(tensor)
    return tensor


def _from_json(given: InputBody) -> Tensor:
    data, datatype = given.data, given.datatype
    shape = tuple(given.shape)
    pack = _packer(datatype, shape)
    if pack is not None and type(data) is list and bool not in set(map(type, data)):
        try:  # flat, small and right, as nearly all are
            return Tensor(given.name, datatype, shape, pack(*data))
        except (struct.error, TypeError, OverflowError):
            pass  # nested, of another type, too few or out of range: the long way finds out
    facts = DATATYPES[datatype]
    elements = prod(shape)
    if data is msgspec.UNSET:
        if given.parameters and "shared_memory_region" in given.parameters:
            raise Unsupported(f"input {given.name!r} is in shared memory, which is not served here; send its data")
        raise InvalidInput(f"input {given.name!r} has neither data nor binary_data_size")
    if isinstance(data, v2_numbers.Numbers):
        raw = v2_numbers.to_bytes(data, given.name, datatype)
    elif facts.kind == "s":
        raw = pack_bytes([_text(given.name, item) for item in _flatten(given, data)])
    else:
        raw = v2_numbers.pack(given.name, datatype, _flatten(given, data))
    tensor = Tensor(given.name, datatype, shape, raw)
    found = len(raw) // facts.item_bytes if facts.item_bytes else -1
    if found not in (-1, elements):
        raise InvalidInput(
            f"input {given.name!r} has {found} elements of data, but its shape {given.shape} calls for {elements}"
        )
    check_size(tensor)
    return tensor


_Packer = Callable[..., bytes]
_PACKERS: dict[tuple[str, tuple[int, ...]], _Packer | None] = {}


def _packer(datatype: str, shape: tuple[int, ...]) -> _Packer | None:
    """Packs the elements of a small tensor, and raises struct.error unless there are as many as its shape says.

    Remembered by datatype and shape, since shapes of requests repeat; None where the long way must be gone.
    """
    try:
        return _PACKERS[datatype, shape]
    except KeyError:
        typecode, elements = DATATYPES[datatype].typecode, prod(shape)
        simple = typecode and datatype != "BOOL" and elements <= SMALL_ELEMENTS
        pack = struct.Struct(f"<{elements}{typecode}").pack if simple else None
        if len(_PACKERS) >= MAX_PACKERS:
            _PACKERS.clear()
        _PACKERS[datatype, shape] = pack
        return pack


def _flatten(given: InputBody, data: Any) -> list[Any]:
    """Nested lists that follow the shape, or one flat list, to a flat list (the protocol allows both)."""
    if not isinstance(data, list):
        raise InvalidInput(f"input {given.name!r}: data is {type(data).__name__}, expected an array")
    level = data
    for size in given.shape[1:]:
        if not any(isinstance(item, list) for item in level):
            break
        flatter: list[Any] = []
        for item in level:
            if not isinstance(item, list) or len(item) != size:
                got = f"{len(item)} elements" if isinstance(item, list) else f"the single value {item!r:.40}"
                raise InvalidInput(f"input {given.name!r}: data nests {got} where its shape {given.shape} says {size}")
            flatter.extend(item)
        level = flatter
    return level


def _text(name: str, item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    raise InvalidInput(f"input {name!r}: BYTES data in JSON are strings, not {item!r:.40}; send other bytes as binary")


def _read_parameters(request: Request, parameters: dict[str, Any], now: float) -> Wanted:
    """Take out what is meant for the server, leave the rest to the model."""
    if parameters.get("sequence_id"):
        raise Unsupported("the request belongs to a sequence (sequence_id), but no model here keeps state")
    parameters.pop("triton_enable_empty_final_response", None)  # every answer is its request's only one
    timeout_us = parameters.pop("timeout", None)
    if timeout_us is not None:
        is_number = isinstance(timeout_us, int | float) and not isinstance(timeout_us, bool)
        if not is_number or not -1e18 < timeout_us < 1e18:
            raise InvalidInput(f"parameter 'timeout' is {timeout_us!r:.40}, expected microseconds")
        if timeout_us < 0:
            raise InvalidInput(f"parameter 'timeout' is {timeout_us}; it cannot be negative")
        if timeout_us:
            request.deadline = now + timeout_us * 1e-6
    priority = parameters.pop("priority", None)
    if priority is not None:
        if type(priority) is not int or priority < 0:
            raise InvalidInput(
                f"parameter 'priority' is {priority!r:.40}, expected a whole number, 0 being most urgent"
            )
        request.priority = priority
    every = parameters.pop("binary_data_output", False)
    if not isinstance(every, bool):
        raise InvalidInput(f"parameter 'binary_data_output' is {every!r:.40}, expected true or false")
    request.parameters = parameters or None
    return Wanted(every) if every else JSON_ONLY


def _read_outputs(outputs: list[OutputBody], wanted: Wanted) -> Wanted:
    binary: set[str] = set()
    text: set[str] = set()
    for output in outputs:
        if not output.parameters:
            continue
        for name in ("shared_memory_region", "classification"):
            if name in output.parameters:
                raise Unsupported(f"output {output.name!r} asks for {name}, which this server does not have")
        asked = output.parameters.get("binary_data")
        if asked is not None:
            if not isinstance(asked, bool):
                raise InvalidInput(f"output {output.name!r}: binary_data is {asked!r:.40}, expected true or false")
            (binary if asked else text).add(output.name)
    return Wanted(wanted.every, frozenset(binary), frozenset(text)) if binary or text else wanted
