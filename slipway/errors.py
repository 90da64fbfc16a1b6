"""What goes wrong, as one tree. No HTTP or gRPC codes here: `transports.codes` maps this tree to both.

SlipwayError
├── BadRequest                the caller must change the request
│   ├── MalformedRequest      it could not be read: JSON, framing, sizes
│   ├── InvalidInput          it was read, and does not fit the model's signature
│   ├── PayloadTooLarge       over a limit of size
│   ├── HeadersTooLarge       the head alone is over a limit
│   ├── UrlTooLong            no path of this server is nearly as long
│   ├── UnsupportedMedia      a content type or encoding that no door speaks
│   ├── MethodNotAllowed      the path exists, the verb does not
│   ├── LengthRequired        a body whose length nobody told
│   ├── RequestTimeout        the client was too slow in sending it
│   ├── InvalidSpec           a spec or configuration that cannot be, with each place
│   └── DigestMismatch        an artifact that is not the one that was declared
├── Unauthenticated           no credential, or one that does not hold
├── Forbidden                 a good credential that may not do this
├── NotFound                  no such path, model or version
├── Conflict                  true in itself, impossible in the present state
│   └── PreconditionFailed    somebody else changed it first
├── Unsupported               a part of a protocol that this server does not have
├── Unavailable               nothing wrong with the request: try later or elsewhere
│   ├── NotReady              no replica of the model can take it now
│   ├── Draining              the server is on its way out
│   ├── Overloaded            a bounded queue is full
│   ├── RateLimited           the caller's own limit is used up
│   ├── StoreUnavailable      the database cannot be reached, or the disk is full
│   ├── NotLeader             this controller stands by; another one decides
│   └── ReplicaLost           the replica died with the request, and so did the retry
├── DeadlineExceeded          the caller's deadline, or the SLO, passed first
├── Cancelled                 the caller went away
├── ModelFailure              the model's own code failed
│   └── InvalidOutput         it answered with something that is not an answer
└── SetupError                before anything is served: options, files, ports
    ├── UnknownFormat         a model that no runtime recognises
    ├── MissingExtra          a package that is not installed
    ├── UnsafeModel           a file that names code which nobody allowed
    ├── LoadFailure           the runtime refused the model
    └── PortInUse             somebody listens there already
"""

from __future__ import annotations

from typing import ClassVar


class SlipwayError(Exception):
    """Root of the tree. `code` is stable: clients, metrics and docs use it.

    `message` says what was wrong, where, and what would be right, and is safe to show to a client.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, retry_after_s: float | None = None, correlation: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.correlation = correlation


class BadRequest(SlipwayError):
    code = "bad_request"


class MalformedRequest(BadRequest):
    code = "malformed_request"


class InvalidInput(BadRequest):
    code = "invalid_input"


class PayloadTooLarge(BadRequest):
    code = "payload_too_large"


class HeadersTooLarge(BadRequest):
    code = "headers_too_large"


class UrlTooLong(BadRequest):
    code = "url_too_long"


class UnsupportedMedia(BadRequest):
    code = "unsupported_media"


class MethodNotAllowed(BadRequest):
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class LengthRequired(BadRequest):
    code = "length_required"


class RequestTimeout(BadRequest):
    code = "request_timeout"


class InvalidSpec(BadRequest):
    """`problems`: one line for each place that is wrong, `file:line:column: what, and what would be right`."""

    code = "invalid_spec"

    def __init__(self, message: str, *, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems or (message,)


class DigestMismatch(BadRequest):
    code = "digest_mismatch"


class Unauthenticated(SlipwayError):
    code = "unauthenticated"


class Forbidden(SlipwayError):
    code = "forbidden"


class NotFound(SlipwayError):
    code = "not_found"


class Conflict(SlipwayError):
    code = "conflict"


class PreconditionFailed(Conflict):
    code = "precondition_failed"


class Unsupported(SlipwayError):
    code = "unsupported"


class Unavailable(SlipwayError):
    code = "unavailable"


class NotReady(Unavailable):
    code = "not_ready"


class Draining(Unavailable):
    code = "draining"


class Overloaded(Unavailable):
    code = "overloaded"


class RateLimited(Unavailable):
    """`limit`: how much the caller has, 0 where that is no number; `remaining` of it, too little for what was asked;
    whole again in `reset_s`."""

    code = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        correlation: str = "",
        limit: int = 0,
        remaining: int = 0,
        reset_s: float = 0.0,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, correlation=correlation)
        self.limit = limit
        self.remaining = remaining
        self.reset_s = reset_s


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class NotLeader(Unavailable):
    code = "not_leader"


class ReplicaLost(Unavailable):
    code = "replica_lost"


class DeadlineExceeded(SlipwayError):
    code = "deadline_exceeded"


class Cancelled(SlipwayError):
    code = "cancelled"


class ModelFailure(SlipwayError):
    code = "model_failure"


class InvalidOutput(ModelFailure):
    code = "invalid_output"


class SetupError(SlipwayError):
    code = "setup_error"


class UnknownFormat(SetupError):
    code = "unknown_format"


class MissingExtra(SetupError):
    code = "missing_extra"


class UnsafeModel(SetupError):
    code = "unsafe_model"


class LoadFailure(SetupError):
    code = "load_failure"


class PortInUse(SetupError):
    code = "port_in_use"


def every_error() -> tuple[type[SlipwayError], ...]:
    """The whole tree, root first: for the code table, the docs test and the wire."""
    found: list[type[SlipwayError]] = [SlipwayError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return tuple(found)
