"""The gRPC door on grpc.aio alone: complete, portable and slow. The native door keeps one behind itself for streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from difflib import get_close_matches
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from slipway.errors import Draining, MalformedRequest, SlipwayError, Unsupported
from slipway.infer.guard import KNOWN
from slipway.infer.protobuf.messages import HEALTH, INFERENCE
from slipway.infer.request import NEVER
from slipway.transports.grpc.gate import Call, Trailers
from slipway.transports.grpc.handlers import REFUSED, STOPPED, Handlers, Outcome, hide, is_open
from slipway.transports.grpc.reflection import PATHS as REFLECTION_PATHS
from slipway.transports.grpc.reflection import reflect
from slipway.transports.grpc.status import status_of
from slipway.transports.grpc.streams import InferStream, watch_health
from slipway.transports.tls import TlsFiles, plain_name

Context = Any  # grpc.aio.ServicerContext, which has no types

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SENDING_S = 1.0
LOOK_S = 1.0
"""How often certificates are looked at."""


class AioDoor:
    """All methods of `handlers`, the streams, health and reflection on one grpc.aio server.

    Made and used on the event loop's thread. `tls`: the certificates to encrypt with.
    """

    kind = "grpcio"

    def __init__(
        self, handlers: Handlers, *, max_message_bytes: int, reuse_port: bool = False, tls: TlsFiles | None = None
    ) -> None:
        self.port = 0
        self._tls = tls
        self._handlers = handlers
        self._waiting: set[asyncio.Future[Outcome]] = set()
        self._streams: set[InferStream] = set()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refreshing: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(
            handlers=[_Router(self, handlers)],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(reuse_port)),
            ],
        )

    async def open(self, target: str) -> None:
        """Serve at `host:port` or `unix:path`. Raises RuntimeError when it cannot be had."""
        if self._tls is None:
            self.port = self._server.add_insecure_port(target)
        else:
            self.port = self._server.add_secure_port(target, _credentials(self._tls))
            self._refreshing = asyncio.create_task(refresh(self._tls))
        await self._server.start()

    async def close(self, drain_s: float) -> None:
        """Refuse new calls, let those on their way finish for up to `drain_s`, refuse the rest, and end."""
        self._handlers.draining = True
        for stream in list(self._streams):
            stream.stop()
        await wait_while(lambda: bool(self._waiting or self._streams), drain_s)
        for future in list(self._waiting):
            if not future.done():
                future.set_result(Draining(STOPPED))
        if not self._closing.done():
            self._closing.set_result(None)
        if self._refreshing is not None:
            self._refreshing.cancel()
        # Every call has its answer by now; the grace is for these to be sent.
        await self._server.stop(_SENDING_S)

    async def serve_guarded(self, path: str, context: Context) -> None:
        """A unary call while the guard is on duty: who calls is known before the message is read."""
        call = self._call_of(context)
        await self._enter(path, call, context)
        payload = await context.read()
        if payload is grpc.aio.EOF:
            await _abort(context, MalformedRequest("the call ends without its message"))
        await self._enter(path, call, context)  # once more: the message may have taken its time
        await context.write(await self.serve_unary(path, payload, context, call))

    async def _enter(self, path: str, call: Call, context: Context) -> None:
        try:
            await self._handlers.gate.enter(call)
        except SlipwayError as error:
            self._handlers.turned_away(path, error)
            await _abort(context, error)

    async def serve_unary(self, path: str, payload: bytes, context: Context, call: Call | None = None) -> bytes:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def answer(outcome: Outcome, trailers: Trailers | None = None) -> None:
            if not future.done():
                if trailers is not None:
                    context.set_trailing_metadata(tuple(trailers))
                future.set_result(outcome)

        self._waiting.add(future)
        ticket = self._handlers.call(path, payload, call or self._call_of(context), answer)
        try:
            outcome = await future
        except asyncio.CancelledError:
            if ticket is not None:
                ticket.cancel()
            raise
        finally:
            self._waiting.discard(future)
        if isinstance(outcome, SlipwayError):
            if ticket is not None and isinstance(outcome, Draining):
                ticket.cancel()
            await _abort(context, outcome)
        assert isinstance(outcome, bytes)
        return outcome

    async def serve_infer_stream(self, _: Any, context: Context) -> None:
        if self._handlers.draining:
            await _abort(context, Draining(REFUSED))
        stream = InferStream(self._handlers, context, self._call_of(context))
        self._streams.add(stream)
        try:
            await self._run(stream.run(), context)
        finally:
            self._streams.discard(stream)
        if stream.stopped:
            await _abort(context, Draining(REFUSED))

    async def serve_watch(self, payload: bytes, context: Context) -> None:
        await self._run(watch_health(self._handlers, context, payload, self._call_of(context)), context)

    async def serve_reflection(self, service: str, context: Context) -> None:
        async def answer_all() -> None:
            await self._handlers.gate.enter(self._call_of(context), KNOWN)
            while (payload := await context.read()) is not grpc.aio.EOF:
                await context.write(reflect(service, payload))

        await self._run(answer_all(), context)

    async def _run(self, work: Coroutine[Any, Any, None], context: Context) -> None:
        """Run a stream's work to its end, or until the door closes."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._closing}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await _abort(context, Draining(STOPPED))
            task.result()
        except DecodeError as error:
            await _abort(context, MalformedRequest(f"the message cannot be read: {error}"))
        except (asyncio.CancelledError, grpc.aio.AbortError, grpc.aio.BaseError):
            raise
        except SlipwayError as error:
            await _abort(context, error)
        except Exception as error:
            await _abort(context, hide(error))
        finally:
            task.cancel()

    def _call_of(self, context: Context) -> Call:
        now = time.monotonic()
        remaining = context.time_remaining()
        metadata = context.invocation_metadata()
        trace = next((value for key, value in metadata if key == "traceparent"), "")
        deadline = NEVER if remaining is None else now + remaining
        certificate = _common_name(context) if self._tls is not None else ""
        return Call(now, deadline, trace, metadata, context.peer(), certificate)


