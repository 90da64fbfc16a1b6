"""The Open Inference Protocol v2 over gRPC, from the caller's side: requests to messages, answers to values. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from slipway.client.exchange import Exchange, Incoming, Outgoing
from slipway.client.failures import BY_GRPC_CODE, make_error
from slipway.errors import InvalidInput, InvalidOutput, SlipwayError
from slipway.infer.protobuf.contents import pack_contents
from slipway.infer.protobuf.messages import INFERENCE, Message, message_class
from slipway.infer.protobuf.parameters import set_parameter
from slipway.infer.request import Request, Response
from slipway.infer.service import (
    BatchStatistic,
    DurationStatistic,
    IndexEntry,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
)
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor, check_size

ERROR_KEY = "slipway-error"
CORRELATION_KEY = "slipway-correlation"
STREAM_PATH = f"/{INFERENCE}/ModelStreamInfer"

T = TypeVar("T")


class GrpcProtocol:
    """Tensors always travel in their raw form."""

    def failure(self, incoming: Incoming) -> SlipwayError | None:
        if incoming.status == 0:
            return None
        return make_error(
            incoming.headers.get(ERROR_KEY, ""),
            incoming.detail or f"the server answered with gRPC code {incoming.status}",
            fallback=BY_GRPC_CODE.get(incoming.status),
            headers=incoming.headers,
            correlation=incoming.headers.get(CORRELATION_KEY, ""),
        )

    def with_timeout(self, outgoing: Outgoing, timeout_s: float) -> Outgoing:  # noqa: ARG002
        return outgoing  # the deadline of a call is gRPC's own business

    def infer(self, request: Request) -> Exchange[Response]:
        return _exchange("ModelInfer", infer_message(request), read_response)

    def live(self) -> Exchange[bool]:
        return _exchange("ServerLive", _message("ServerLiveRequest"), lambda said: bool(said.live))

    def ready(self, model: str, version: str) -> Exchange[bool]:
        if not model:
            return _exchange("ServerReady", _message("ServerReadyRequest"), lambda said: bool(said.ready))
        asked = _message("ModelReadyRequest", name=model, version=version)
        return _exchange("ModelReady", asked, lambda said: bool(said.ready))

    def server_metadata(self) -> Exchange[ServerMetadata]:
        return _exchange(
            "ServerMetadata",
            _message("ServerMetadataRequest"),
            lambda said: ServerMetadata(said.name, said.version, tuple(said.extensions)),
        )

    def model_metadata(self, model: str, version: str) -> Exchange[ModelMetadata]:
        asked = _message("ModelMetadataRequest", name=model, version=version)
        return _exchange("ModelMetadata", asked, _read_metadata)

    def statistics(self, model: str, version: str) -> Exchange[list[ModelStatistics]]:
        asked = _message("ModelStatisticsRequest", name=model, version=version)
        return _exchange("ModelStatistics", asked, lambda said: [_read_statistics(one) for one in said.model_stats])

    def index(self, *, ready_only: bool) -> Exchange[list[IndexEntry]]:
        asked = _message("RepositoryIndexRequest", ready=ready_only)
        return _exchange(
            "RepositoryIndex",
            asked,
            lambda said: [IndexEntry(one.name, one.version, one.state, one.reason) for one in said.models],
        )

    def load(self, model: str) -> Exchange[None]:
        return _exchange("RepositoryModelLoad", _message("RepositoryModelLoadRequest", model_name=model), _nothing)

    def unload(self, model: str) -> Exchange[None]:
        return _exchange("RepositoryModelUnload", _message("RepositoryModelUnloadRequest", model_name=model), _nothing)


def _message(kind: str, /, **fields: Any) -> Message:
    return message_class(f"inference.{kind}")(**fields)


def _exchange(method: str, message: Message, read: Callable[[Message], T]) -> Exchange[T]:
    answers = message_class(f"inference.{method}Response")

    def parse(incoming: Incoming) -> T:
        try:
            said = answers.FromString(incoming.body)
        except DecodeError as error:
            raise InvalidOutput(f"the server's answer is not a {method}Response: {error}") from error
        return read(said)

    return Exchange(Outgoing(f"/{INFERENCE}/{method}", message.SerializeToString()), parse)


def infer_message(request: Request) -> Message:
    message = _message("ModelInferRequest", model_name=request.model, model_version=request.version, id=request.id)
    for name, value in (request.parameters or {}).items():
        _set_parameter(message.parameters[name], name, value)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_input_contents.append(bytes(tensor.data))
    for output in request.outputs or ():
        message.outputs.add(name=output)
    return message


def read_streamed(body: bytes) -> Response:
    """One answer of a stream. Raises the error of the request that it answers, named by its id."""
    said = message_class("inference.ModelStreamInferResponse").FromString(body)
    answer = said.infer_response
    if said.error_message:
        code = answer.parameters[ERROR_KEY].string_param if ERROR_KEY in answer.parameters else ""
        whose = f"request {answer.id} of the stream: " if answer.id else ""
        raise make_error(code, whose + said.error_message, fallback=None, headers={})
    return read_response(answer)


def _set_parameter(parameter: Message, name: str, value: object) -> None:
    if not set_parameter(parameter, value):
        raise InvalidInput(f"parameter {name!r} is {value!r}; gRPC carries bools, 64-bit integers, floats and text")


def read_response(said: Message) -> Response:
    """Raises InvalidOutput for an answer that contradicts itself."""
    raw = said.raw_output_contents
    outputs = []
    try:
        for place, output in enumerate(said.outputs):
            tensor = Tensor(output.name, output.datatype, tuple(output.shape), raw[place] if raw else b"")
            if not raw:
                tensor.data = pack_contents(tensor.name, tensor.datatype, tensor.elements, output.contents)
            check_size(tensor)
            outputs.append(tensor)
    except (SlipwayError, LookupError) as error:
        raise InvalidOutput(f"the server's ModelInferResponse cannot be read: {error}") from error
    parameters = {
        name: getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
        for name, parameter in said.parameters.items()
    }
    return Response(said.model_name, said.model_version, outputs, said.id, parameters or None)


def _read_metadata(said: Message) -> ModelMetadata:
    signature = Signature(_specs(said.inputs), _specs(said.outputs))
    return ModelMetadata(said.name, tuple(said.versions), said.platform, signature)


def _specs(said: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(one.name, one.datatype, tuple(one.shape)) for one in said)


def _read_statistics(one: Message) -> ModelStatistics:
    stats = one.inference_stats
    return ModelStatistics(
        one.name,
        one.version,
        one.last_inference,
        one.inference_count,
        one.execution_count,
        success=_duration(stats.success),
        fail=_duration(stats.fail),
        queue=_duration(stats.queue),
        compute=_duration(stats.compute_infer),
        cache_hit=_duration(stats.cache_hit),
        cache_miss=_duration(stats.cache_miss),
        batches=[BatchStatistic(batch.batch_size, _duration(batch.compute_infer)) for batch in one.batch_stats],
    )


def _duration(said: Message) -> DurationStatistic:
    return DurationStatistic(said.count, said.ns)


def _nothing(said: Message) -> None:
    """What matters was in the status."""
