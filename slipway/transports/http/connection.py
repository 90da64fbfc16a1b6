"""One client connection: HTTP/1.1 as bytes in, exchanges to the application, answers out in order.

Keep-alive, pipelining (bounded), chunked bodies, `Expect: 100-continue`, limits on everything, and slow or vanished
clients. No task and no timer per request: requests are handled by callback, and the door's sweep looks at the times.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from slipway.errors import PayloadTooLarge, RequestTimeout, SlipwayError, Unavailable
from slipway.spec.hosts import is_loopback
from slipway.transports.http.chunked import ChunkedBody
from slipway.transports.http.doorway import Doorway
from slipway.transports.http.encodings import decode_body
from slipway.transports.http.exchange import Exchange
from slipway.transports.http.gate import EVERYBODY, Entry
from slipway.transports.http.head import Head
from slipway.transports.http.site import check_name, check_origin
from slipway.transports.tls import common_name

App = Callable[[Exchange], None]
"""Called for each whole request; answers through the exchange, at once or later. It may raise SlipwayError."""

MAX_PIPELINED = 64
LINGER_TICKS = 5
MAX_LEAVING = 256
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MIN_BODY_RATE = 500
"""Bytes per second below which a body counts as too slow, on average; mod_reqtimeout of Apache has the same."""
_ERROR_HEAD = Head("GET", "/", "", {"host": ""}, keep_alive=False)
log = logging.getLogger(__name__)


class HttpConnection(asyncio.Protocol):
    """`last`: no request after the one at hand is answered here.

    `touched`: the door's tick when bytes last went in, or out to a slow reader. `began`: when the head or the body at
    hand began, for those who send so little at a time that they are never quiet. `entry`: who may come in; a body
    that is not here yet is not read before that is known.
    """

    def __init__(self, door: Doorway, app: App, entry: Entry = EVERYBODY) -> None:
        self.door = door
        self.last = False
        self.touched = self.began = door.tick
        self.plain_json = not door.limits.cors_origins
        self.certificate = ""
        self._at_home = False
        self._app = app
        self._entry = entry
        self._guard = entry.guard
        self._probe: Exchange | None = None  # of a head whose body waits until its sender is known
        self._heads = door.heads
        self._known = door.heads.known.get
        self._transport: Any = None
        self._exchanges: deque[Exchange] = deque()
        self._rest = b""  # the beginning of a head, or what a paused connection had not yet looked at
        self._head: Head | None = None  # of the body at hand
        self._parts: list[bytes] = []
        self._missing = 0
        self._chunked: ChunkedBody | None = None
        self._paused = False
        self._congested = False
        self._lingers = False
        self._unread = False  # bytes may still come that nobody will look at
        self._unsent = 0  # bytes of answers that the client had not taken at the last sweep

    # --- the transport's side -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        door = self.door
        sockname = transport.get_extra_info("sockname")
        self._at_home = isinstance(sockname, tuple) and is_loopback(str(sockname[0]))
        certificate = transport.get_extra_info("peercert")
        if certificate:
            self.certificate = common_name(certificate)
        limit = door.limits.max_connections
        if len(door.connections) < limit:
            door.connections.add(self)
        elif len(door.leaving) < MAX_LEAVING:
            door.leaving.add(self)
            self._refuse_rest(Unavailable(f"all {limit} connections are taken; try again shortly", retry_after_s=1.0))
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.door.connections.discard(self)
        self.door.leaving.discard(self)
        for exchange in self._exchanges:
            if exchange.payload is None and exchange.on_cancel is not None:
                exchange.on_cancel()
        self._exchanges.clear()
        if self._probe is not None and self._probe.on_cancel is not None:
            self._probe.on_cancel()

    def pause_writing(self) -> None:
        """The client does not read its answers: no further requests from it until it does."""
        self._congested = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._congested = False
        self._resume()

    def data_received(self, data: bytes) -> None:
        if self.last:
            return  # what follows the last request is not ours to read
        self.touched = self.door.tick
        if not self._exchanges and self._head is None and not self._rest:
            # The usual case by far: one whole request, with a head that has been seen before.
            end = data.find(b"\r\n\r\n") + 4
            head = self._known(data[:end])
            if (
                head is not None
                and head.ordinary
                and len(data) - end == head.length <= self.door.limits.max_body_bytes
                and not self.door.draining
            ):
                exchange = Exchange(self, head, data[end:])
                self._exchanges.append(exchange)
                self._dispatch(exchange)
                return
        try:
            self._consume(data)
        except SlipwayError as error:
            self._refuse_rest(error)

    # --- bytes in -----------------------------------------------------------------------------------------------

    def _consume(self, data: bytes) -> None:
        resumed = bool(self._rest)
        if resumed:
            data = self._rest + data
            self._rest = b""
        at, size = 0, len(data)
        while at < size:
            head = self._head
            if head is None:
                start = at
                if self._congested or len(self._exchanges) >= MAX_PIPELINED:
                    self._rest = data[at:]
                    self._paused = not self._congested
                    self._transport.pause_reading()
                    return
                if data.startswith(b"\r\n", at):
                    at += 2  # some end a body so; it is not part of the next request (RFC 9112, 2.2)
                    continue
                end = data.find(b"\r\n\r\n", at)
                if end < 0:
                    if at or not resumed:
                        self.began = self.door.tick
                    self._rest = data[at:]
                    self._heads.check_beginning(self._rest)
                    return
                end += 4
                head = self._heads.get(data[at:end])
                at = end
                length = head.length
                if 0 <= length <= size - at and length <= self.door.limits.max_body_bytes:
                    self._complete(head, data[at : at + length])  # the whole request is here: the usual case
                    at += length
                elif not self._guard.on_duty or self._knows_sender(head, data[start:]):
                    self._begin_body(head, here=size - at)
                else:
                    return
            elif self._chunked is not None:
                at = self._chunked.feed(data, at)
                if self._chunked.done:
                    body, self._chunked, self._head = self._chunked.body, None, None
                    self._complete(head, body)
            else:
                piece = data if at == 0 and size <= self._missing else data[at : at + self._missing]
                self._parts.append(piece)
                self._missing -= len(piece)
                at += len(piece)
                if not self._missing:
                    body, self._parts, self._head = b"".join(self._parts), [], None
                    self._complete(head, body)
            if self.last:
                return

    def _knows_sender(self, head: Head, data: bytes) -> bool:
        """Whether its body may come. False: that takes long, and `data`, which begins with the head, waits for it."""
        probe = Exchange(self, head, b"")
        if self._entry.admit(probe):
            return True
        self._probe, self._rest, self.began = probe, data, self.door.tick
        self._transport.pause_reading()
        return False

    def admitted(self, exchange: Exchange, error: SlipwayError | None) -> None:
        """What took long is known now."""
        exchange.on_cancel = None
        if exchange is self._probe:
            self._probe = None
            if error is None:
                self._resume()
            else:
                self._refuse_rest(error)
        elif error is None:
            self._dispatch(exchange)
        else:
            exchange.refuse(error)

    def _begin_body(self, head: Head, *, here: int) -> None:
        """The head is here, its body not wholly. Refuse what is too large before it comes."""
        limit = self.door.limits.max_body_bytes
        if head.length > limit:
            raise PayloadTooLarge(f"the body is {head.length} bytes long, over the limit of {limit}")
        self._head = head
        self.began = self.door.tick
        if head.length < 0:
            self._chunked = ChunkedBody(max_bytes=limit)
        else:
            self._missing = head.length
        if head.expects_continue and not here:
            if self._exchanges:  # it has to wait for its turn, as if it were an answer
                word = Exchange(self, head, b"")
                word.payload = CONTINUE
                self._exchanges.append(word)
            else:
                self._transport.write(CONTINUE)

    def _complete(self, head: Head, body: bytes) -> None:
        """A whole request: to the application with it."""
        exchange = Exchange(self, head, body)
        self._exchanges.append(exchange)
        if not head.keep_alive or self.door.draining:
            self.last = True
        self._dispatch(exchange)

    def _dispatch(self, exchange: Exchange) -> None:
        head = exchange.head
        try:
            if head.browsed or (head.named and self._at_home and self._guard.is_open):
                self._check_site(head)
            if self._guard.on_duty and not self._entry.admit(exchange):
                return
            if head.encoding != "identity":
                limit = self.door.limits.max_body_bytes
                exchange.body = decode_body(exchange.body, head.encoding, max_bytes=limit)
            self._app(exchange)
        except SlipwayError as error:
            exchange.refuse(error)
        except Exception:
            log.exception("a bug in Slipway: %s %s", head.method, head.path)
            exchange.refuse(SlipwayError("an internal error; the server's log has the details"))

    def _check_site(self, head: Head) -> None:
        """Raises Forbidden for what a page of another site has a browser send."""
        if self._at_home and self._guard.is_open:
            check_name(head.headers.get("host", ""))
        check_origin(head.method, head.headers, let_in=self.door.limits.cors_origins)
        head.browsed = False  # the same bytes mean the same the next time

    def _refuse_rest(self, error: SlipwayError) -> None:
        """What came cannot be read as HTTP, so nothing after it can: answer once, then hang up."""
        self._rest, self._parts, self._head, self._chunked = b"", [], None, None
        self._unread = True
        exchange = Exchange(self, _ERROR_HEAD, b"")
        self._exchanges.append(exchange)
        exchange.refuse(error, close=True)

    # --- answers out --------------------------------------------------------------------------------------------

    def send(self, exchange: Exchange, payload: bytes, *, close: bool = False) -> None:
        """Called once for each exchange. Writes the answer when those before it have gone."""
        exchanges = self._exchanges
        if len(exchanges) == 1 and exchanges[0] is exchange:  # nobody before it, nobody after
            exchanges.clear()
            self._transport.write(payload)
        else:
            exchange.payload = payload
            while exchanges and exchanges[0].payload is not None:
                self._transport.write(exchanges.popleft().payload)
        if self._paused and len(exchanges) < MAX_PIPELINED // 2:
            self._paused = False
            asyncio.get_running_loop().call_soon(self._resume)
        if (close or self.last) and not exchanges:
            self._hang_up()

    def _resume(self) -> None:
        if not self._paused and not self._congested and self._probe is None and not self._transport.is_closing():
            self._transport.resume_reading()
            if self._rest and not self.last:
                self.began = self.door.tick
                self.data_received(b"")

    @property
    def peer(self) -> str:
        """The client's address, without its port."""
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    def closes_after(self, exchange: Exchange) -> bool:
        """Whether its answer is the last on this connection."""
        return self.last and (not self._exchanges or self._exchanges[-1] is exchange)

    def _hang_up(self) -> None:
        """Close so that the client can still read the last answer: first only our side of the connection."""
        self.last = True
        if not self._lingers and not self._transport.is_closing():
            self._lingers = True
            self.touched = self.door.tick
            if self._transport.can_write_eof():
                self._transport.write_eof()
            elif not self._unread:  # TLS has no half; where all was read, nothing gets lost
                self._transport.close()
                return
            self._transport.resume_reading()

    def sweep(self, tick: int) -> None:
        """Once a second: enforce the times. A connection with an answer due is never idle."""
        limits = self.door.limits
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent:  # slowly is not idle
            self._unsent, self.touched = unsent, tick
        quiet = tick - self.touched
        if unsent:
            if quiet >= limits.idle_timeout_s:
                self._transport.abort()  # to close would be to wait for it to read
        elif self._lingers:
            if quiet >= LINGER_TICKS:
                self._transport.abort()
        elif self._exchanges or self._probe is not None:
            return
        elif self._head is not None or self._rest:
            if tick - self.began >= limits.head_timeout_s + self._received() / MIN_BODY_RATE:
                self._refuse_rest(RequestTimeout("the request came too slowly"))
        elif quiet >= limits.idle_timeout_s:
            self._transport.close()

    def _received(self) -> int:
        """Bytes of the body at hand."""
        if self._chunked is not None:
            return self._chunked.size
        return 0 if self._head is None else self._head.length - self._missing

    def drain(self) -> None:
        """No further requests; close once those that have come, or begun to come, are answered."""
        if self._exchanges:
            self.last = self._head is None
        elif self._head is None and not self._rest:
            self._transport.close()

    def cut(self) -> None:
        self._transport.abort()
