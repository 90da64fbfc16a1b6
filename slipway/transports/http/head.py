"""The head of an HTTP/1.1 request: parsed by llhttp, and each distinct head only once.

A client on a kept-alive connection sends the same head again and again, byte for byte. Parsing is a pure function
of those bytes, so its results are kept (a bounded number of them): the common case is one dictionary look-up.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import httptools

from slipway.errors import HeadersTooLarge, MalformedRequest, SlipwayError, UrlTooLong
from slipway.infer.guard import Pass
from slipway.transports.http.site import is_public_name

MAX_KEPT = 2048
MAX_KEPT_BYTES = 4096
MAX_URL_BYTES = 8192
MAX_HEADERS = 256
ORDINARY_BYTES = 64 * 1024
_HEADERS_ONCE = frozenset(
    ["content-length", "host", "content-type", "inference-header-content-length", "authorization", "x-api-key"]
)


class Head:
    """`segments`: the path split at '/', each percent-decoded after the split, so that %2f cuts nothing.

    `length`: bytes of the body, -1 where it is chunked. `route`: the application's own memory for this head,
    `passed` its gate's. `browsed`: sent by a browser, and not looked at yet; `named`: to a host that anybody may own.
    """

    __slots__ = (
        "accepts",
        "announces",
        "browsed",
        "encoding",
        "expects_continue",
        "headers",
        "keep_alive",
        "length",
        "method",
        "named",
        "ordinary",
        "passed",
        "path",
        "plain",
        "query",
        "route",
        "segments",
    )

    def __init__(
        self, method: str, path: str, query: str, headers: dict[str, str], *, keep_alive: bool, version: str = "1.1"
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.keep_alive = keep_alive
        self.segments = tuple(unquote(part) for part in path.split("/")[1:])
        self.length = _body_length(headers, version)
        self.expects_continue = version == "1.1" and headers.get("expect", "").lower() == "100-continue"
        self.encoding = headers.get("content-encoding", "identity").strip().lower()
        self.accepts = headers.get("accept-encoding", "")
        self.route: Any = None
        self.passed: Pass | None = None
        self.browsed = "origin" in headers or "sec-fetch-site" in headers
        self.named = is_public_name(headers.get("host", ""))
        # The two short ways: of a request that is complete once `length` bytes have come, and of its answer.
        self.ordinary = keep_alive and self.encoding == "identity" and 0 <= self.length <= ORDINARY_BYTES
        self.plain = keep_alive and version == "1.1" and "x-request-id" not in headers
        self.announces = keep_alive and version == "1.0"  # clients of HTTP/1.0 wait for our word


def _body_length(headers: dict[str, str], version: str) -> int:
    if "transfer-encoding" in headers:
        if version == "1.0":
            raise MalformedRequest("HTTP/1.0 has no transfer-encoding (RFC 9112, 6.1)")
        if headers["transfer-encoding"].strip(" \t").lower() != "chunked":
            raise MalformedRequest(f"transfer-encoding {headers['transfer-encoding']!r}: only 'chunked' is spoken here")
        if "content-length" in headers:
            raise MalformedRequest("both content-length and transfer-encoding: which one tells the body's length?")
        return -1
    length = headers.get("content-length")
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()):
        raise MalformedRequest(f"content-length is {length!r}; it must be a number of bytes")
    return int(length)


class _Collector:
    """What llhttp calls back."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self._count = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count += 1
        if self._count > MAX_HEADERS:
            raise HeadersTooLarge(f"the request has more than {MAX_HEADERS} headers")
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key in self.headers:
            if key in _HEADERS_ONCE:
                raise MalformedRequest(f"header {key!r} is given twice")
            text = f"{self.headers[key]}, {text}"
        self.headers[key] = text


def parse_head(data: bytes) -> Head:
    """A head, with the empty line that ends it. Raises MalformedRequest, HeadersTooLarge, UrlTooLong."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # we speak HTTP/1.1 on, which RFC 9110 (7.8) allows
    except httptools.HttpParserCallbackError as error:
        if isinstance(error.__context__, SlipwayError):
            raise error.__context__ from None
        raise MalformedRequest(f"not a request of HTTP/1.1: {error}") from None
    except httptools.HttpParserError as error:
        raise MalformedRequest(f"not a request of HTTP/1.1: {error}") from None
    version = parser.get_http_version()
    protocol = data[: data.find(b"\r\n")].rpartition(b" ")[2]
    if protocol not in (b"HTTP/1.1", b"HTTP/1.0"):  # llhttp knows others, too
        raise MalformedRequest(f"{protocol[:20].decode('latin-1')!r} is not spoken here, only HTTP/1.1 and HTTP/1.0")
    if version == "1.1" and "host" not in collector.headers:
        raise MalformedRequest("a request of HTTP/1.1 needs a host header (RFC 9112, 3.2)")
    if len(collector.url) > MAX_URL_BYTES:
        raise UrlTooLong(f"the URL is {len(collector.url)} bytes long, over the limit of {MAX_URL_BYTES}")
    try:
        url = httptools.parse_url(collector.url)
    except httptools.HttpParserInvalidURLError:
        raise MalformedRequest(f"not a URL: {collector.url[:200]!r}") from None
    return Head(
        parser.get_method().decode(),
        (url.path or b"/").decode("latin-1"),
        (url.query or b"").decode("latin-1"),
        collector.headers,
        keep_alive=_keeps_alive(version, collector.headers.get("connection", "")),
        version=version,
    )


def _keeps_alive(version: str, connection: str) -> bool:
    """RFC 9112, 9.3. Not llhttp's word: it forgets the header once a request without a body is over."""
    options = [option.strip(" \t").lower() for option in connection.split(",")]
    return "close" not in options and (version == "1.1" or "keep-alive" in options)


class HeadMemory:
    """The heads of late. When it is full it starts anew: cheaper than to keep order, and the regulars are soon back."""

    def __init__(self, *, max_head_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self.known: dict[bytes, Head] = {}

    def get(self, data: bytes) -> Head:
        head = self.known.get(data)
        if head is None:
            self._check_size(data)
            head = parse_head(data)
            if len(data) <= MAX_KEPT_BYTES:
                if len(self.known) >= MAX_KEPT:
                    self.known.clear()
                self.known[data] = head
        return head

    def check_beginning(self, data: bytes) -> None:
        """Is this the beginning of a head? Raises HeadersTooLarge, UrlTooLong, MalformedRequest."""
        if b"\n\n" in data or b"\n\r\n" in data:
            raise MalformedRequest("not a request of HTTP/1.1: lines end with CRLF")
        self._check_size(data)

    def _check_size(self, data: bytes) -> None:
        line = data.find(b"\r\n")
        if (len(data) if line < 0 else line) > MAX_URL_BYTES + 64:
            raise UrlTooLong(f"the URL is over the limit of {MAX_URL_BYTES} bytes")
        if len(data) > self._max_head_bytes:
            raise HeadersTooLarge(f"the request's head is over {self._max_head_bytes} bytes")
