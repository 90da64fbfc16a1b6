"""From an answer's code to the class of `slipway.errors` that a caller can catch."""

from __future__ import annotations

from collections.abc import Mapping

from slipway import errors
from slipway.errors import InvalidSpec, MethodNotAllowed, SlipwayError, every_error

_BY_CODE: dict[str, type[SlipwayError]] = {kind.code: kind for kind in every_error()}

# For servers that speak the protocol without our codes. gRPC codes as integers: grpc need not be installed.
BY_HTTP_STATUS: dict[int, type[SlipwayError]] = {
    400: errors.BadRequest,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.Unsupported,
    408: errors.RequestTimeout,
    409: errors.Conflict,
    411: errors.LengthRequired,
    412: errors.PreconditionFailed,
    413: errors.PayloadTooLarge,
    414: errors.UrlTooLong,
    415: errors.UnsupportedMedia,
    422: errors.InvalidInput,
    429: errors.Overloaded,
    431: errors.HeadersTooLarge,
    499: errors.Cancelled,
    501: errors.Unsupported,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.DeadlineExceeded,
}
BY_GRPC_CODE: dict[int, type[SlipwayError]] = {
    1: errors.Cancelled,
    3: errors.BadRequest,
    4: errors.DeadlineExceeded,
    5: errors.NotFound,
    6: errors.Conflict,
    8: errors.Overloaded,
    9: errors.Conflict,
    12: errors.Unsupported,
    14: errors.Unavailable,
}


def make_error(
    code: str,
    message: str,
    *,
    fallback: type[SlipwayError] | None,
    headers: Mapping[str, str],
    correlation: str = "",
) -> SlipwayError:
    """The error that `code` names; where it names none, one of class `fallback`, or of the root."""
    kind = _BY_CODE.get(code) or fallback or SlipwayError
    if issubclass(kind, MethodNotAllowed):
        return kind(message, allow=headers.get("allow", ""))
    if issubclass(kind, InvalidSpec):
        return kind(message)
    return kind(message, retry_after_s=retry_after_s(headers), correlation=correlation)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds; None where there is none, or a date, which no inference server sends."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
