"""An error as gRPC tells it: a code, a message and trailing metadata."""

from __future__ import annotations

from typing import NamedTuple

from slipway.errors import RateLimited, SlipwayError
from slipway.infer.guard import Allowance
from slipway.transports.codes import grpc_code
from slipway.transports.grpc.gate import allowance_trailers

# Clients refuse heads over 8 KiB by default, and a byte of the message takes up to three there.
MAX_MESSAGE_BYTES = 2000

ERROR_KEY = "slipway-error"
CORRELATION_KEY = "slipway-correlation"
RETRY_KEY = "retry-after"


class Status(NamedTuple):
    """`trailers`: the error's stable code, seconds until a retry is worth it, and the word for the server's log."""

    code: int
    message: str
    trailers: list[tuple[str, str | bytes]]


def status_of(error: SlipwayError) -> Status:
    trailers: list[tuple[str, str | bytes]] = [(ERROR_KEY, error.code)]
    if error.retry_after_s is not None:
        trailers.append((RETRY_KEY, f"{error.retry_after_s:g}"))
    if isinstance(error, RateLimited) and error.limit:
        trailers += allowance_trailers(Allowance(error.limit, error.remaining, error.reset_s))
    if error.correlation and error.correlation.isascii() and error.correlation.isprintable():
        trailers.append((CORRELATION_KEY, error.correlation))
    return Status(grpc_code(error), shorten(error.message), trailers)


def shorten(message: str) -> str:
    encoded = message.encode(errors="replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode()
    return encoded[: MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"
