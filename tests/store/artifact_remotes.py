"""Real HTTP servers on loopback that behave as badly as those of the world."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from slipway.store.artifacts import Patience

QUICK = Patience(attempts=4, first_wait_s=0.001, longest_wait_s=0.01, connect_s=5, silence_s=5)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Remote:
    """A file at /model.onnx. The knobs say how the server behaves; `seen`: the Range of each request."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"one"'
        self.modified: str | None = None
        self.knows_ranges = True
        self.knows_if_range = True
        self.cut_after: list[int] = []  # bytes of each coming answer, then it hangs up
        self.statuses: list[int] = []  # of each coming answer, before any good one
        self.locations: dict[str, str] = {}  # path → where it redirects to
        self.extra: dict[str, str] = {}
        self.on_request: Callable[[Remote], None] = lambda _: None
        self.seen: list[str] = []
        self.authorizations: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/model.onnx"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.on_request(self)
        asked = handler.headers.get("range", "")
        self.seen.append(asked)
        self.authorizations.append(handler.headers.get("authorization", ""))
        if handler.path in self.locations:
            self._head(handler, 302, {"location": self.locations[handler.path], "content-length": "0"})
            return
        if self.statuses:
            self._head(handler, self.statuses.pop(0), {"content-length": "0"})
            return
        if self.etag and handler.headers.get("if-none-match") == self.etag:
            self._head(handler, 304, {"etag": self.etag})
            return
        body, status, headers = self.content, 200, dict(self.extra)
        validator = handler.headers.get("if-range", "")
        is_same = not self.knows_if_range or validator in ("", self.etag, self.modified)
        if asked and self.knows_ranges and is_same:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(body):
                self._head(handler, 416, {"content-range": f"bytes */{len(body)}", "content-length": "0"})
                return
            headers["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        if self.etag:
            headers["etag"] = self.etag
        if self.modified:
            headers["last-modified"] = self.modified
        self._head(handler, status, {"content-length": str(len(body)), **headers})
        cut = self.cut_after.pop(0) if self.cut_after else len(body)
        handler.wfile.write(body[:cut])
        if cut < len(body):
            handler.close_connection = True
            handler.wfile.flush()
            handler.connection.shutdown(2)

    def _head(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()


@contextmanager
def remote(content: bytes) -> Iterator[Remote]:
    file = Remote(content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            file.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are part of it
    file.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield file
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
