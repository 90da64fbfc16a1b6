"""The serving loop: batches in from the gateways that are connected, through the runtime, answers out.

One thread, no tasks, no locks: a worker computes one batch at a time anyway, and a tiny model takes less time than a
task switch. Links are served in turn, one batch each, in the order of each link's frames. Nothing a gateway does can
hold up another: what is cut or not taken waits with its link, while the loop goes on.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import re
import select
import signal
import socket
import time
from typing import NoReturn

import msgspec

from slipway.infer.runtime import Runtime
from slipway.infer.tensor import Buffer
from slipway.launchers.launcher import EXIT_OUT_OF_MEMORY
from slipway.launchers.memory import Memory
from slipway.logs import fields, new_correlation
from slipway.wire.framing import WireError, encode, heads_of, tensors_of
from slipway.wire.messages import Failed, Ran, Run
from slipway.wire.source import FrameSink, FrameSource
from slipway.worker.failure import code_of, ran_out_of_memory, words_of
from slipway.worker.outputs import check_outputs
from slipway.worker.pulse import Pulse
from slipway.worker.sandbox import SandboxPlan

SEND_BUFFER_BYTES = 4 * 2**20
MAX_STRANGERS = 16
"""Links that have not said their token yet; a gateway does at once."""
FAREWELL_S = 5.0
"""How long a gateway may take to read its last answer when the worker ends."""

_ALLOCATION = re.compile(r"bad.?alloc|allocat|out of memory", re.IGNORECASE)
_decode_run = msgspec.msgpack.Decoder(Run).decode

logger = logging.getLogger(__name__)


class Desk:
    """One batch: bytes of a frame in, buffers of its answer out. Ends the process when its memory is used up."""

    def __init__(self, runtime: Runtime, *, pulse: Pulse, memory: Memory, plan: SandboxPlan) -> None:
        self._predict = runtime.predict
        self._signature = runtime.signature
        self._pulse = pulse
        self._memory = memory
        self._plan = plan
        self._ballast = bytearray(4 * 2**20)  # to have something to write the last words with

    def answer(self, head: bytes, body: Buffer) -> list[Buffer]:
        """Raises WireError for a frame that is no Run; whatever the model does becomes an answer."""
        try:
            run = _decode_run(head)
        except msgspec.MsgspecError as error:
            raise WireError(f"not a Run: {error}") from error
        tensors = tensors_of(run.tensors, body)
        pulse = self._pulse
        pulse.batches += 1
        began_ns = time.monotonic_ns()
        pulse.since = began_ns / 1e9
        try:
            outputs = self._predict(tensors)
            compute_ns = time.monotonic_ns() - began_ns
            check_outputs(self._signature, outputs, tensors[0].shape[0] if tensors and tensors[0].shape else 1)
            return encode(Ran(run.batch, heads_of(outputs), compute_ns), [tensor.data for tensor in outputs])
        except BaseException as error:  # SystemExit too: a model does not decide when its worker ends
            return encode(self._failure(run.batch, error))
        finally:
            pulse.since = 0.0
            pulse.computed_s += (time.monotonic_ns() - began_ns) / 1e9

    def _failure(self, batch: int, error: BaseException) -> Failed:
        if self._memory_is_up(error):
            self.die()
        correlation = new_correlation()
        code = code_of(error)
        logger.error("the model failed on a batch", exc_info=error, extra=fields(correlation=correlation, code=code))
        return Failed(batch, code, words_of(error, self._plan), correlation)

    def _memory_is_up(self, error: BaseException) -> bool:
        """Native code reports a failed allocation in words; they count where little is left in fact."""
        if ran_out_of_memory(error):
            return True
        limit = self._plan.memory_bytes
        return bool(limit and _ALLOCATION.search(str(error)) and self._memory.data_bytes() > 0.8 * limit)

    def die(self) -> NoReturn:
        """At once and without an answer: after a failed allocation nothing that this process says can be trusted."""
        self._ballast.clear()
        with contextlib.suppress(BaseException):
            logger.critical(
                "out of memory, this worker ends; what it held is run elsewhere",
                extra=fields(data_mb=self._memory.data_bytes() >> 20, limit_mb=self._plan.memory_bytes >> 20),
            )
        os._exit(EXIT_OUT_OF_MEMORY)


class Link:
    """A gateway's connection. `shown`: what came of its token; while it is in `strangers`, nothing else is read."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.shown = b""
        self.source = FrameSource(connection)
        self.sink = FrameSink(connection)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


