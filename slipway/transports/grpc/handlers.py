"""Every gRPC method, once: request bytes in, answer bytes or an error out, by callback.

Both doors call these and add nothing, so they cannot differ in what they answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from slipway.errors import Draining, MalformedRequest, NotFound, PayloadTooLarge, SlipwayError, Unsupported
from slipway.infer.protobuf.messages import HEALTH, INFERENCE, POOL, Message, class_of
from slipway.infer.request import NEVER, Request, Response
from slipway.infer.service import Service, Ticket
from slipway.logs import new_correlation
from slipway.transports import answers
from slipway.transports.grpc.codec import ResponseWriter, write_stream_error
from slipway.transports.grpc.templates import RequestReader

LOG = logging.getLogger(__name__)

Outcome = bytes | SlipwayError
Answer = Callable[[Outcome], None]
"""Called exactly once for each call that was not cancelled, from the event loop's thread."""

REFUSED = "the server is draining and takes no new calls"
STOPPED = "the server stopped before this call was answered"

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3  # grpc.health.v1.HealthCheckResponse.ServingStatus


class Call(NamedTuple):
    """What a call carries beside its message. Times in seconds on the monotonic clock."""

    received: float
    deadline: float = NEVER
    trace: str = ""


Method = Callable[[bytes, Call, Answer], Ticket | None]


class Handlers:
    """`unary` maps the path of each method with one request and one answer to its function; call them by `call`.

    While `draining`, new work is refused, and all who ask are told that this server is not ready.
    """

    def __init__(self, service: Service, *, max_message_bytes: int) -> None:
        self.draining = False
        self._service = service
        self._max_message_bytes = max_message_bytes
        self._reader, self._writer = RequestReader(), ResponseWriter()
        self.unary: dict[str, Method] = {f"/{INFERENCE}/ModelInfer": self._infer}
        for name, ask in (
            ("ServerLive", self._server_live),
            ("ServerReady", self._server_ready),
            ("ModelReady", self._model_ready),
            ("ServerMetadata", self._server_metadata),
            ("ModelMetadata", self._model_metadata),
            ("ModelConfig", self._model_config),
            ("ModelStatistics", self._statistics),
            ("RepositoryIndex", self._index),
        ):
            self.unary[f"/{INFERENCE}/{name}"] = _at_once(INFERENCE, name, ask)
        self.unary[f"/{HEALTH}/Check"] = _at_once(HEALTH, "Check", self._health_check)
        for name, start in (("RepositoryModelLoad", service.load), ("RepositoryModelUnload", service.unload)):
            self.unary[f"/{INFERENCE}/{name}"] = self._switch(name, start)
        self._open_while_draining = {
            f"/{INFERENCE}/{name}" for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata")
        } | {f"/{HEALTH}/Check"}

    def call(self, path: str, payload: bytes, call: Call, answer: Answer) -> Ticket | None:
        """Run one call of a unary method. Whatever happens in it becomes an answer."""
        try:
            if self.draining and path not in self._open_while_draining:
                raise Draining(REFUSED)
            if len(payload) > self._max_message_bytes:
                raise PayloadTooLarge(
                    f"the message has {len(payload)} bytes, more than the {self._max_message_bytes} that are accepted"
                )
            return self.unary[path](payload, call, answer)
        except SlipwayError as error:
            answer(error)
        except Exception as error:
            answer(hide(error))
        return None

    def stream_infer(self, payload: bytes, call: Call, answer: Callable[[bytes], None]) -> Ticket | None:
        """One message of ModelStreamInfer. A failure is an answer like any other; the stream goes on."""
        request: Request | None = None
        typed = False

        def done(outcome: Response | SlipwayError) -> None:
            if isinstance(outcome, Response):
                try:
                    answer(self._writer.write_streamed(outcome, typed=typed))
                    return
                except Exception as error:
                    outcome = hide(error)
            answer(write_stream_error(outcome.message, outcome.code, request))

        try:
            if self.draining:
                raise Draining(REFUSED)
            request, typed, timeout_s = self._reader.read(payload)
            request.deadline = min(call.deadline, call.received + timeout_s)
            request.trace = call.trace
            return self._service.infer(request, done)
        except SlipwayError as error:
            if request is None:
                self._service.refused("", "grpc", error)
            done(error)
        except Exception as error:
            done(hide(error))
        return None

    def health(self, name: str) -> int:
        """The serving status of the server (''), of a service or of a model."""
        try:
            if name in ("", INFERENCE):
                ready = self._service.ready()
            elif name == HEALTH:
                ready = self._service.live()
            else:
                ready = self._service.model_ready(name)
        except NotFound:
            return SERVICE_UNKNOWN
        return SERVING if ready and not self.draining else NOT_SERVING

    def _infer(self, payload: bytes, call: Call, answer: Answer) -> Ticket | None:
        try:
            request, typed, timeout_s = self._reader.read(payload)
        except SlipwayError as error:
            self._service.refused("", "grpc", error)
            raise
        request.deadline = min(call.deadline, call.received + timeout_s)
        request.trace = call.trace
        write = self._writer.write

        def done(outcome: Response | SlipwayError) -> None:
            if isinstance(outcome, SlipwayError):
                answer(outcome)
                return
            try:
                written = write(outcome, typed=typed)
            except Exception as error:
                answer(hide(error))
            else:
                answer(written)

        return self._service.infer(request, done)

    def _switch(self, name: str, start: Callable[[str, Callable[[SlipwayError | None], None]], None]) -> Method:
        """Load and unload, which take their time."""
        asked_class, answer_class = _classes(INFERENCE, name)

        def method(payload: bytes, _call: Call, answer: Answer) -> None:
            asked = _parse(asked_class, payload)
            _check_repository(asked)
            start(asked.model_name, lambda error: answer(error or answer_class().SerializeToString()))

        return method

    def _server_live(self, _: Message) -> dict[str, Any]:
        return {"live": self._service.live()}

    def _server_ready(self, _: Message) -> dict[str, Any]:
        return {"ready": self._service.ready() and not self.draining}

    def _model_ready(self, asked: Message) -> dict[str, Any]:
        return {"ready": self._service.model_ready(asked.name, asked.version) and not self.draining}

    def _server_metadata(self, _: Message) -> dict[str, Any]:
        found = self._service.server_metadata()
        return {"name": found.name, "version": found.version, "extensions": found.extensions}

    def _model_metadata(self, asked: Message) -> dict[str, Any]:
        return answers.model_metadata(self._service.model_metadata(asked.name, asked.version))

    def _model_config(self, asked: Message) -> dict[str, Any]:
        return {"config": answers.model_config(self._service.model_metadata(asked.name, asked.version))}

    def _statistics(self, asked: Message) -> dict[str, Any]:
        return {"model_stats": [answers.statistics(one) for one in self._service.statistics(asked.name, asked.version)]}

    def _index(self, asked: Message) -> dict[str, Any]:
        _check_repository(asked)
        return {"models": [answers.index_entry(entry) for entry in self._service.index(ready_only=asked.ready)]}

    def _health_check(self, asked: Message) -> dict[str, Any]:
        status = self.health(asked.service)
        if status == SERVICE_UNKNOWN:
            raise NotFound(f"no service or model {asked.service!r}")
        return {"status": status}


