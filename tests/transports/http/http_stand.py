"""What tests of the HTTP door stand on: a door over a StubService on a loop of its own, and a client of raw bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import uvloop

from slipway.infer.guard import UNGUARDED, Guard
from slipway.spec.serve import Doors
from slipway.testing.service import StubService
from slipway.transports.http.exchange import Exchange
from slipway.transports.http.server import HttpDoor, open_http_door
from slipway.transports.http.v2 import OpenInference

WAIT_S = 10.0
T = TypeVar("T")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's, after a check that this is how errors look."""
        assert self.headers["content-type"] == "application/json"
        content = self.json
        assert content.keys() <= {"error", "code", "correlation"}
        assert content["error"]
        assert "Traceback" not in content["error"]
        return str(content["code"])


class Client:
    """One connection. Reads answers strictly, so that a wrong length or order is noticed."""

    def __init__(self, port: int, *, receive_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, to_head: bool = False) -> Answer:
        """The next one; `to_head`: its request was HEAD, so that no body follows."""
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            assert name == name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        length = 0 if to_head or status in ("100", "204") else int(headers["content-length"])
        while len(self._rest) < length:
            self._receive()
        body, self._rest = self._rest[:length], self._rest[length:]
        return Answer(int(status), headers, body)

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer(to_head=data.startswith(b"HEAD"))

    def _receive(self) -> None:
        data = self.socket.recv(2**16)
        if not data:
            raise EOFError(f"closed by the server after {self._rest[:100]!r}")
        self._rest += data

    def is_closed(self) -> bool:
        """Nothing more comes, and the server's side of the connection ends (within the time that is waited)."""
        assert self._rest == b""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def is_open(self) -> bool:
        return self.ask(get("/v2/health/live")).status == 200

    def close(self) -> None:
        self.socket.close()


class Stand:
    """An open door. `service` belongs to the loop's thread: change it through `do` or `set`."""

    def __init__(self, service: StubService, door: HttpDoor, loop: asyncio.AbstractEventLoop) -> None:
        self.service, self.door, self._loop = service, door, loop
        self._clients: list[Client] = []

    def client(self, **options: Any) -> Client:
        client = Client(self.door.port, **options)
        self._clients.append(client)
        return client

    def ask(self, data: bytes) -> Answer:
        """On a connection of its own."""
        client = Client(self.door.port)
        try:
            return client.ask(data)
        finally:
            client.close()

    def do(self, change: Callable[[], T]) -> T:
        """Run `change` on the loop's thread; its result."""

        async def run() -> T:
            return change()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(WAIT_S)

    def begin(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def set(self, **knobs: Any) -> None:
        self.do(lambda: [setattr(self.service, name, value) for name, value in knobs.items()])

    def until(self, true: Callable[[], object]) -> None:
        """Look on the loop's thread until it is so."""
        deadline = time.monotonic() + WAIT_S
        while not self.do(true):
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def pass_seconds(self, seconds: int) -> None:
        """Let the door believe that time has passed."""
        for _ in range(seconds):
            self.do(self.door.sweep)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.begin(self.door.close(0)).result(WAIT_S)


@contextmanager
def stand(app: Callable[[Exchange], None] | None = None, *, guard: Guard = UNGUARDED, **limits: Any) -> Iterator[Stand]:
    """A door with these limits before a StubService with this guard, or before another application."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> Stand:
        service = StubService()
        service.guard = guard
        called = app or OpenInference(service)
        door = await open_http_door(called, host="127.0.0.1", port=0, limits=Doors(**limits))
        return Stand(service, door, loop)

    try:
        opened = asyncio.run_coroutine_threadsafe(begin(), loop).result(WAIT_S)
        try:
            yield opened
        finally:
            opened.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "host: h", *headers, "", ""]).encode("latin-1")


def post(path: str, body: bytes | object = b"", *headers: str) -> bytes:
    """`body`: bytes, or what becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return get(path, *headers, f"content-length: {len(data)}", method="POST") + data


AFFINE = "/v2/models/affine/infer"
ECHO = "/v2/models/echo/infer"


def affine(*numbers: float, **more: Any) -> dict[str, Any]:
    """A request to y = 2x + 1."""
    numbers = numbers or (1, 2, 3, 4)
    shape = [len(numbers) // 4, 4]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": list(numbers)}]} | more


def infer(*numbers: float, headers: tuple[str, ...] = (), **more: Any) -> bytes:
    return post(AFFINE, affine(*numbers, **more), *headers)


def result(answer: Answer) -> list[float]:
    assert answer.status == 200, answer
    data: list[float] = answer.json["outputs"][0]["data"]
    return data


def tensor(datatype: str, shape: list[int], data: Any, name: str = "x", **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data} | more
