"""What went wrong, as problem details for HTTP APIs (RFC 9457): one form for every refusal, whoever refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from slipway.errors import InvalidInput, InvalidSpec, MethodNotAllowed, SlipwayError, Unauthenticated
from slipway.spec.resources import Problem
from slipway.transports.codes import http_status

PROBLEM_JSON = "application/problem+json"
CHALLENGE = 'Bearer realm="slipway", Basic realm="slipway", charset="UTF-8"'
_SHOWN = 80

TITLES = {
    400: "The request cannot be read or does not fit",
    401: "A credential is needed",
    403: "Not allowed",
    404: "Not there",
    405: "Not this method",
    409: "Impossible in the present state",
    412: "Somebody else changed it first",
    413: "Too large",
    415: "A media type that is not spoken",
    422: "It can be read, and cannot be",
    429: "Too much at once",
    500: "A fault of the server",
    501: "Not supported",
    503: "Try again later",
}


def problem(error: SlipwayError, *, request_id: str) -> Response:
    """The whole answer. `request_id`: the word that finds the request in the log."""
    status = http_status(error)
    errors = list(error.problems) if isinstance(error, InvalidSpec) else []
    body = Problem(
        type=f"urn:slipway:error:{error.code}",
        title=TITLES.get(status, "Refused"),
        status=status,
        detail=error.message,
        code=error.code,
        instance=f"urn:slipway:request:{request_id}",
        errors=errors,
    )
    headers = dict(getattr(error, "headers", {}))
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allow
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = CHALLENGE
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return Response(msgspec.json.encode(body), status, headers, PROBLEM_JSON)


def with_headers(error: SlipwayError, headers: Mapping[str, str]) -> SlipwayError:
    """The same error, which says something in the head of its answer too."""
    error.headers = dict(headers)  # type: ignore[attr-defined]
    return error


def invalid_parameters(found: RequestValidationError) -> SlipwayError:
    """What FastAPI found wrong with the path, the query or the headers."""
    lines = [_line(one) for one in found.errors()]
    return InvalidInput("; ".join(lines))


def _line(one: Mapping[str, Any]) -> str:
    where, *names = [str(part) for part in one.get("loc", ())]
    name = ".".join(names)
    said = str(one.get("msg", "is wrong")).removeprefix("Value error, ")
    if one.get("type") == "missing":
        return f"{where} parameter {name!r} is missing"
    value = repr(one.get("input"))
    value = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    return f"{where} parameter {name!r} is {value}: {said[:1].lower()}{said[1:]}"
