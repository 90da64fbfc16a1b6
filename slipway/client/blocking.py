"""The blocking client: runs the Talks of `caller` over blocking sockets. Safe to share between threads."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from slipway.client.address import read_address, tls_context
from slipway.client.caller import Caller, Options
from slipway.client.exchange import Heard, Incoming, Lost, Send, Talk, TimedOut
from slipway.client.grpc_links import GrpcLink
from slipway.client.http_links import UrllibLink
from slipway.client.http_protocol import Format, HttpProtocol
from slipway.client.identity import identified, show_certificate
from slipway.client.prediction import Prediction
from slipway.client.protocol import ClientProtocol
from slipway.client.retry import Retry
from slipway.errors import Unsupported
from slipway.infer.service import IndexEntry, ModelMetadata, ModelStatistics, ServerMetadata

T = TypeVar("T")


class Link(Protocol):
    def send(self, what: Send) -> Incoming | Lost | TimedOut: ...

    def close(self) -> None: ...


class Client:
    """Calls a server of the Open Inference Protocol v2, over HTTP or gRPC as the URL says.

        with Client("http://127.0.0.1:8080") as client:
            flowers = client.predict("iris", [[5.1, 3.5, 1.4, 0.2]])
            print(flowers["label"])

    `url`: http://, https://, grpc:// or grpcs:// with host and port.
    `timeout_s`: the longest that a call may take with all its retries; each call can say its own.
    `retry`: when and how often to ask again.
    `headers`: go with every request, such as `authorization`.
    `connections`: held open to the server at most; further calls wait for one.
    `tensors`: how tensors travel over HTTP: `auto` (JSON where small and exact, otherwise binary), `json`, `binary`.
    `ca_file`: certificates to trust instead of the system's.
    `key`: an API key or a token. `user`: name and password. `certificate`: paths of PEM files, a certificate and its
    private key, to show to servers that ask for one.

    All methods raise classes of `slipway.errors`: NotFound, InvalidInput, Overloaded, DeadlineExceeded, ModelFailure,
    Unavailable where the server cannot be reached, and so on.
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
        self._link: Link
        self._streams: GrpcLink | None = None
        protocol: ClientProtocol
        if address.is_grpc:
            self._link = self._streams = GrpcLink(address, headers=headers, ca_file=ca_file, certificate=certificate)
            from slipway.client.grpc_protocol import GrpcProtocol  # not before the line above has found protobuf

            protocol = GrpcProtocol()
        else:
            origin, tls = f"{address.scheme}://{address.target}", tls_context(address, ca_file)
            tls = show_certificate(tls, certificate)
            self._link = UrllibLink(origin, headers=headers, connections=connections, tls=tls)
            protocol = HttpProtocol(address.path, tensors=tensors)
        self._caller = Caller(protocol, url=address.url, timeout_s=timeout_s, retry=retry, draw=random.random)

    def predict(
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
        """Ask `model` about `inputs`.

        `inputs`: an array or nested list where the model has one input; a dict of input name to array; or a
        DataFrame, whose columns are inputs of these names, or else the rows of the model's one input. Numbers
        are converted to the datatype that the model takes where only precision can be lost.
        `version` '': the one that the server chooses. `outputs`: those wanted, None for all.
        `parameters`: of the protocol, such as an extension's. `priority`: 0 is the most urgent.
        """
        options = Options(version, outputs, id, parameters, priority, timeout_s)
        return self._run(self._caller.predict(model, inputs, options, time.monotonic()))

    def stream(
        self,
        model: str,
        items: Iterable[Any],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Prediction]:
        """A prediction for each of `items` over one gRPC stream, in the order in which they are done.

        Each item is what `predict` takes as inputs; the `id` of its prediction is its place, '0' for the first.
        `timeout_s`: for the whole stream, None for no limit. Ends with the first error. Raises Unsupported over HTTP.
        """
        if self._streams is None:
            raise Unsupported("streams need gRPC: open the client with a grpc:// URL")
        from slipway.client.grpc_protocol import STREAM_PATH, infer_message, read_streamed

        failed: list[Exception] = []

        def messages() -> Iterator[bytes]:
            try:
                for place, item in enumerate(items):
                    options = Options(version, outputs, str(place), parameters)
                    request = self._run(self._caller.request(model, item, options, time.monotonic()))
                    yield infer_message(request).SerializeToString()
            except Exception as error:  # grpc would only log it
                failed.append(error)

        for answer in self._streams.stream(STREAM_PATH, messages(), timeout_s):
            if isinstance(answer, Incoming):
                raise self._caller.failure(answer)
            yield Prediction(read_streamed(answer))
        if failed:
            raise failed[0]

    def live(self, *, timeout_s: float | None = None) -> bool:
        """The server answers. False, not an error, where nobody does."""
        return self._run(self._caller.live(time.monotonic(), timeout_s))

    def ready(self, model: str = "", *, version: str = "", timeout_s: float | None = None) -> bool:
        """The server, or one model of it, can compute now. Raises NotFound for a model that it does not know."""
        return self._run(self._caller.ready(model, version, time.monotonic(), timeout_s))

    def wait_ready(self, model: str = "", *, version: str = "", timeout_s: float = 60.0) -> None:
        """Return as soon as it is ready; DeadlineExceeded after `timeout_s`."""
        self._run(self._caller.wait_ready(model, version, time.monotonic(), timeout_s))

    def server_metadata(self, *, timeout_s: float | None = None) -> ServerMetadata:
        return self._run(self._caller.server_metadata(time.monotonic(), timeout_s))

    def metadata(self, model: str, *, version: str = "", timeout_s: float | None = None) -> ModelMetadata:
        """Versions, platform and signature of a model."""
        return self._run(self._caller.metadata(model, version, time.monotonic(), timeout_s))

    def statistics(
        self, model: str = "", *, version: str = "", timeout_s: float | None = None
    ) -> list[ModelStatistics]:
        """Counts and durations since the server started: of one version, one model's, or all."""
        return self._run(self._caller.statistics(model, version, time.monotonic(), timeout_s))

    def index(self, *, ready_only: bool = False, timeout_s: float | None = None) -> list[IndexEntry]:
        """What is in the server's repository, and in which state."""
        return self._run(self._caller.index(ready_only, time.monotonic(), timeout_s))

    def load(self, model: str, *, timeout_s: float | None = None) -> None:
        """Load or reload a model of the repository; returns when it serves."""
        self._run(self._caller.load(model, time.monotonic(), timeout_s))

    def unload(self, model: str, *, timeout_s: float | None = None) -> None:
        self._run(self._caller.unload(model, time.monotonic(), timeout_s))

    def close(self) -> None:
        """Close all connections. The client cannot be used any more."""
        self._link.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, talk: Talk[T]) -> T:
        try:
            step = next(talk)
            while True:
                if isinstance(step, Send):
                    outcome = self._link.send(step)
                    step = talk.send(Heard(time.monotonic(), outcome))
                else:
                    time.sleep(step.seconds)
                    step = talk.send(Heard(time.monotonic(), None))
        except StopIteration as end:
            result: T = end.value
            return result
