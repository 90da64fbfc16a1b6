"""The one table from error class to HTTP status and gRPC code, so that no door can answer differently.

A class that is not listed has its parent's codes, so a new error works before anybody thinks of this file.
gRPC codes are plain integers (https://grpc.github.io/grpc/core/md_doc_statuscodes.html): this file is needed
where grpc is not installed.
"""

from __future__ import annotations

from slipway import errors
from slipway.errors import SlipwayError

CANCELLED = 1
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
UNAUTHENTICATED = 16

_CODES: dict[type[SlipwayError], tuple[int, int]] = {
    errors.SlipwayError: (500, INTERNAL),
    errors.BadRequest: (400, INVALID_ARGUMENT),
    errors.MalformedRequest: (400, INVALID_ARGUMENT),
    errors.InvalidInput: (400, INVALID_ARGUMENT),  # not 422: clients of the Open Inference Protocol expect 400
    errors.PayloadTooLarge: (413, RESOURCE_EXHAUSTED),  # what gRPC itself answers to a message over its limit
    errors.HeadersTooLarge: (431, RESOURCE_EXHAUSTED),
    errors.UrlTooLong: (414, INVALID_ARGUMENT),
    errors.UnsupportedMedia: (415, UNIMPLEMENTED),
    errors.MethodNotAllowed: (405, UNIMPLEMENTED),
    errors.LengthRequired: (411, INVALID_ARGUMENT),
    errors.RequestTimeout: (408, DEADLINE_EXCEEDED),
    errors.InvalidSpec: (422, INVALID_ARGUMENT),
    errors.DigestMismatch: (422, INVALID_ARGUMENT),
    errors.Unauthenticated: (401, UNAUTHENTICATED),
    errors.Forbidden: (403, PERMISSION_DENIED),
    errors.NotFound: (404, NOT_FOUND),
    errors.Conflict: (409, FAILED_PRECONDITION),
    errors.PreconditionFailed: (412, FAILED_PRECONDITION),
    errors.Unsupported: (501, UNIMPLEMENTED),
    errors.Unavailable: (503, UNAVAILABLE),
    errors.NotReady: (503, UNAVAILABLE),
    errors.Draining: (503, UNAVAILABLE),
    errors.Overloaded: (429, RESOURCE_EXHAUSTED),
    errors.RateLimited: (429, RESOURCE_EXHAUSTED),
    errors.StoreUnavailable: (503, UNAVAILABLE),
    errors.NotLeader: (503, UNAVAILABLE),
    errors.ReplicaLost: (503, UNAVAILABLE),
    errors.DeadlineExceeded: (504, DEADLINE_EXCEEDED),
    errors.Cancelled: (499, CANCELLED),  # nobody is there to read it; 499 is what access logs call it
    errors.ModelFailure: (500, INTERNAL),
    errors.InvalidOutput: (500, INTERNAL),
    errors.SetupError: (422, FAILED_PRECONDITION),  # reaches a client as the answer to "load this model"
    errors.UnknownFormat: (422, FAILED_PRECONDITION),
    errors.MissingExtra: (422, FAILED_PRECONDITION),
    errors.UnsafeModel: (422, FAILED_PRECONDITION),
    errors.LoadFailure: (422, FAILED_PRECONDITION),
    errors.PortInUse: (409, FAILED_PRECONDITION),
}

HTTP_STATUS: dict[type[SlipwayError], int] = {kind: http for kind, (http, _) in _CODES.items()}
GRPC_CODE: dict[type[SlipwayError], int] = {kind: grpc for kind, (_, grpc) in _CODES.items()}


def http_status(error: SlipwayError) -> int:
    return _look_up(HTTP_STATUS, error)


def grpc_code(error: SlipwayError) -> int:
    return _look_up(GRPC_CODE, error)


def _look_up(table: dict[type[SlipwayError], int], error: SlipwayError) -> int:
    return next(table[kind] for kind in type(error).__mro__ if kind in table)
