"""ModelInferRequest bytes to a Request, and a Response to ModelInferResponse bytes. Pure, strict and hot.

An answer has the form of its request: raw bytes where raw bytes came, typed contents where typed contents came,
unless the request asks for raw (`binary_data` of an output, `binary_data_output` of the request, as in the
protocol's HTTP form). Half floats have no typed form, so an answer that holds one is raw.
"""

from __future__ import annotations

from difflib import get_close_matches
from math import inf, prod
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from slipway.errors import InvalidInput, MalformedRequest, Unsupported
from slipway.infer.protobuf.contents import has_typed_form, pack_contents, unpack_contents
from slipway.infer.protobuf.messages import Message, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from slipway.infer.protobuf.parameters import set_parameter
from slipway.infer.request import BatchOutputs, Request, Response
from slipway.infer.tensor import DATATYPES, MAX_RANK, Buffer, Tensor, check_size

MAX_HEADS = 1024  # serialised heads of answers remembered; a head is about a hundred bytes
SMALL_BYTES = 2048  # of a row's output; up to here the rows of a batch are written in one go
OTHER_NAMES = {"STRING": "BYTES", "FLOAT": "FP32", "DOUBLE": "FP64", "BFLOAT16": "BF16", "HALF": "FP16"}
OTHER_NAMES |= {f"FLOAT{bits}": f"FP{bits}" for bits in (16, 32, 64)}

T = TypeVar("T", bool, int)


class Asked(NamedTuple):
    """`typed`: answer in typed contents. `timeout_s`: from now, as the `timeout` parameter says; inf is none."""

    request: Request
    typed: bool = False
    timeout_s: float = inf


def read_request(payload: bytes) -> Asked:
    """Raises MalformedRequest, InvalidInput and Unsupported, each saying which part is wrong and what fits."""
    try:
        message = ModelInferRequest.FromString(payload)
    except DecodeError as error:
        raise MalformedRequest(f"the message is not a ModelInferRequest: {error}") from None
    raw = message.raw_input_contents
    inputs = _read_raw(message.inputs, raw) if raw else [_read_typed(tensor) for tensor in message.inputs]
    request = Request(message.model_name, inputs, version=message.model_version, id=message.id, protocol="grpc")
    if not request.model:
        raise InvalidInput("model_name is empty")
    typed, timeout_s = bool(inputs) and not raw, inf
    outputs = message.outputs
    if outputs:
        request.outputs = tuple([output.name for output in outputs])
        wanting_raw = [output.name for output in outputs if _wants_raw(output)]
        typed = typed and not wanting_raw
    if message.parameters:
        parameters = _plain(message.parameters)
        typed = not _take(parameters, "binary_data_output", bool, False) and typed
        timeout_s = _read_parameters(parameters, request)
    return Asked(request, typed, timeout_s)


def _read_raw(tensors: Message, raw: Message) -> list[Tensor]:
    for tensor in tensors:
        if tensor.parameters:
            _check_input_parameters(tensor)
        if tensor.HasField("contents") and tensor.contents.ListFields():
            raise MalformedRequest(
                f"input {tensor.name!r} has typed contents, but the request has raw_input_contents too; it is either "
                "raw for all inputs or typed for all"
            )
    if len(raw) != len(tensors):
        raise MalformedRequest(
            f"{len(raw)} raw_input_contents for {len(tensors)} inputs; there must be one for each, in the same order"
        )
    inputs = []
    for tensor, data in zip(tensors, raw, strict=True):
        read = Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), data)
        _check_form(read)
        check_size(read)
        inputs.append(read)
    return inputs


def _read_typed(tensor: Message) -> Tensor:
    if tensor.parameters:
        _check_input_parameters(tensor)
    read = Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), b"")
    _check_form(read)
    elements = prod(read.shape)
    if elements and not tensor.HasField("contents"):
        raise MalformedRequest(f"input {read.name!r} has no data: neither contents nor raw_input_contents")
    read.data = pack_contents(read.name, read.datatype, elements, tensor.contents)
    return read


