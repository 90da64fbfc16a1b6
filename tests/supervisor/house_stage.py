"""A house whose children are no processes: a test plays the workers and gateways."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from slipway.infer.runtime import ReplicaFacts
from slipway.infer.signature import Signature, TensorSpec
from slipway.spec.resources import Addresses
from slipway.spec.serve import Doors, ModelSpec, ReplicaSpec, ServerSpec
from slipway.spec.server import ServerConfig
from slipway.supervisor.data import DataFolder
from slipway.supervisor.folder import RuntimeFolder
from slipway.supervisor.house import House
from slipway.supervisor.observed import observe
from slipway.testing.clock import FakeClock
from slipway.testing.launcher import StubChild, StubLauncher
from slipway.wire.messages import (
    Beat,
    BeginWorker,
    ControlMessage,
    Observed,
    Ready,
    RepositoryChanged,
    Routes,
    Serving,
    Snapshot,
    SnapshotRequest,
    VersionRoutes,
)

FACTS = ReplicaFacts(
    signature=Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),)),
    platform="stub",
    sandbox="none",
)
IDLE = Beat(busy_s=0.0, batches=0, rss_bytes=1000, cpu_s=0.25)


class StubWatcher:
    def __init__(self) -> None:
        self.stages: list[dict[str, str]] = []
        self.addresses: Addresses | None = None
        self.drains = 0

    def loading(self, stages: dict[str, str]) -> None:
        self.stages.append(stages)

    def ready(self, addresses: Addresses, versions: list[VersionRoutes], *, closed: bool) -> None:
        del versions
        self.closed = closed
        self.addresses = addresses

    def draining(self) -> None:
        self.drains += 1

    def close(self) -> None:
        pass


class Stage:
    """`house` with its `children` on stage; made inside a running loop."""

    def __init__(self, folder: RuntimeFolder, *, spec: ServerSpec, remembers: bool = False) -> None:
        self.clock = FakeClock()
        self.launcher = StubLauncher()
        self.watcher = StubWatcher()
        self.folder = folder
        self.data = DataFolder(folder.path / "data")
        self.house = House(
            spec=spec,
            config=ServerConfig(),
            remembers=remembers,
            data=self.data,
            listeners=(),
            folder=folder,
            launcher=self.launcher,
            clock=self.clock,
            watcher=self.watcher,
        )
        self._heard: dict[int, list[ControlMessage]] = {}

    def step(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.house.repository.step()
        self.house.gateways.step()

    def seen(self) -> Observed:
        return observe(self.house.repository, self.house.gateways, draining=False, now=self.clock.now())

    def children(self, kind: str) -> list[StubChild]:
        """Those that run: `worker`, `gateway` or `controller`."""
        return [child for child in self.launcher.running if f" {kind} " in f"{child.plan.title} "]

    async def until(self, condition: Callable[[], object], *, pass_s: float = 0.0) -> None:
        """Turn the loop and the house until it holds; `pass_s` of the clock goes by with each turn."""
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            self.step(pass_s)
            await asyncio.sleep(0.001)

    async def ready(self, child: StubChild) -> None:
        """Play a worker or gateway that has got ready."""
        if "controller" in child.plan.title:
            child.say(Ready())
        elif "worker" in child.plan.title:
            child.say(Ready(FACTS))
            child.say(IDLE)
        else:
            child.say(Ready(http_port=1, grpc_port=2))
            child.say(Serving(True))
        posts = [gateway.post for gateway in self.house.gateways.all]
        posts += [self.house.controller.post]
        posts += [replica.post for load in self.house.repository.loads() for replica in load.replicas]
        await self.until(lambda: any(post.pid == child.pid and post.place.state == "ready" for post in posts))

    async def all_ready(self) -> None:
        self.step()
        for child in self.launcher.running:
            await self.ready(child)

    def heard(self, child: StubChild) -> list[ControlMessage]:
        """Everything that was said to it so far."""
        heard = self._heard.setdefault(child.pid, [])
        while True:
            try:
                message = child.hear(timeout_s=0.01)
            except TimeoutError:
                return heard
            if message is None:
                return heard
            heard.append(message)

    def routes(self, child: StubChild) -> Routes:
        """The last that a gateway was told."""
        return [message for message in self.heard(child) if isinstance(message, Routes)][-1]

    def begin(self, child: StubChild) -> BeginWorker:
        first = self.heard(child)[0]
        assert isinstance(first, BeginWorker)
        return first


def model_of(name: str = "iris", *, replicas: int = 1, **more: Any) -> ModelSpec:
    return msgspec.structs.replace(ModelSpec(name, "/nowhere", replicas=ReplicaSpec(count=replicas)), **more)


@contextlib.asynccontextmanager
async def stage_of(*models: ModelSpec, gateways: int = 1, remembers: bool = False, **more: Any) -> AsyncIterator[Stage]:
    """All children are ended at the end."""
    doors = Doors(http_port=-1, grpc_port=-1, admin_port=-1)
    spec = msgspec.structs.replace(ServerSpec(models=models, doors=doors, gateways=gateways), **more)
    folder = RuntimeFolder()
    stage = Stage(folder, spec=spec, remembers=remembers)
    try:
        yield stage
    finally:
        stage.house.gateways.kill()
        stage.house.repository.kill()
        stage.step()
        stage.house.controller.kill()
        stage.house.controller.post.step()
        stage.data.release()
        folder.remove()


def run(play: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), timeout=15))


async def alive(stage: Stage) -> tuple[asyncio.Task[int], StubChild, StubChild]:
    """A house that serves: its task, its gateway, its worker."""
    living = asyncio.create_task(stage.house.live())
    await stage.until(lambda: stage.children("gateway"))
    (worker,), (gateway,) = stage.children("worker"), stage.children("gateway")
    await stage.ready(worker)
    await stage.ready(gateway)
    await stage.until(lambda: stage.watcher.addresses is not None)
    return living, gateway, worker


async def finish(stage: Stage, gateway: StubChild, leaving: list[StubChild]) -> None:
    """Play a gateway that answers and workers that idle, until those that leave are gone and the change is told."""

    before = len(stage.heard(gateway))

    def turn() -> bool:
        for child in stage.children("worker"):
            child.say(IDLE)
        told = any(isinstance(message, RepositoryChanged) for message in stage.heard(gateway)[before:])
        return told and not any(child.running for child in leaving)

    await answer_questions(stage, gateway, turn)


async def answer_questions(stage: Stage, gateway: StubChild, until: Callable[[], bool]) -> None:
    """Play a gateway that says its numbers."""

    def turn() -> bool:
        for question in [message for message in stage.heard(gateway) if isinstance(message, SnapshotRequest)]:
            gateway.say(Snapshot(question.number, [], []))
        return until()

    await stage.until(turn, pass_s=0.01)