def hide(error: Exception) -> SlipwayError:
    """A bug of ours: the log gets the traceback, the client a word to find it by."""
    correlation = new_correlation()
    LOG.error("a gRPC call failed by a fault of the server (%s)", correlation, exc_info=error)
    return SlipwayError(f"internal error; the server's log has it under {correlation}", correlation=correlation)


def _at_once(service: str, name: str, ask: Callable[[Message], dict[str, Any]]) -> Method:
    """A method that needs no waiting: parsed message in, fields of the answer out."""
    asked_class, answer_class = _classes(service, name)

    def method(payload: bytes, _call: Call, answer: Answer) -> None:
        answer(answer_class(**ask(_parse(asked_class, payload))).SerializeToString())

    return method


def _classes(service: str, name: str) -> tuple[Message, Message]:
    method = POOL.FindServiceByName(service).methods_by_name[name]
    return class_of(method.input_type), class_of(method.output_type)


def _parse(kind: Message, payload: bytes) -> Message:
    try:
        return kind.FromString(payload)
    except DecodeError as error:
        raise MalformedRequest(f"the message is not a {kind.DESCRIPTOR.name}: {error}") from None


def _check_repository(asked: Message) -> None:
    """Raise Unsupported for what the one, nameless repository cannot do."""
    if asked.repository_name:
        raise Unsupported(f"there is one model repository, without a name; {asked.repository_name!r} is not it")
    for name in getattr(asked, "parameters", ()):
        if name != "unload_dependents":  # no model here depends on another, so this asks for nothing
            raise Unsupported(f"parameter {name!r}: a model is loaded as the server was started with it, not otherwise")
