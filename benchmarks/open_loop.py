"""Open-loop load: requests leave when they are due, whether or not the server has answered the earlier ones.

A process of its own (`python -m benchmarks.open_loop`). Latency counts from the moment a request was due, so a
server that stalls pays for every request that should have been sent meanwhile (no coordinated omission). If all
connections are busy the request waits for one, and that wait counts too. What the generator itself came late is
reported apart (`late_p99_us`): where it is large, the figure says more about this program than about the server.
"""

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import os
import struct
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.arrivals import poisson
from benchmarks.quantiles import quantiles_us

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_TIMER_ABSTIME = 1
_DRAIN_S = 5.0


class Alarm:
    """A timer of nanoseconds for the loop: its own timers have only milliseconds, dozens of arrivals long."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, at_ns: int) -> None:
        """`at_ns` on the monotonic clock; a time that has passed rings at once."""
        spec = struct.pack("qqqq", 0, 0, *divmod(max(at_ns, 1), 1_000_000_000))
        self._libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, spec, None)

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)


def whole_answer(data: bytes | bytearray) -> int | None:
    """Length of the HTTP/1.1 answer at the start of `data`, or None while it is not all there."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    lowered = bytes(data[:head]).lower()
    at = lowered.find(b"content-length:")
    if at < 0:
        raise ValueError("the answer has no content-length")
    end = lowered.find(b"\r", at)
    length = head + 4 + int(lowered[at + 15 : end if end >= 0 else None])
    return length if len(data) >= length else None


class Connection(asyncio.Protocol):
    def __init__(self, run: "Run") -> None:
        self.run = run
        self.due_ns = 0
        self.busy = False
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        if whole_answer(data) is None:
            self.buffer = data
            return
        self.buffer = b""
        self.busy = False
        self.run.answered(self, good=data.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, _error: Exception | None) -> None:
        self.run.lost(self)

    def send(self, payload: bytes, due_ns: int) -> None:
        self.due_ns, self.busy = due_ns, True
        self.transport.write(payload)  # type: ignore[union-attr]


class Run:
    """The state of one run; everything happens in callbacks, a task for each request would be too slow."""

    def __init__(self, payload: bytes, due_s: np.ndarray) -> None:
        self.payload = payload
        self.due_s = due_s
        self.due_ns: list[int] = []
        self.next = 0
        self.connections: list[Connection] = []
        self.idle: list[Connection] = []
        self.waiting: deque[int] = deque()
        self.latencies_ns: list[int] = []
        self.late_ns: list[int] = []
        self.errors = 0
        self.finished = asyncio.Event()
        self.alarm = Alarm()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        begin_ns = time.monotonic_ns() + 50_000_000
        self.due_ns = (begin_ns + self.due_s * 1e9).astype(np.int64).tolist()
        loop.add_reader(self.alarm.fd, self._ring)
        self.alarm.set(self.due_ns[0])

    def _ring(self) -> None:
        self.alarm.read()
        due, count = self.due_ns, len(self.due_ns)
        now_ns = time.monotonic_ns()
        while self.next < count and due[self.next] <= now_ns:
            self.late_ns.append(now_ns - due[self.next])
            if self.idle:
                self.idle.pop().send(self.payload, due[self.next])
            else:
                self.waiting.append(due[self.next])
            self.next += 1
            now_ns = time.monotonic_ns()
        if self.next < count:
            self.alarm.set(due[self.next])

    def answered(self, connection: Connection, *, good: bool) -> None:
        self.latencies_ns.append(time.monotonic_ns() - connection.due_ns)
        self.errors += not good
        if self.waiting:
            connection.send(self.payload, self.waiting.popleft())
        else:
            self.idle.append(connection)
        self._finish_if_done()

    def lost(self, connection: Connection) -> None:
        """A server that closes a connection loses the request on it; the connection is not opened again."""
        if connection.busy:
            connection.busy = False
            self.errors += 1
            self.latencies_ns.append(time.monotonic_ns() - connection.due_ns)
            self._finish_if_done()
        elif connection in self.idle:
            self.idle.remove(connection)

    def unanswered(self) -> list[int]:
        """Due times of the requests that never came back: on a connection, waiting for one, or not even sent."""
        on_the_way = [connection.due_ns for connection in self.connections if connection.busy]
        return on_the_way + list(self.waiting) + self.due_ns[self.next :]

    def _finish_if_done(self) -> None:
        if len(self.latencies_ns) == len(self.due_ns):
            self.finished.set()


async def _run(options: argparse.Namespace) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    due_s = poisson(rate=options.rate, seconds=options.seconds, seed=options.seed)
    run = Run(options.request.read_bytes(), due_s)
    for _ in range(options.connections):
        _, connection = await loop.create_connection(lambda: Connection(run), "127.0.0.1", options.port)
        run.connections.append(connection)
    run.idle += run.connections
    gc.disable()  # its pauses would be counted as the server's
    run.start(loop)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(run.finished.wait(), options.seconds + _DRAIN_S)
    # What never came back counts as an error that took until now: leaving it out would flatter.
    now_ns, unanswered = time.monotonic_ns(), run.unanswered()
    latencies_us = np.array(run.latencies_ns + [now_ns - due for due in unanswered]) / 1e3
    p50, p99, p999 = quantiles_us(latencies_us, (0.5, 0.99, 0.999))
    return {
        "asked_rate": options.rate,
        "sent": len(due_s),
        "errors": run.errors + len(unanswered),
        "p50_us": p50,
        "p99_us": p99,
        "p999_us": p999,
        "late_p99_us": quantiles_us(np.array(run.late_ns) / 1e3, (0.99,))[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Poisson load on one HTTP door of this machine; prints JSON.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True, help="file with the whole HTTP/1.1 request")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    json.dump(uvloop.run(_run(parser.parse_args())), sys.stdout)


if __name__ == "__main__":
    main()