class ServingLoop:
    """`run` returns after `stop`, which a signal handler may call: the batch at hand is finished and answered. `token`:
    what each link has to begin with, '' for nothing."""

    def __init__(self, desk: Desk, listener: socket.socket, *, token: str = "") -> None:
        listener.setblocking(False)
        self._token = token.encode()
        self._strangers: dict[Link, None] = {}  # by age
        self._desk = desk
        self._listener = listener
        self._links: dict[int, Link] = {}
        self._unread: set[Link] = set()  # with frames that were received and not yet served
        self._ending = False
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._epoll.register(self._woken.fileno(), select.EPOLLIN)

    def stop_on_signal(self, number: int) -> None:
        """Call from the main thread. The wake-up descriptor ends a wait that the signal came just before."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(number, lambda *_: self.stop())

    def stop(self) -> None:
        self._ending = True
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")

    def run(self) -> None:
        try:
            self._serve()
        except MemoryError:  # there was no room for a batch that came
            self._desk.die()
        self._say_farewell()

    def _serve(self) -> None:
        poll, links, unread = self._epoll.poll, self._links, self._unread
        while not self._ending:
            for fd, events in poll(0 if unread else -1):
                if fd in links:
                    self._step(links[fd], events)
                    if self._ending:
                        break
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd == self._woken.fileno():
                    self._woken.recv(4096)
            for link in tuple(unread):
                if not self._ending:
                    self._step(link, 0)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it was gone again, or we are out of descriptors: those who are here go on
            return
        link = self._links[connection.fileno()] = Link(connection)
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        if self._token:
            self._strangers[link] = None
            if len(self._strangers) > MAX_STRANGERS:
                self._forget(next(iter(self._strangers)))

    def _meet(self, link: Link) -> None:
        """Hear who it is, and not a byte more."""
        said = link.connection.recv(len(self._token) - len(link.shown))
        link.shown += said
        if said and len(link.shown) < len(self._token):
            return
        if hmac.compare_digest(link.shown, self._token):
            del self._strangers[link]
        else:
            logger.warning("somebody who is no gateway connected, hanging up")
            self._forget(link)

    def _step(self, link: Link, events: int) -> None:
        """Serve at most one batch of a link."""
        source, sink = link.source, link.sink
        try:
            if events & select.EPOLLHUP:
                return self._forget(link)  # gone, and with it whoever waited for what it had sent
            if link in self._strangers:
                return self._meet(link)
            if sink.unsent:
                return self._flush(link)
            frame = source.take()
            if frame is None:
                if not source.fill():
                    return self._forget(link)
                frame = source.take()
            if frame is not None:
                sink.put(self._desk.answer(*frame))
                if sink.unsent:
                    self._epoll.modify(link.connection.fileno(), select.EPOLLOUT)
        except WireError as error:
            logger.error("a gateway speaks another language, hanging up: %s", error)
            return self._forget(link)
        except OSError:
            return self._forget(link)
        if source.unread and frame is not None and not sink.unsent:
            self._unread.add(link)
        elif self._unread:
            self._unread.discard(link)
        return None

    def _flush(self, link: Link) -> None:
        """While a gateway does not take its answers, it gets no more of them: nothing piles up here."""
        link.sink.flush()
        if not link.sink.unsent:
            self._epoll.modify(link.connection.fileno(), select.EPOLLIN)
            if link.source.unread:
                self._unread.add(link)

    def _forget(self, link: Link) -> None:
        fd = link.connection.fileno()
        if self._links.pop(fd, None) is not None:
            self._unread.discard(link)
            self._strangers.pop(link, None)
            self._epoll.unregister(fd)
            link.connection.close()

    def _say_farewell(self) -> None:
        """Send the answers that are still on their way, then hang up."""
        until = time.monotonic() + FAREWELL_S
        for link in tuple(self._links.values()):
            with contextlib.suppress(OSError):
                if link.sink.unsent:
                    link.connection.settimeout(max(0.0, until - time.monotonic()))
                    for buffer in link.sink.unsent:
                        link.connection.sendall(buffer)
            link.connection.close()
        self._links.clear()
        self._listener.close()
