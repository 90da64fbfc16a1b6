"""Every call of the client as a Talk: no I/O, no clock. The blocking and the asyncio client both run these."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from slipway.client.exchange import Exchange, Incoming, Pause, Talk
from slipway.client.inputs import is_frame, to_inputs
from slipway.client.prediction import Prediction
from slipway.client.protocol import ClientProtocol
from slipway.client.retry import Circumstances, Retry, converse
from slipway.errors import BadRequest, DeadlineExceeded, InvalidInput, SlipwayError, Unavailable
from slipway.infer.request import Request
from slipway.infer.service import IndexEntry, ModelMetadata, ModelStatistics, ServerMetadata
from slipway.infer.signature import Signature

T = TypeVar("T")

ONCE = Retry(attempts=1)
POLL_S = 0.05


class Options(msgspec.Struct):
    """Of one prediction, beside model and inputs. `timeout_s` None: the client's."""

    version: str = ""
    outputs: Sequence[str] | None = None
    id: str = ""
    parameters: Mapping[str, Any] | None = None
    priority: int | None = None
    timeout_s: float | None = None


class Caller:
    """`draw`: chance, uniform in [0, 1). Holds nothing but the signatures of models that it has met."""

    def __init__(
        self, protocol: ClientProtocol, *, url: str, timeout_s: float, retry: Retry, draw: Callable[[], float]
    ) -> None:
        self._protocol = protocol
        self._url = url
        self._timeout_s = timeout_s
        self._retry = retry
        self._draw = draw
        self._signatures: dict[tuple[str, str], Signature] = {}

    def predict(self, model: str, inputs: Any, options: Options, now: float) -> Talk[Prediction]:
        at = self._begin(now, options.timeout_s)
        request = yield from self._request(model, inputs, options, at)
        try:
            response = yield from converse(self._protocol.infer(request), self._protocol, at)
        except InvalidInput:
            self._signatures.pop((model, options.version), None)  # perhaps it is another model by now
            raise
        return Prediction(response, index=inputs.index if is_frame(inputs) else None)

    def request(self, model: str, inputs: Any, options: Options, now: float) -> Talk[Request]:
        """What `predict` would send, for a stream."""
        return self._request(model, inputs, options, self._begin(now, None))

    def failure(self, incoming: Incoming) -> SlipwayError:
        """The error that broke a stream."""
        return self._protocol.failure(incoming) or SlipwayError(f"the stream from {self._url} broke")

    def live(self, now: float, timeout_s: float | None) -> Talk[bool]:
        return self._yes_or_no(self._protocol.live(), self._begin(now, timeout_s, ONCE))

    def ready(self, model: str, version: str, now: float, timeout_s: float | None) -> Talk[bool]:
        return self._yes_or_no(self._protocol.ready(model, version), self._begin(now, timeout_s, ONCE))

    def wait_ready(self, model: str, version: str, now: float, timeout_s: float) -> Talk[None]:
        at = self._begin(now, timeout_s, ONCE)
        what = f"model {model!r}" if model else "the server"
        late = f"{what} at {self._url} is not ready after {timeout_s:g} s"
        while True:
            try:
                if (yield from self._yes_or_no(self._protocol.ready(model, version), at)):
                    return
            except DeadlineExceeded:  # time was up in the midst of asking
                raise DeadlineExceeded(late) from None
            if at.now + POLL_S >= at.deadline:
                raise DeadlineExceeded(late)
            at.now = (yield Pause(POLL_S)).now

    def server_metadata(self, now: float, timeout_s: float | None) -> Talk[ServerMetadata]:
        return self._ask(self._protocol.server_metadata(), now, timeout_s)

    def metadata(self, model: str, version: str, now: float, timeout_s: float | None) -> Talk[ModelMetadata]:
        return self._ask(self._protocol.model_metadata(model, version), now, timeout_s)

    def statistics(self, model: str, version: str, now: float, timeout_s: float | None) -> Talk[list[ModelStatistics]]:
        return self._ask(self._protocol.statistics(model, version), now, timeout_s)

    def index(self, ready_only: bool, now: float, timeout_s: float | None) -> Talk[list[IndexEntry]]:
        return self._ask(self._protocol.index(ready_only=ready_only), now, timeout_s)

    def load(self, model: str, now: float, timeout_s: float | None) -> Talk[None]:
        return self._change(model, self._protocol.load(model), now, timeout_s)

    def unload(self, model: str, now: float, timeout_s: float | None) -> Talk[None]:
        return self._change(model, self._protocol.unload(model), now, timeout_s)

    # --- shared by them -------------------------------------------------------------------------------------------

    def _begin(self, now: float, timeout_s: float | None, retry: Retry | None = None) -> Circumstances:
        allowed_s = self._timeout_s if timeout_s is None else timeout_s
        if math.isnan(allowed_s) or allowed_s <= 0:
            raise InvalidInput(f"timeout_s is {allowed_s}; it must be more than 0 (math.inf for no limit)")
        return Circumstances(now + allowed_s, now, retry or self._retry, self._draw, self._url)

    def _ask(self, exchange: Exchange[T], now: float, timeout_s: float | None) -> Talk[T]:
        return converse(exchange, self._protocol, self._begin(now, timeout_s))

    def _yes_or_no(self, exchange: Exchange[bool], at: Circumstances) -> Talk[bool]:
        """An unreachable server is not ready; a server that has no such model raises NotFound all the same."""
        try:
            return (yield from converse(exchange, self._protocol, at))
        except (Unavailable, BadRequest):  # BadRequest: Triton's way to say that it is not
            return False

    def _change(self, model: str, exchange: Exchange[None], now: float, timeout_s: float | None) -> Talk[None]:
        yield from self._ask(exchange, now, timeout_s)
        for key in [key for key in self._signatures if key[0] == model]:
            self._signatures.pop(key, None)

    def _request(self, model: str, inputs: Any, options: Options, at: Circumstances) -> Talk[Request]:
        signature = self._signatures.get((model, options.version))
        if signature is None:
            metadata = yield from converse(self._protocol.model_metadata(model, options.version), self._protocol, at)
            signature = self._signatures[model, options.version] = metadata.signature
        parameters = dict(options.parameters or {})
        if options.priority is not None:
            parameters["priority"] = options.priority
        try:
            tensors = to_inputs(inputs, signature)
        except SlipwayError:
            self._signatures.pop((model, options.version), None)
            raise
        return Request(
            model,
            tensors,
            version=options.version,
            id=options.id,
            outputs=None if options.outputs is None else tuple(options.outputs),
            parameters=parameters or None,
        )
