"""One request and the answer it waits for. Answers leave a connection in the order in which requests came."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from typing import Any, Protocol

import orjson

from slipway.errors import MethodNotAllowed, RateLimited, SlipwayError, Unauthenticated
from slipway.infer.guard import Allowance
from slipway.transports.codes import http_status
from slipway.transports.http.doorway import Doorway
from slipway.transports.http.encodings import COMPRESS_FROM_BYTES, choose_encoding, encode_body
from slipway.transports.http.head import Head

JSON = "application/json"
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}
CHALLENGE = 'Bearer, Basic realm="slipway"'
MAX_MESSAGE = 4000
"""Characters; more is not an explanation but an echo of what came."""
Headers = tuple[tuple[str, str], ...]
_LIMITED = b"%b%d\r\nratelimit-limit: %d\r\nratelimit-remaining: %d\r\nratelimit-reset: %d\r\n\r\n%b"


class Connection(Protocol):
    """Where an exchange came from. `last`: this connection takes no further requests. `plain_json`: answers of JSON
    need no headers but the usual. `certificate`: the client's common name, verified by TLS. `peer`: its address."""

    door: Doorway
    last: bool
    plain_json: bool

    @property
    def certificate(self) -> str: ...

    @property
    def peer(self) -> str: ...

    def admitted(self, exchange: Exchange, error: SlipwayError | None) -> None: ...

    def send(self, exchange: Exchange, payload: bytes, *, close: bool = False) -> None: ...

    def closes_after(self, exchange: Exchange) -> bool: ...


class Exchange:
    """`body` is whole and decoded. `on_cancel` is called if the client goes away before the answer."""

    __slots__ = ("body", "connection", "head", "on_cancel", "payload")

    def __init__(self, connection: Connection, head: Head, body: bytes) -> None:
        self.connection = connection
        self.head = head
        self.body = body
        self.on_cancel: Callable[[], None] | None = None
        self.payload: bytes | None = None

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> str:
        return self.head.path

    @property
    def query(self) -> str:
        return self.head.query

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        return self.head.headers

    def respond_json(self, body: bytes, allowance: Allowance | None = None) -> None:
        """200 with JSON: the short way that most answers take."""
        head = self.head
        connection = self.connection
        small = not head.accepts or len(body) < COMPRESS_FROM_BYTES
        if head.plain and small and connection.plain_json and not connection.last:
            if allowance is None:
                connection.send(self, b"%b%d\r\n\r\n%b" % (connection.door.json_head, len(body), body))
            else:
                limit, remaining, reset_s = allowance
                numbers = (connection.door.json_head, len(body), limit, remaining, ceil(reset_s), body)
                connection.send(self, _LIMITED % numbers)
        else:
            self.respond(200, body, headers=() if allowance is None else allowance_headers(allowance))

    def respond(self, status: int, body: bytes = b"", content_type: str = JSON, headers: Headers = ()) -> None:
        """Answer. HEAD gets the head of the answer; a body worth it is compressed if the client accepts that."""
        head, connection = self.head, self.connection
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", f"date: {connection.door.date}"]
        if body or status not in (204, 304):
            lines.append(f"content-type: {content_type}")
        if head.accepts and len(body) >= COMPRESS_FROM_BYTES:
            encoding = choose_encoding(head.accepts)
            if encoding:
                body = encode_body(body, encoding)
                lines.append(f"content-encoding: {encoding}")
            lines.append("vary: accept-encoding")
        lines.extend(f"{name}: {_clean(value)}" for name, value in headers)
        lines.extend(connection.door.cors_headers(head))
        request_id = head.headers.get("x-request-id")
        if request_id:
            lines.append(f"x-request-id: {_clean(request_id)}")
        close = not head.keep_alive or connection.closes_after(self)
        if close:
            lines.append("connection: close")
        elif head.announces:
            lines.append("connection: keep-alive")
        if status != 204:
            lines.append(f"content-length: {len(body)}")
        text = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        if head.method == "HEAD":
            body = b""
        connection.send(self, text + body, close=close)

    def refuse(self, error: SlipwayError, *, close: bool = False) -> None:
        """Answer with an error of the tree, as JSON."""
        words = error.message[:MAX_MESSAGE].encode("utf-8", "replace").decode()  # a model's own may be no Unicode
        content: dict[str, Any] = {"error": words, "code": error.code}
        headers: list[tuple[str, str]] = []
        if error.correlation:
            content["correlation"] = error.correlation
        if error.retry_after_s is not None:
            headers.append(("retry-after", str(max(1, ceil(error.retry_after_s)))))
        if isinstance(error, MethodNotAllowed):
            headers.append(("allow", error.allow))
        elif isinstance(error, Unauthenticated):
            headers.append(("www-authenticate", CHALLENGE))
        elif isinstance(error, RateLimited) and error.limit:
            headers += allowance_headers(Allowance(error.limit, error.remaining, error.reset_s))
        if close:
            self.connection.last = True
        self.respond(http_status(error), orjson.dumps(content), headers=tuple(headers))


def allowance_headers(allowance: Allowance) -> Headers:
    """What is left to the caller, as draft-ietf-httpapi-ratelimit-headers-03 writes it. Seconds are rounded up."""
    return (
        ("ratelimit-limit", str(allowance.limit)),
        ("ratelimit-remaining", str(allowance.remaining)),
        ("ratelimit-reset", str(ceil(allowance.reset_s))),
    )


def _clean(value: str) -> str:
    """A header's value cannot end the header: what an attacker sent must not split our answer."""
    return value.replace("\r", " ").replace("\n", " ")