def _check_form(tensor: Tensor) -> None:
    datatype = tensor.datatype
    if datatype not in DATATYPES:
        upper = datatype[:40].upper().removeprefix("TYPE_")
        near = [OTHER_NAMES[upper]] if upper in OTHER_NAMES else get_close_matches(upper, DATATYPES, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise InvalidInput(
            f"input {tensor.name!r} has unknown datatype {datatype[:40]!r}{hint} "
            f"The datatypes are {', '.join(DATATYPES)}"
        )
    if len(tensor.shape) > MAX_RANK:
        raise InvalidInput(f"input {tensor.name!r} has {len(tensor.shape)} dimensions; {MAX_RANK} is the most")
    for size in tensor.shape:
        if size < 0:
            raise InvalidInput(f"input {tensor.name!r} has shape {list(tensor.shape)}; dimensions cannot be negative")


def _check_input_parameters(tensor: Message) -> None:
    if "shared_memory_region" in tensor.parameters:
        raise Unsupported(
            f"input {tensor.name!r} is in shared memory, which this server does not have; send its data in the request"
        )


def _wants_raw(output: Message) -> bool:
    """What one requested output's parameters say of its form."""
    if not output.parameters:
        return False
    for name in ("shared_memory_region", "classification"):
        if name in output.parameters:
            raise Unsupported(f"output {output.name!r} asks for {name}, which this server does not have")
    return _take(_plain(output.parameters), "binary_data", bool, False)


def _read_parameters(parameters: dict[str, Any], request: Request) -> float:
    """Take out what is meant for the server, leave the rest to the model; the timeout in seconds."""
    if parameters.get("sequence_id"):
        raise Unsupported(
            "the request belongs to a sequence (sequence_id), but no model here keeps state between calls"
        )
    # Every answer here is its request's only one and never empty, so this asks for what happens anyway.
    _take(parameters, "triton_enable_empty_final_response", bool, False)
    request.priority = _take(parameters, "priority", int, request.priority)
    timeout_us = _take(parameters, "timeout", int, 0)
    for name, value in (("priority", request.priority), ("timeout", timeout_us)):
        if value < 0:
            raise InvalidInput(f"parameter {name!r} is {value}; it cannot be negative")
    request.parameters = parameters or None
    return timeout_us / 1e6 if timeout_us else inf


def _take(parameters: dict[str, Any], name: str, kind: type[T], default: T) -> T:
    value = parameters.pop(name, default)
    if type(value) is not kind:
        raise InvalidInput(f"parameter {name!r} is {value!r}; it takes {'a bool' if kind is bool else 'an integer'}")
    return value


def _plain(parameters: Message) -> dict[str, Any]:
    plain = {}
    for name, parameter in parameters.items():
        chosen = parameter.WhichOneof("parameter_choice")
        if chosen is None:
            raise InvalidInput(f"parameter {name!r} has no value")
        plain[name] = getattr(parameter, chosen)
    return plain


class ResponseWriter:
    """Writes answers; remembers the serialised heads, which repeat from call to call.

    A protobuf message is the concatenation of its fields in any order, so an answer is put together from a
    remembered head (model, version, names, datatypes, shapes), the id, and the data as it is.
    """

    def __init__(self) -> None:
        self._heads: dict[Any, bytes] = {}

    def write(self, response: Response, *, typed: bool = False) -> bytes:
        """ModelInferResponse bytes; `typed` where every output has such a form."""
        batch = response.batch
        if batch is not None and not typed and not response.parameters:
            rows = batch.memo.get("grpc")
            if rows is None:
                rows = batch.memo["grpc"] = self._rows(response, batch)
            if rows:
                row = rows[response.row]
                if not response.id:
                    return row
                encoded = response.id.encode()
                return b"".join((row, b"\x1a", varint(len(encoded)), encoded))  # field 3, id
        outputs = response.outputs
        if typed and all(has_typed_form(tensor) for tensor in outputs):
            parts: list[Buffer] = [_typed_head(response)]
        else:
            key: tuple[Any, ...]
            if len(outputs) == 1:
                tensor = outputs[0]
                key = (response.model, response.version, tensor.name, tensor.datatype, tensor.shape)
            else:
                forms = [(tensor.name, tensor.datatype, tensor.shape) for tensor in outputs]
                key = (response.model, response.version, *forms)
            head = self._heads.get(key)
            if head is None:
                if len(self._heads) >= MAX_HEADS:
                    self._heads.clear()
                head = self._heads[key] = _head(response).SerializeToString()
            parts = [head]
            for tensor in outputs:
                data = tensor.data
                parts += (b"\x32", varint(len(data)), data)  # field 6, raw_output_contents
        if response.id:
            encoded = response.id.encode()
            parts += (b"\x1a", varint(len(encoded)), encoded)  # field 3, id
        if response.parameters:
            parts.append(_parameters(response.parameters))
        return b"".join(parts)

    def _rows(self, response: Response, batch: BatchOutputs) -> list[bytes]:
        """Each row of a batch as an answer without an id, in one go; [] where rows differ in length or are large."""
        pieces = response.outputs
        for piece in pieces:
            if not DATATYPES[piece.datatype].item_bytes or not 0 < len(piece.data) <= SMALL_BYTES:
                return []
        head: bytes = _head(response).SerializeToString()
        columns = []
        for piece, tensor in zip(pieces, batch.tensors, strict=True):
            step, data = len(piece.data), bytes(tensor.data)
            mark = b"\x32" + varint(step)  # field 6, raw_output_contents
            columns.append([mark + data[at : at + step] for at in range(0, len(data), step)])
        return [head + b"".join(row) for row in zip(*columns, strict=True)]

    def write_streamed(self, response: Response, *, typed: bool = False) -> bytes:
        """ModelStreamInferResponse bytes. Each says that it is its request's last, as decoupled clients expect."""
        payload = self.write(response, typed=typed) + FINAL_RESPONSE
        return b"".join((b"\x12", varint(len(payload)), payload))  # field 2, infer_response


def write_stream_error(message: str, code: str, request: Request | None) -> bytes:
    """ModelStreamInferResponse bytes for a request that failed; with its model and id where these could be read."""
    failed = ModelStreamInferResponse(error_message=message)
    failed.infer_response.parameters["slipway-error"].string_param = code
    if request is not None:
        failed.infer_response.model_name, failed.infer_response.id = request.model, request.id
    written: bytes = failed.SerializeToString()
    return written


def varint(number: int) -> bytes:
    """https://protobuf.dev/programming-guides/encoding/#varints"""
    if number < 0x80:
        return _ONE_BYTE[number]
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_ONE_BYTE = [bytes((number,)) for number in range(0x80)]


def _head(response: Response) -> Message:
    head = ModelInferResponse(model_name=response.model, model_version=response.version)
    for tensor in response.outputs:
        head.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return head


def _typed_head(response: Response) -> bytes:
    head = _head(response)
    for tensor, output in zip(response.outputs, head.outputs, strict=True):
        unpack_contents(tensor, output.contents)
    written: bytes = head.SerializeToString()
    return written


def _parameters(parameters: dict[str, Any]) -> bytes:
    """The `parameters` field of an answer, alone. What has no type of its own on the wire travels as text."""
    message = ModelInferResponse()
    for name, value in parameters.items():
        if not set_parameter(message.parameters[name], value):
            message.parameters[name].string_param = str(value)
    written: bytes = message.SerializeToString()
    return written


FINAL_RESPONSE = _parameters({"triton_final_response": True})
