"""The asyncio client: runs the Talks of `caller` over asyncio sockets. For one event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from slipway.client.address import read_address, tls_context
from slipway.client.caller import Caller, Options
from slipway.client.exchange import Heard, Incoming, Lost, Send, Talk, TimedOut
from slipway.client.grpc_links import AioGrpcLink
from slipway.client.http_links import AiohttpLink
from slipway.client.http_protocol import Format, HttpProtocol
from slipway.client.identity import identified, show_certificate
from slipway.client.prediction import Prediction
from slipway.client.protocol import ClientProtocol
from slipway.client.retry import Retry
from slipway.errors import Unsupported
from slipway.infer.service import IndexEntry, ModelMetadata, ModelStatistics, ServerMetadata

T = TypeVar("T")


class AsyncLink(Protocol):
    async def send(self, what: Send) -> Incoming | Lost | TimedOut: ...

    async def close(self) -> None: ...


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods, errors and retries, each method awaited.

    async with AsyncClient("http://127.0.0.1:8080") as client:
        flowers = await client.predict("iris", [[5.1, 3.5, 1.4, 0.2]])
        print(flowers["label"])
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        headers: Mapping[str, str] | None = None,
        connections: int = 64,
        tensors: Format = "auto",
        ca_file: str | None = None,
        key: str = "",
        user: tuple[str, str] | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        address = read_address(url)
        headers = identified(headers, key=key, user=user)
        self._link: AsyncLink
        self._streams: AioGrpcLink | None = None
        protocol: ClientProtocol
        if address.is_grpc:
            self._link = self._streams = AioGrpcLink(address, headers=headers, ca_file=ca_file, certificate=certificate)
            from slipway.client.grpc_protocol import GrpcProtocol  # not before the line above has found protobuf

            protocol = GrpcProtocol()
        else:
            origin, tls = f"{address.scheme}://{address.target}", tls_context(address, ca_file)
            tls = show_certificate(tls, certificate)
            self._link = AiohttpLink(origin, headers=headers, connections=connections, tls=tls)
            protocol = HttpProtocol(address.path, tensors=tensors)
        self._caller = Caller(protocol, url=address.url, timeout_s=timeout_s, retry=retry, draw=random.random)

    async def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        id: str = "",
        parameters: Mapping[str, Any] | None = None,
        priority: int | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """See `Client.predict`."""
        options = Options(version, outputs, id, parameters, priority, timeout_s)
        return await self._run(self._caller.predict(model, inputs, options, time.monotonic()))

    async def stream(
        self,
        model: str,
        items: AsyncIterable[Any] | Iterable[Any],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Prediction]:
        """See `Client.stream`; `items` may be an asynchronous iterable."""
        if self._streams is None:
            raise Unsupported("streams need gRPC: open the client with a grpc:// URL")
        from slipway.client.grpc_protocol import STREAM_PATH, infer_message, read_streamed

        failed: list[Exception] = []

        async def messages() -> AsyncIterator[bytes]:
            try:
                place = 0
                async for item in _asynchronous(items):
                    options = Options(version, outputs, str(place), parameters)
                    request = await self._run(self._caller.request(model, item, options, time.monotonic()))
                    yield infer_message(request).SerializeToString()
                    place += 1
            except Exception as error:  # grpc would only log it
                failed.append(error)

        async for answer in self._streams.stream(STREAM_PATH, messages(), timeout_s):
            if isinstance(answer, Incoming):
                raise self._caller.failure(answer)
            yield Prediction(read_streamed(answer))
        if failed:
            raise failed[0]

    async def live(self, *, timeout_s: float | None = None) -> bool:
        """The server answers. False, not an error, where nobody does."""
        return await self._run(self._caller.live(time.monotonic(), timeout_s))

    async def ready(self, model: str = "", *, version: str = "", timeout_s: float | None = None) -> bool:
        """The server, or one model of it, can compute now. Raises NotFound for a model that it does not know."""
        return await self._run(self._caller.ready(model, version, time.monotonic(), timeout_s))

    async def wait_ready(self, model: str = "", *, version: str = "", timeout_s: float = 60.0) -> None:
        """Return as soon as it is ready; DeadlineExceeded after `timeout_s`."""
        await self._run(self._caller.wait_ready(model, version, time.monotonic(), timeout_s))

    async def server_metadata(self, *, timeout_s: float | None = None) -> ServerMetadata:
        return await self._run(self._caller.server_metadata(time.monotonic(), timeout_s))

    async def metadata(self, model: str, *, version: str = "", timeout_s: float | None = None) -> ModelMetadata:
        """Versions, platform and signature of a model."""
        return await self._run(self._caller.metadata(model, version, time.monotonic(), timeout_s))

    async def statistics(
        self, model: str = "", *, version: str = "", timeout_s: float | None = None
    ) -> list[ModelStatistics]:
        """Counts and durations since the server started: of one version, one model's, or all."""
        return await self._run(self._caller.statistics(model, version, time.monotonic(), timeout_s))

    async def index(self, *, ready_only: bool = False, timeout_s: float | None = None) -> list[IndexEntry]:
        """What is in the server's repository, and in which state."""
        return await self._run(self._caller.index(ready_only, time.monotonic(), timeout_s))

    async def load(self, model: str, *, timeout_s: float | None = None) -> None:
        """Load or reload a model of the repository; returns when it serves."""
        await self._run(self._caller.load(model, time.monotonic(), timeout_s))

    async def unload(self, model: str, *, timeout_s: float | None = None) -> None:
        await self._run(self._caller.unload(model, time.monotonic(), timeout_s))

    async def close(self) -> None:
        """Close all connections. The client cannot be used any more."""
        await self._link.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, talk: Talk[T]) -> T:
        try:
            step = next(talk)
            while True:
                if isinstance(step, Send):
                    outcome = await self._link.send(step)
                    step = talk.send(Heard(time.monotonic(), outcome))
                else:
                    await asyncio.sleep(step.seconds)
                    step = talk.send(Heard(time.monotonic(), None))
        except StopIteration as end:
            result: T = end.value
            return result


async def _asynchronous(items: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
