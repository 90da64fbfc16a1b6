"""The Open Inference Protocol v2 over HTTP, all of it, and its model repository and statistics extensions.

The protocol: https://github.com/kserve/open-inference-protocol (rest), binary tensor data, model repository and
statistics as Triton's protocol extensions describe them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

import orjson

from slipway.errors import (
    DeadlineExceeded,
    InvalidInput,
    LengthRequired,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    SlipwayError,
    Unsupported,
    UnsupportedMedia,
)
from slipway.infer.guard import DEPLOY, KNOWN, OPEN, PREDICT, SEE, Identity, Pass
from slipway.infer.request import Request, Response
from slipway.infer.service import Service
from slipway.transports import answers
from slipway.transports.http.exchange import Exchange, allowance_headers
from slipway.transports.http.gate import Entry
from slipway.transports.http.head import Head
from slipway.transports.http.v2_answers import encode_infer
from slipway.transports.http.v2_json import Wanted, decode_infer

log = logging.getLogger(__name__)
TIMEOUT_HEADER = "slipway-timeout-ms"
JSON_LENGTH_HEADER = "inference-header-content-length"
_MEDIA = ("", "application/json", "application/octet-stream", "application/x-www-form-urlencoded")
_MODEL_VERBS = {"": "GET", "ready": "GET", "config": "GET", "stats": "GET", "infer": "POST"}


Call = Callable[["Exchange", "Route"], None]


class Route:
    """Where a head leads: what to call, which right that takes, and the model and version that the path names."""

    __slots__ = ("call", "json_bytes", "model", "request_id", "right", "timeout_s", "trace", "version")

    def __init__(self, call: Call, right: str = KNOWN, model: str = "", version: str = "") -> None:
        self.call = call
        self.right = right
        self.model = model
        self.version = version
        self.json_bytes: int | None = None
        self.timeout_s = 0.0
        self.trace = ""
        self.request_id = ""


def _answer(exchange: Exchange, wanted: Wanted, request: Request, outcome: Response | SlipwayError) -> None:
    """What became of an infer request, to whoever asked, in the form that was asked for."""
    if isinstance(outcome, SlipwayError):
        exchange.refuse(outcome)
        return
    try:
        body, json_bytes = encode_infer(outcome, wanted)
    except SlipwayError as error:
        exchange.refuse(error)
        return
    except Exception:
        log.exception("an answer of %s cannot be written", outcome.model)
        exchange.refuse(SlipwayError("the answer cannot be written; the server's log has the details"))
        return
    if json_bytes is None:
        exchange.respond_json(body, request.allowance)
    else:
        left = () if request.allowance is None else allowance_headers(request.allowance)
        headers = ((JSON_LENGTH_HEADER, str(json_bytes)), *left)
        exchange.respond(200, body, "application/octet-stream", headers)


class OpenInference:
    """The application behind an HTTP door: routes exchanges to a Service. `entry`: who may come in, for the door."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._guard = service.guard
        self.entry = Entry(service.guard, self._route_of, self._turned_away)
        self._fixed: dict[tuple[str, ...], tuple[str, Call, str]] = {
            ("v2",): ("GET", self._server, KNOWN),
            ("v2", "health", "live"): ("GET", self._live, OPEN),
            ("v2", "health", "ready"): ("GET", self._ready, OPEN),
            ("v2", "models", "stats"): ("GET", self._stats, KNOWN),
            ("v2", "repository", "index"): ("POST", self._index, KNOWN),
        }

    def __call__(self, exchange: Exchange) -> None:
        """Answer, now or later. Raises SlipwayError for what can be refused at once."""
        route = exchange.head.route or self._route_of(exchange.head)
        route.call(exchange, route)

    # --- routing --------------------------------------------------------------------------------------------------

    def _route_of(self, head: Head) -> Route:
        """Never fails: a path that leads nowhere is a route to the words that say so, for those who may hear them."""
        if head.route is None:
            head.route = self._find_route(head)
        route: Route = head.route
        return route

    def _turned_away(self, head: Head, error: SlipwayError) -> None:
        route = self._route_of(head)
        if route.right == PREDICT:
            self._service.refused(route.model, "http", error)

    def _find_route(self, head: Head) -> Route:
        segments = head.segments[:-1] if len(head.segments) > 1 and head.segments[-1] == "" else head.segments
        if head.method == "OPTIONS":
            return Route(self._options, OPEN)
        fixed = self._fixed.get(segments)
        if fixed is not None:
            method, call, right = fixed
            return Route(call, right) if _takes(head, method) else Route(_wrong_method(method), right)
        if segments[:2] == ("v2", "models") and len(segments) > 2:
            return self._model_route(head, segments)
        if segments[:3] == ("v2", "repository", "models") and len(segments) == 5:
            calls: dict[str, Call] = {"load": self._load, "unload": self._unload}
            if segments[4] in calls:
                call = calls[segments[4]] if _takes(head, "POST") else _wrong_method("POST")
                return Route(call, DEPLOY, segments[3])
        return Route(self._no_such_path)

    def _model_route(self, head: Head, segments: tuple[str, ...]) -> Route:
        model, rest = segments[2], segments[3:]
        version = ""
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        verb = rest[0] if rest else ""
        if len(rest) > 1 or verb not in _MODEL_VERBS:
            return Route(self._no_such_path)
        right = PREDICT if verb == "infer" else SEE
        if not _takes(head, _MODEL_VERBS[verb]):
            return Route(_wrong_method(_MODEL_VERBS[verb]), right, model)
        calls: dict[str, Call] = {
            "": self._metadata,
            "ready": self._model_ready,
            "config": self._config,
            "stats": self._stats,
            "infer": self._infer,
        }
        route = Route(calls[verb], right, model, version)
        if verb == "infer":
            try:
                _read_headers(head, route)
            except SlipwayError:
                route.call = self._unreadable
        return route

    def _unreadable(self, exchange: Exchange, route: Route) -> None:
        """Its headers cannot be read; once more, for the words."""
        try:
            _read_headers(exchange.head, route)
        except SlipwayError as error:
            self._service.refused(route.model, "http", error)
            raise

    def _caller(self, exchange: Exchange) -> Identity | None:
        """Whoever was just let in by the entry; None where nobody is asked."""
        passed = exchange.head.passed if self._guard.on_duty else None
        return None if passed is None else passed.caller

    def _no_such_path(self, exchange: Exchange, route: Route) -> None:  # noqa: ARG002
        path = exchange.head.path
        names = [entry.name for entry in self._service.index(caller=self._caller(exchange))]
        known = ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index"]
        for name in names:
            known += [f"/v2/models/{name}{verb}" for verb in ("", "/ready", "/infer", "/stats", "/config")]
        near = get_close_matches(path[:200], known, n=1)
        hint = f"did you mean {near[0]}?" if near else "the protocol begins at /v2"
        raise NotFound(f"no such path: {path[:200]}; {hint}")

    # --- inference ------------------------------------------------------------------------------------------------

    def _infer(self, exchange: Exchange, route: Route) -> None:
        now = time.monotonic()
        if not exchange.body and exchange.head.length == 0 and "content-length" not in exchange.headers:
            missing = LengthRequired("infer needs a body, with content-length or in chunks")
            self._service.refused(route.model, "http", missing)
            exchange.refuse(missing, close=True)
            return
        try:
            request, wanted = decode_infer(
                exchange.body, json_bytes=route.json_bytes, model=route.model, version=route.version, now=now
            )
        except SlipwayError as error:
            self._service.refused(route.model, "http", error)
            raise
        exchange.body = b""
        if self._guard.on_duty:
            passed = exchange.head.passed
            assert passed is not None  # the entry lets nobody in without
            request.caller = passed.caller
            if request.model not in passed.free:
                self._count(passed, request)
        if route.timeout_s:
            request.deadline = min(request.deadline, now + route.timeout_s)
        if route.trace:
            request.trace = route.trace
        if route.request_id and not request.id:
            request.id = route.request_id
        ticket = self._service.infer(request, partial(_answer, exchange, wanted, request))
        if ticket is not None:
            exchange.on_cancel = ticket.cancel

    def _count(self, passed: Pass, request: Request) -> None:
        """It is known who asks; has he not asked enough?"""
        try:
            request.allowance = self._guard.count(passed, request.model)
        except SlipwayError as error:
            self._service.refused(request.model, "http", error)
            raise

    # --- everything else -------------------------------------------------------------------------------------------

    def _options(self, exchange: Exchange, route: Route) -> None:  # noqa: ARG002
        exchange.respond(204, headers=(("allow", "GET, POST, HEAD, OPTIONS"),))

    def _server(self, exchange: Exchange, route: Route) -> None:  # noqa: ARG002
        facts = self._service.server_metadata()
        _json(exchange, {"name": facts.name, "version": facts.version, "extensions": facts.extensions})

    def _live(self, exchange: Exchange, route: Route) -> None:  # noqa: ARG002
        _json(exchange, {"live": True}, 200 if self._service.live() else 503)

    def _ready(self, exchange: Exchange, route: Route) -> None:  # noqa: ARG002
        ready = self._service.ready()
        _json(exchange, {"ready": ready}, 200 if ready else 503)

    def _model_ready(self, exchange: Exchange, route: Route) -> None:
        ready = self._service.model_ready(route.model, route.version, caller=self._caller(exchange))
        _json(exchange, {"name": route.model, "ready": ready}, 200 if ready else 503)

    def _metadata(self, exchange: Exchange, route: Route) -> None:
        facts = self._service.model_metadata(route.model, route.version, caller=self._caller(exchange))
        content = answers.model_metadata(facts)
        if facts.signature.columns:
            content["parameters"] = {"columns": [answers.tensor(spec) for spec in facts.signature.columns]}
        _json(exchange, content)

    def _config(self, exchange: Exchange, route: Route) -> None:
        _json(
            exchange,
            answers.model_config(
                self._service.model_metadata(route.model, route.version, caller=self._caller(exchange))
            ),
        )

    def _stats(self, exchange: Exchange, route: Route) -> None:
        found = self._service.statistics(route.model, route.version, caller=self._caller(exchange))
        _json(exchange, {"model_stats": [answers.statistics(item) for item in found]})

    def _index(self, exchange: Exchange, route: Route) -> None:  # noqa: ARG002
        asked = _json_body(exchange)
        ready_only = asked.get("ready", False)
        if not isinstance(ready_only, bool):
            raise InvalidInput(f"'ready' is {ready_only!r}, expected true or false")
        entries = self._service.index(ready_only=ready_only, caller=self._caller(exchange))
        content = [answers.index_entry(entry) for entry in entries]
        exchange.respond(200, orjson.dumps(content))

    def _load(self, exchange: Exchange, route: Route) -> None:
        asked = _json_body(exchange).get("parameters")
        if asked:
            names = ", ".join(map(str, asked))[:200]
            raise Unsupported(f"load with parameters ({names}) is not served: a model is loaded as it was declared")
        self._service.load(route.model, lambda error: _changed(exchange, error), caller=self._caller(exchange))

    def _unload(self, exchange: Exchange, route: Route) -> None:
        _json_body(exchange)
        self._service.unload(route.model, lambda error: _changed(exchange, error), caller=self._caller(exchange))


