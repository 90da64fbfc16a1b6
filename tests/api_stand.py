"""A real controller (real decisions, SQLite, artifacts on disk) with its API on a real port, and a supervisor that runs
nothing. It lives in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from slipway.auth.keys import hash_key, new_owner_key
from slipway.clock import SystemClock
from slipway.controller.api.app import make_app
from slipway.controller.api.listening import serve
from slipway.controller.core import Controller
from slipway.spec.server import Authentication, ServerConfig
from slipway.testing.supervisor import FakeSupervisor
from slipway.transports.tls import TlsFiles
from slipway.wire.messages import BeginController

T = TypeVar("T")

READY_S = 20.0


class Stand:
    """`do` runs a coroutine on the controller's loop."""

    def __init__(self, folder: Path, *, required: bool | None, port: int, config: dict[str, Any]) -> None:
        self.folder = folder
        self.owner_key = new_owner_key()
        self.supervisor = FakeSupervisor()
        self._required = required
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._config = config
        scheme = "http" if config.get("tls") is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        owner = {"authorization": f"Bearer {self.owner_key}"}
        self.web = httpx.Client(base_url=self.url, headers=owner, timeout=READY_S)
        self.failure: BaseException | None = None
        self.controller: Controller
        self.app: Any

    def begin(self) -> BeginController:
        data = self.folder / "data"
        data.mkdir(exist_ok=True, mode=0o700)
        return BeginController(
            config=ServerConfig(**({"auth": Authentication(required=self._required)} | self._config)),
            data_dir=str(data),
            database=f"sqlite:///{data / 'slipway.db'}",
            artifacts=str(data / "artifacts"),
            addresses=("http://127.0.0.1:8080", "127.0.0.1:8081", self.url),
            owner_hash=hash_key(self.owner_key),
            supervisor_pid=1,
        )

    async def live(self) -> None:
        controller = self.controller = Controller(self.begin(), say=self.supervisor.heard, clock=SystemClock())
        self.app = make_app(controller.commands, seal_key=b"k" * 32, own_hosts=["slipway.example"])
        deciding = asyncio.ensure_future(controller.run())
        self.supervisor.attach(controller.heard)
        tls = self._config.get("tls")
        files = None if tls is None else TlsFiles(tls)
        serving = asyncio.ensure_future(serve(self.app, listeners=[self._listener], stop=self._stop, tls=files))
        self._up.set()
        await asyncio.wait([deciding, serving], return_when=asyncio.FIRST_COMPLETED)
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
        await serving
        self.supervisor.detach()
        await controller.close()

    def run(self) -> None:
        try:
            self._loop.run_until_complete(self.live())
        except BaseException as error:
            self.failure = error
        finally:
            self._up.set()
            self._listener.close()
            self._loop.close()

    def wait_ready(self) -> None:
        assert self._up.wait(READY_S)
        assert self.failure is None, self.failure
        wait_for(lambda: self.controller.leadership.leading and self.controller.world.known)

    def deploy(self, name: str, **spec: Any) -> dict[str, Any]:
        """As its owner, of a model file that nobody looks into."""
        model = self.folder / f"{name}.onnx"
        if not model.exists():
            model.write_bytes(name.encode())
        answer = self.web.put(f"/api/v1/deployments/{name}", json={"spec": {"name": name, "model": str(model)} | spec})
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait_live(self, name: str, version: str) -> None:
        wait_for(lambda: self.web.get(f"/api/v1/deployments/{name}").json()["live"] == version)

    def key(self, name: str, *scopes: str) -> str:
        """A new API key, as its owner makes one."""
        answer = self.web.post("/api/v1/keys", json={"name": name, "scopes": list(scopes)})
        assert answer.status_code == 201, answer.text
        secret: str = answer.json()["secret"]
        return secret

    def do(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(READY_S)

    def call(self, act: Callable[[], T]) -> T:
        async def work() -> T:
            return act()

        return self.do(work)

    def end(self) -> None:
        self.web.close()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)


@contextlib.contextmanager
def standing(folder: Path, *, required: bool | None = None, port: int = 0, **config: Any) -> Iterator[Stand]:
    """`config`: fields of ServerConfig."""
    stand = Stand(folder, required=required, port=port, config=config)
    thread = threading.Thread(target=stand.run, name="controller")
    thread.start()
    try:
        stand.wait_ready()
        yield stand
    finally:
        stand.end()
        thread.join(READY_S)
        assert not thread.is_alive()
    assert stand.failure is None, stand.failure


def wait_for(is_so: Callable[[], object], *, timeout_s: float = READY_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
