"""Every gRPC method, once: request bytes in, answer bytes or an error out, by callback.

Both doors call these and add nothing, so they cannot differ in what they answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from slipway.errors import (
    Draining,
    MalformedRequest,
    NotFound,
    NotReady,
    PayloadTooLarge,
    SlipwayError,
    Unauthenticated,
    Unsupported,
)
from slipway.infer.guard import DEPLOY, KNOWN, OPEN, PREDICT, SEE, Pass, Waiting
from slipway.infer.protobuf.messages import HEALTH, INFERENCE, POOL, Message, class_of, message_class
from slipway.infer.request import Request, Response
from slipway.infer.service import Service, Ticket
from slipway.logs import new_correlation
from slipway.transports import answers
from slipway.transports.grpc.codec import ResponseWriter, write_stream_error
from slipway.transports.grpc.gate import Call, Gate, Trailers, allowance_trailers
from slipway.transports.grpc.templates import RequestReader

LOG = logging.getLogger(__name__)

Outcome = bytes | SlipwayError


class Answer(Protocol):
    """Called exactly once for each call that was not cancelled, from the event loop's thread. `trailers`: beside an
    answer in bytes; an error has its own."""

    def __call__(self, outcome: Outcome, trailers: Trailers | None = None) -> None: ...


REFUSED = "the server is draining and takes no new calls"
STOPPED = "the server stopped before this call was answered"

MODEL_INFER = f"/{INFERENCE}/ModelInfer"
HEALTH_CHECK = f"/{HEALTH}/Check"
_OPEN_PATHS = frozenset({f"/{INFERENCE}/ServerLive", f"/{INFERENCE}/ServerReady"})

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3  # grpc.health.v1.HealthCheckResponse.ServingStatus


Method = Callable[[bytes, Call, Answer], Ticket | None]
Ask = Callable[[Message, Call], dict[str, Any]]


class Handlers:
    """`unary` maps the path of each method with one request and one answer to its function; call them by `call`.

    While `draining`, new work is refused, and all who ask are told that this server is not ready.
    """

    def __init__(self, service: Service, *, max_message_bytes: int) -> None:
        self.draining = False
        self.gate = Gate(service.guard)
        self._guard = service.guard
        self._service = service
        self._max_message_bytes = max_message_bytes
        self._reader, self._writer = RequestReader(), ResponseWriter()
        self.unary: dict[str, Method] = {MODEL_INFER: self._infer}
        for name, ask, right in (
            ("ServerLive", self._server_live, OPEN),
            ("ServerReady", self._server_ready, OPEN),
            ("ModelReady", self._model_ready, SEE),
            ("ServerMetadata", self._server_metadata, KNOWN),
            ("ModelMetadata", self._model_metadata, SEE),
            ("ModelConfig", self._model_config, SEE),
            ("ModelStatistics", self._statistics, SEE),
            ("RepositoryIndex", self._index, KNOWN),
        ):
            self.unary[f"/{INFERENCE}/{name}"] = self._at_once(INFERENCE, name, ask, right)
        self.unary[HEALTH_CHECK] = self._at_once(HEALTH, "Check", self._health_check, OPEN)
        for name, start in (("RepositoryModelLoad", service.load), ("RepositoryModelUnload", service.unload)):
            self.unary[f"/{INFERENCE}/{name}"] = self._switch(name, start)
        self._open_while_draining = {
            f"/{INFERENCE}/{name}" for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata")
        } | {HEALTH_CHECK}

    def call(self, path: str, payload: bytes, call: Call, answer: Answer) -> Ticket | None:
        """Run one call of a unary method. Whatever happens in it becomes an answer."""
        try:
            if self.draining and path not in self._open_while_draining:
                raise Draining(REFUSED)
            if len(payload) > self._max_message_bytes:
                raise PayloadTooLarge(
                    f"the message has {len(payload)} bytes, more than the {self._max_message_bytes} that are accepted"
                )
            if self._guard.on_duty and call.passed is None and not is_open(path, payload):
                try:
                    if not self.gate.identify(call):
                        return Later(self, path, payload, call, answer)
                except SlipwayError as error:
                    self.turned_away(path, error)
                    raise
            return self.unary[path](payload, call, answer)
        except SlipwayError as error:
            answer(error)
        except Exception as error:
            answer(hide(error))
        return None

    def turned_away(self, path: str, error: SlipwayError) -> None:
        """For the books: an inference request whose caller was not let in."""
        if path == MODEL_INFER:
            self._service.refused("", "grpc", error)

    def stream_infer(self, payload: bytes, call: Call, answer: Callable[[bytes], None]) -> Ticket | None:
        """One message of ModelStreamInfer. A failure is an answer like any other, and the stream goes on, but for
        Unauthenticated, which is raised: whoever may not ask this is nobody, and his next message would fare alike.
        """
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
            passed = call.passed
            if passed is not None:
                request.caller = passed.caller
                if request.model not in passed.free:
                    self._admit(request, passed)
            return self._service.infer(request, done)
        except Unauthenticated:
            raise
        except SlipwayError as error:
            if request is None:
                self._service.refused("", "grpc", error)
            done(error)
        except Exception as error:
            done(hide(error))
        return None

    def health(self, name: str, call: Call) -> int:
        """The serving status of the server (''), of a service or of a model. Raises Unauthenticated, Forbidden."""
        try:
            if name in ("", INFERENCE):
                ready = self._service.ready()
            elif name == HEALTH:
                ready = self._service.live()
            else:
                self.gate.check(call, SEE, name)
                ready = self._service.model_ready(name, caller=call.caller)
        except NotFound:
            return SERVICE_UNKNOWN
        except NotReady:
            return NOT_SERVING
        return SERVING if ready and not self.draining else NOT_SERVING

    def _infer(self, payload: bytes, call: Call, answer: Answer) -> Ticket | None:
        try:
            request, typed, timeout_s = self._reader.read(payload)
        except SlipwayError as error:
            self._service.refused("", "grpc", error)
            raise
        request.deadline = min(call.deadline, call.received + timeout_s)
        request.trace = call.trace
        passed = call.passed
        if passed is not None:
            request.caller = passed.caller
            if request.model not in passed.free:
                self._admit(request, passed)
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
                left = request.allowance
                answer(written, None if left is None else allowance_trailers(left))

        return self._service.infer(request, done)

    def _admit(self, request: Request, passed: Pass) -> None:
        """May he ask this model, and has he not asked enough?"""
        try:
            self._guard.check(passed, PREDICT, request.model)
            request.allowance = self._guard.count(passed, request.model)
        except SlipwayError as error:
            self._service.refused(request.model, "grpc", error)
            raise

    def _switch(self, name: str, start: Callable[..., None]) -> Method:
        """Load and unload, which take their time."""
        asked_class, answer_class = _classes(INFERENCE, name)

        def method(payload: bytes, call: Call, answer: Answer) -> None:
            asked = _parse(asked_class, payload)
            self.gate.check(call, DEPLOY, asked.model_name)
            _check_repository(asked)
            changed = lambda error: answer(error or answer_class().SerializeToString())  # noqa: E731
            start(asked.model_name, changed, caller=call.caller)

        return method

    def _at_once(self, service: str, name: str, ask: Ask, right: str) -> Method:
        """A method that needs no waiting: parsed message in, fields of the answer out. `right` SEE is of the model that
        the message names; where it names none, what is not for the caller's eyes is left out."""
        asked_class, answer_class = _classes(service, name)

        def method(payload: bytes, call: Call, answer: Answer) -> None:
            asked = _parse(asked_class, payload)
            if right == SEE and asked.name:
                self.gate.check(call, SEE, asked.name)
            elif right != OPEN:
                self.gate.check(call, KNOWN)
            answer(answer_class(**ask(asked, call)).SerializeToString())

        return method

    def _server_live(self, _: Message, call: Call) -> dict[str, Any]:  # noqa: ARG002
        return {"live": self._service.live()}

    def _server_ready(self, _: Message, call: Call) -> dict[str, Any]:  # noqa: ARG002
        return {"ready": self._service.ready() and not self.draining}

    def _model_ready(self, asked: Message, call: Call) -> dict[str, Any]:
        ready = self._service.model_ready(asked.name, asked.version, caller=call.caller)
        return {"ready": ready and not self.draining}

    def _server_metadata(self, _: Message, call: Call) -> dict[str, Any]:  # noqa: ARG002
        found = self._service.server_metadata()
        return {"name": found.name, "version": found.version, "extensions": found.extensions}

    def _model_metadata(self, asked: Message, call: Call) -> dict[str, Any]:
        return answers.model_metadata(self._service.model_metadata(asked.name, asked.version, caller=call.caller))

    def _model_config(self, asked: Message, call: Call) -> dict[str, Any]:
        found = self._service.model_metadata(asked.name, asked.version, caller=call.caller)
        return {"config": answers.model_config(found)}

    def _statistics(self, asked: Message, call: Call) -> dict[str, Any]:
        found = self._service.statistics(asked.name, asked.version, caller=call.caller)
        return {"model_stats": [answers.statistics(one) for one in found]}

    def _index(self, asked: Message, call: Call) -> dict[str, Any]:
        _check_repository(asked)
        entries = self._service.index(ready_only=asked.ready, caller=call.caller)
        return {"models": [answers.index_entry(entry) for entry in entries]}

    def _health_check(self, asked: Message, call: Call) -> dict[str, Any]:
        status = self.health(asked.service, call)
        if status == SERVICE_UNKNOWN:
            raise NotFound(f"no service or model {asked.service!r}")
        return {"status": status}


