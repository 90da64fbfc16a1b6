"""The supervisor's end of a child's control line: frames in and out on the event loop, without tasks."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import msgspec

from slipway.wire.control import decode_control, encode_control
from slipway.wire.framing import FrameReader, WireError
from slipway.wire.messages import ControlMessage

MAX_UNSENT_BYTES = 16 * 2**20
"""A child that leaves more than this unread is no child any more."""

logger = logging.getLogger(__name__)


class Line:
    """`heard` is called with each message; `lost` once, when the other end is gone or speaks nonsense."""

    def __init__(
        self, sock: socket.socket, *, heard: Callable[[ControlMessage], None], lost: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._heard = heard
        self._lost = lost
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)
        self._open = True

    def say(self, message: ControlMessage) -> None:
        """Send now or as soon as the child reads. Nothing happens when it is gone: `lost` tells of that."""
        if not self._open:
            return
        waited = bool(self._unsent)
        self._unsent += encode_control(message)
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._hang_up()
        elif not waited:
            self._write()
            if self._unsent and self._open:
                self._loop.add_writer(self._sock, self._write)

    def drain(self) -> None:
        """Hear what is left of a child that has exited."""
        while self._open and self._read():
            pass

    def close(self) -> None:
        """Stop listening; the socket itself is the child's to close. `lost` is not called any more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self._hang_up()
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._sock)

    def _read(self) -> bool:
        """True where something came and more may follow."""
        try:
            data = self._sock.recv(262_144)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return False
        try:
            for head, _ in self._reader.feed(data):
                message = decode_control(head)
                if self._open:  # an earlier message of the same read may have closed it
                    self._heard(message)
        except (WireError, msgspec.MsgspecError) as error:
            logger.error("a child speaks another language: %s", error)
            self._hang_up()
        return True

    def _hang_up(self) -> None:
        if self._open:
            self.close()
            self._lost()