class _Router(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the function of a path. Messages stay bytes: the handlers parse them, once."""

    def __init__(self, door: AioDoor, handlers: Handlers) -> None:
        self._methods: dict[str, grpc.RpcMethodHandler] = {
            f"/{INFERENCE}/ModelStreamInfer": grpc.stream_stream_rpc_method_handler(door.serve_infer_stream),
            f"/{HEALTH}/Watch": grpc.unary_stream_rpc_method_handler(door.serve_watch),
        }
        self._guard = handlers.gate.guard
        self._guarded: dict[str, grpc.RpcMethodHandler] = {}
        for path in handlers.unary:
            self._methods[path] = grpc.unary_unary_rpc_method_handler(_bind(door.serve_unary, path))
            if not is_open(path, b""):
                # One message each way looks the same on the wire whether it is called a stream or not.
                self._guarded[path] = grpc.stream_stream_rpc_method_handler(_bind_stream(door.serve_guarded, path))
        for path, service in REFLECTION_PATHS.items():
            self._methods[path] = grpc.stream_stream_rpc_method_handler(_bind_stream(door.serve_reflection, service))

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        path = details.method
        if self._guard.on_duty and path in self._guarded:
            return self._guarded[path]
        return self._methods.get(path) or grpc.stream_stream_rpc_method_handler(self._refusal(path))

    def _refusal(self, path: str) -> Callable[[Any, Context], Awaitable[None]]:
        near = get_close_matches(path, self._methods, n=1, cutoff=0.9)  # all paths begin alike
        hint = f"; did you mean {near[0]}?" if near else ""

        async def refuse(_: Any, context: Context) -> None:
            await _abort(context, Unsupported(f"no method {path} here{hint}"))

        return refuse


def _bind(serve: Callable[[str, bytes, Context], Awaitable[bytes]], path: str) -> Callable[..., Awaitable[bytes]]:
    async def handle(payload: bytes, context: Context) -> bytes:
        return await serve(path, payload, context)

    return handle


def _bind_stream(serve: Callable[[str, Context], Awaitable[None]], service: str) -> Callable[..., Awaitable[None]]:
    async def handle(_: Any, context: Context) -> None:
        await serve(service, context)

    return handle


async def wait_while(busy: Callable[[], bool], timeout_s: float) -> None:
    """Looked at now and then, because counting each call to the last would cost every call something."""
    until = time.monotonic() + timeout_s
    while busy() and time.monotonic() < until:
        await asyncio.sleep(0.005)


async def refresh(tls: TlsFiles) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        tls.refresh()


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """gRPC asks for the newest certificates at each handshake, in a thread of its own. It can demand a client's
    certificate or not ask for any, nothing between: with `optional` callers over gRPC show another credential."""
    told = tls.number

    def configuration() -> grpc.ServerCertificateConfiguration:
        certificate, key, client_ca = tls.pems
        return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca or None)

    def newest() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        if told == tls.number:
            return None
        told = tls.number
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), newest, require_client_authentication=tls.required)


def _common_name(context: Context) -> str:
    names = context.auth_context().get("x509_common_name", ())
    return plain_name([name.decode("utf-8", "replace") for name in names])


async def _abort(context: Context, error: SlipwayError) -> NoReturn:
    code, message, trailers = status_of(error)
    await context.abort(_CODES[code], message, tuple(trailers))
    raise AssertionError("abort raises")