class Later:
    """A call whose caller is being looked up; its ticket from then to the end."""

    def __init__(self, handlers: Handlers, path: str, payload: bytes, call: Call, answer: Answer) -> None:
        self._handlers = handlers
        self._what = (path, payload, call, answer)
        self._ticket: Waiting | None = handlers.gate.find_out(call, self._told)

    def cancel(self) -> None:
        if self._ticket is not None:
            self._ticket.cancel()

    def _told(self, error: SlipwayError | None) -> None:
        path, payload, call, answer = self._what
        if error is None:
            self._ticket = self._handlers.call(path, payload, call, answer)
        else:
            self._handlers.turned_away(path, error)
            answer(error)


def is_open(path: str, payload: bytes) -> bool:
    """Whether it is for whoever knocks: liveness, readiness, and the health of the server, not of a model."""
    if path == HEALTH_CHECK:
        try:
            return health_name(payload) in ("", INFERENCE, HEALTH)
        except DecodeError:
            return True  # it will be refused for that
    return path in _OPEN_PATHS


def health_name(payload: bytes) -> str:
    """Whose health a HealthCheckRequest asks about. Raises DecodeError."""
    name: str = message_class("grpc.health.v1.HealthCheckRequest").FromString(payload).service
    return name


def hide(error: Exception) -> SlipwayError:
    """A bug of ours: the log gets the traceback, the client a word to find it by."""
    correlation = new_correlation()
    LOG.error("a gRPC call failed by a fault of the server (%s)", correlation, exc_info=error)
    return SlipwayError(f"internal error; the server's log has it under {correlation}", correlation=correlation)


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
