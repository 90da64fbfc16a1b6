"""gRPC channels: grpcio for the blocking client, grpc.aio for the asyncio one. They carry bytes, whatever these say."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from slipway.client.address import Address, read_certificates
from slipway.client.exchange import Incoming, Lost, Send, TimedOut
from slipway.client.identity import read_certificate
from slipway.errors import MissingExtra

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that was just restarted is found again at the pace of our own retries, not after gRPC's first second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
_DEADLINE_EXCEEDED, _UNAVAILABLE = 4, 14
_NEVER_SENT = ("failed to connect", "Failed to connect", "DNS resolution failed", "Name resolution")


def _import_grpc() -> Any:
    try:
        import_module("google.protobuf")
        import_module("grpc.aio")
        return import_module("grpc")
    except ImportError as error:
        raise MissingExtra(f"calling over gRPC: {error}; pip install 'slipway[grpc]'") from None


class GrpcLink:
    """Thread-safe: one channel, which multiplexes."""

    def __init__(
        self,
        address: Address,
        *,
        headers: Mapping[str, str],
        ca_file: str | None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        grpc = _import_grpc()
        self._failure = grpc.RpcError
        self._metadata = _metadata(headers)
        credentials = _credentials(grpc, address, ca_file, certificate)
        if credentials is None:
            self._channel = grpc.insecure_channel(address.target, options=_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address.target, credentials, options=_OPTIONS)
        self._methods: dict[str, Any] = {}

    def send(self, what: Send) -> Incoming | Lost | TimedOut:
        path = what.outgoing.path
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        try:
            body = method(what.outgoing.body, timeout=what.timeout_s, metadata=self._metadata)
        except self._failure as error:
            return _failed(error.code(), error.details(), error.trailing_metadata())
        return Incoming(0, {}, body)

    def stream(self, path: str, messages: Iterable[bytes], timeout_s: float | None) -> Iterator[bytes | Incoming]:
        """The answers; last an Incoming where the stream broke."""
        call = self._channel.stream_stream(path)(iter(messages), timeout=timeout_s, metadata=self._metadata)
        try:
            yield from call
        except self._failure as error:
            yield _broken(error.code(), error.details(), error.trailing_metadata())
        finally:
            call.cancel()

    def close(self) -> None:
        self._channel.close()


class AioGrpcLink:
    """For one event loop: the channel begins with the first call."""

    def __init__(
        self,
        address: Address,
        *,
        headers: Mapping[str, str],
        ca_file: str | None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        self._grpc = _import_grpc()
        self._address = address
        self._metadata = _metadata(headers)
        self._credentials = _credentials(self._grpc, address, ca_file, certificate)
        self._channel: Any = None
        self._methods: dict[str, Any] = {}

    def _begin(self) -> Any:
        if self._channel is None:
            aio, target = self._grpc.aio, self._address.target
            if self._credentials is None:
                self._channel = aio.insecure_channel(target, options=_OPTIONS)
            else:
                self._channel = aio.secure_channel(target, self._credentials, options=_OPTIONS)
        return self._channel

    async def send(self, what: Send) -> Incoming | Lost | TimedOut:
        path = what.outgoing.path
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._begin().unary_unary(path)
        try:
            body = await method(what.outgoing.body, timeout=what.timeout_s, metadata=self._metadata)
        except self._grpc.aio.AioRpcError as error:
            return _failed(error.code(), error.details(), error.trailing_metadata())
        return Incoming(0, {}, body)

    async def stream(
        self, path: str, messages: AsyncIterable[bytes], timeout_s: float | None
    ) -> AsyncIterator[bytes | Incoming]:
        """The answers; last an Incoming where the stream broke."""
        call = self._begin().stream_stream(path)(messages, timeout=timeout_s, metadata=self._metadata)
        try:
            async for body in call:
                yield body
        except self._grpc.aio.AioRpcError as error:
            yield _broken(error.code(), error.details(), error.trailing_metadata())
        finally:
            call.cancel()

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
            self._methods.clear()


def _metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in headers.items())


def _credentials(grpc: Any, address: Address, ca_file: str | None, certificate: tuple[str, str] | None) -> Any:
    shown = read_certificate(certificate, encrypted=address.is_encrypted)
    if not address.is_encrypted:
        return None
    return grpc.ssl_channel_credentials(read_certificates(ca_file), *shown)


def _broken(code: Any, detail: str | None, trailers: Any) -> Incoming:
    return Incoming(code.value[0], _headers(trailers), detail=detail or "")


def _failed(code: Any, detail: str | None, trailers: Any) -> Incoming | Lost | TimedOut:
    """gRPC reports what became of the connection as if the server had said it; told apart by our own trailer."""
    answer = _broken(code, detail, trailers)
    if "slipway-error" not in answer.headers:
        if answer.status == _DEADLINE_EXCEEDED:
            return TimedOut()
        if answer.status == _UNAVAILABLE:
            return Lost(answer.detail, sent=not answer.detail.startswith(_NEVER_SENT))
    return answer


def _headers(trailers: Any) -> dict[str, str]:
    return {name: value for name, value in trailers or () if isinstance(value, str)}
