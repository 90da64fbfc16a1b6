"""What a protocol can be asked, whichever it is: each method makes an Exchange and says how its answer reads."""

from __future__ import annotations

from typing import Protocol

from slipway.client.exchange import Exchange, Incoming, Outgoing
from slipway.errors import SlipwayError
from slipway.infer.request import Request, Response
from slipway.infer.service import IndexEntry, ModelMetadata, ModelStatistics, ServerMetadata


class ClientProtocol(Protocol):
    def failure(self, incoming: Incoming) -> SlipwayError | None:
        """The error that an answer is, or None."""
        ...

    def with_timeout(self, outgoing: Outgoing, timeout_s: float) -> Outgoing:
        """The same request, which also says that its answer is of no use after `timeout_s`."""
        ...

    def infer(self, request: Request) -> Exchange[Response]: ...

    def live(self) -> Exchange[bool]: ...

    def ready(self, model: str, version: str) -> Exchange[bool]:
        """Of one model, or of the server where `model` is ''."""
        ...

    def server_metadata(self) -> Exchange[ServerMetadata]: ...

    def model_metadata(self, model: str, version: str) -> Exchange[ModelMetadata]: ...

    def statistics(self, model: str, version: str) -> Exchange[list[ModelStatistics]]: ...

    def index(self, *, ready_only: bool) -> Exchange[list[IndexEntry]]: ...

    def load(self, model: str) -> Exchange[None]: ...

    def unload(self, model: str) -> Exchange[None]: ...