def _changed(exchange: Exchange, error: SlipwayError | None) -> None:
    if error is None:
        exchange.respond(200)
    else:
        exchange.refuse(error)


def _takes(head: Head, method: str) -> bool:
    return head.method == method or (head.method == "HEAD" and method == "GET")


def _wrong_method(method: str) -> Call:
    allow = "GET, HEAD, OPTIONS" if method == "GET" else f"{method}, OPTIONS"

    def refuse(exchange: Exchange, route: Route) -> None:  # noqa: ARG001
        raise MethodNotAllowed(f"{exchange.head.path[:200]} takes {method}, not {exchange.head.method}", allow=allow)

    return refuse


def _read_headers(head: Head, route: Route) -> None:
    """What an infer request says in its head."""
    _check_media(head)
    route.json_bytes = _number_header(head, JSON_LENGTH_HEADER)
    route.timeout_s = (_number_header(head, TIMEOUT_HEADER) or 0) / 1000
    route.trace = head.headers.get("traceparent", "")
    route.request_id = head.headers.get("x-request-id", "")


def _check_media(head: Head) -> None:
    """Raise UnsupportedMedia for a body that says it is something else than JSON.

    `curl -d` calls everything a form, and many clients call it nothing or octets: those are read as what they are.
    """
    media = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _MEDIA and not media.endswith("+json"):
        raise UnsupportedMedia(f"content-type {media[:80]!r} is not read here; send application/json")


def _number_header(head: Head, name: str) -> int | None:
    value = head.headers.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 15):
        raise MalformedRequest(f"header {name} is {value[:40]!r}, expected a whole number")
    if name == TIMEOUT_HEADER and int(value) == 0:
        raise DeadlineExceeded(f"header {name} is 0: the deadline had passed before the request came")
    return int(value)


def _json(exchange: Exchange, content: dict[str, Any], status: int = 200) -> None:
    exchange.respond(status, orjson.dumps(content))


def _json_body(exchange: Exchange) -> dict[str, Any]:
    if not exchange.body.strip():
        return {}
    try:
        content = orjson.loads(exchange.body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise MalformedRequest("the body is JSON, but not an object")
    return content
