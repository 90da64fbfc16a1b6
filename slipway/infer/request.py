"""One question to a model and its answer, whatever the protocol that carried them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from slipway.errors import SlipwayError
from slipway.infer.tensor import Tensor

NEVER = math.inf
"""A deadline that does not pass."""


class Request(msgspec.Struct, gc=False):
    """`outputs`: the names asked for, or None for all. `deadline`: seconds on the monotonic clock.

    `priority`: 0 is the most urgent; the scheduler clips it to its own range. `trace`: the W3C traceparent.
    """

    model: str
    inputs: list[Tensor]
    version: str = ""
    id: str = ""
    outputs: tuple[str, ...] | None = None
    parameters: dict[str, Any] | None = None
    deadline: float = NEVER
    priority: int = 1
    trace: str = ""
    protocol: str = "http"


class Response(msgspec.Struct, gc=False):
    model: str
    version: str
    outputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] | None = None


Done = Callable[[Response | SlipwayError], None]
"""Called exactly once for each request that was handed over, from the event loop's thread."""
