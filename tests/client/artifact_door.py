"""The artifact half of the management API over a real store, on a real socket, with knobs to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from slipway.errors import Conflict, DigestMismatch, NotFound, SlipwayError, StoreUnavailable
from slipway.spec.resources import UploadFile
from slipway.store.artifacts import ArtifactStore

STATUS: dict[type[SlipwayError], int] = {NotFound: 404, Conflict: 409, DigestMismatch: 400, StoreUnavailable: 503}


class Door:
    """`before`: called with (method, path, the number of its kind) and may throw an error of slipway, or return
    'hang up' to break the connection after reading half of the body, 'forget' to break it after doing as told, or a
    function that changes the body. `puts`: (offset, bytes) of each piece."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self.before: Callable[[str, str, int], Any] = lambda *_: None
        self.counts: dict[str, int] = {}
        self.puts: list[tuple[int, int]] = []
        self.url = ""

    def handle(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        number = self.counts[method] = self.counts.get(method, 0) + 1
        size = int(handler.headers.get("content-length", 0))
        body, unread = b"", size
        try:
            what = self.before(method, handler.path, number)
            body = handler.rfile.read(size // 2 if what == "hang up" else size)
            unread -= len(body)
            if callable(what):
                body = what(body)
            if what == "hang up":
                self._hang_up(handler)
                return
            status, headers, content = self._do(handler, method, body)
            if what == "forget":
                self._hang_up(handler)
                return
        except SlipwayError as error:
            handler.rfile.read(unread)
            status = next(each for kind, each in STATUS.items() if isinstance(error, kind))
            told = {"type": "about:blank", "title": error.code, "status": status, "detail": error.message}
            headers, content = {"content-type": "application/problem+json"}, told | {"code": error.code}
        sent = b"" if content is None or method == "HEAD" else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {**headers, "content-length": str(len(sent))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(sent)

    def _do(self, handler: BaseHTTPRequestHandler, method: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        path = handler.path.removeprefix("/api/v1/artifacts")
        if method == "POST":
            files = msgspec.convert(json.loads(body)["files"], list[UploadFile])
            return 200, {"content-type": "application/json"}, asdict(self.store.declare(files))
        sha256 = path.removeprefix("/blobs/")
        if method == "PUT":
            offset = int(handler.headers["upload-offset"])
            self.puts.append((offset, len(body)))
            offset = self.store.append(sha256, offset, body)
            if not self._is_short(sha256):
                self.store.finish(sha256)
        return (200 if method == "HEAD" else 204), {"upload-offset": str(self.store.received(sha256))}, None

    def _is_short(self, sha256: str) -> bool:
        try:
            self.store.finish(sha256)
        except Conflict:
            return True
        return False

    def _hang_up(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.connection.shutdown(2)


@contextmanager
def artifact_door(folder: Path) -> Iterator[Door]:
    door = Door(ArtifactStore(folder))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            door.handle(self, "POST")

        def do_PUT(self) -> None:
            door.handle(self, "PUT")

        def do_HEAD(self) -> None:
            door.handle(self, "HEAD")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are part of it
    door.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
