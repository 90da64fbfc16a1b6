"""Chunked bodies (RFC 9112, section 7.1), decoded as they come. Strict: every leniency here is a way to smuggle."""

from __future__ import annotations

import re

from slipway.errors import MalformedRequest, PayloadTooLarge

MAX_LINE_BYTES = 4096
MAX_TRAILER_BYTES = 16 * 1024
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*;[^\r\n]*)?\Z")


class ChunkedBody:
    """Feed it bytes until `done`; `body` then is the decoded whole. Trailers are read and dropped."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = b""
        self._on_line = self._size_line
        self._missing = 0  # bytes of the chunk at hand
        self._trailer_bytes = 0
        self._body = bytearray()  # not a list of pieces: chunks may be tiny, and there may be millions of them
        self._announced = 0
        self.done = False

    @property
    def body(self) -> bytes:
        return bytes(self._body)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return len(self._body)

    def feed(self, data: bytes, at: int = 0) -> int:
        """Use `data` from `at` on; returns where it stopped. Raises MalformedRequest, PayloadTooLarge."""
        while at < len(data) and not self.done:
            if self._missing:
                piece = data[at : at + self._missing]
                self._body += piece
                self._missing -= len(piece)
                at += len(piece)
                continue
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end + 1
            self._line += data[at:stop]
            at = stop
            if len(self._line) > MAX_LINE_BYTES:
                raise MalformedRequest(f"a line of a chunked body is over {MAX_LINE_BYTES} bytes")
            if end >= 0:
                line, self._line = self._line, b""
                if not line.endswith(b"\r\n"):
                    raise MalformedRequest("a line of a chunked body ends without CRLF")
                self._on_line(line[:-2])
        return at

    def _size_line(self, line: bytes) -> None:
        match = _SIZE_LINE.match(line)
        if match is None:
            raise MalformedRequest(f"not the size of a chunk: {line[:40]!r}")
        self._missing = int(match[1], 16)
        self._announced += self._missing
        if self._announced > self._max_bytes:
            raise PayloadTooLarge(f"the body is over {self._max_bytes} bytes")
        self._on_line = self._chunk_end if self._missing else self._trailer_line

    def _chunk_end(self, line: bytes) -> None:
        if line:
            raise MalformedRequest("a chunk is longer than its size line says")
        self._on_line = self._size_line

    def _trailer_line(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise MalformedRequest(f"the trailers of a chunked body are over {MAX_TRAILER_BYTES} bytes")
        self.done = not line
