"""A whole controller in this process, with a real store on disk and a supervisor that runs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from slipway.clock import SystemClock
from slipway.controller.core import Controller
from slipway.spec.access import Caller
from slipway.spec.reading import spec_from_json
from slipway.spec.serve import ModelSpec
from slipway.spec.server import ServerConfig
from slipway.testing.supervisor import FakeSupervisor
from slipway.wire.messages import BeginController

OWNER = Caller("owner", "owner", "owner", ("admin",))
SOMEBODY = Caller("key", "ci", "key:abcdefgh", ("deploy:*",))
PATIENCE_S = 10.0


def begin_at(
    folder: Path,
    *,
    config: ServerConfig | None = None,
    adopt: list[ModelSpec] | None = None,
    database: str = "",
    admin: str = "http://127.0.0.1:8082",
) -> BeginController:
    folder.mkdir(parents=True, exist_ok=True)
    return BeginController(
        config=config or ServerConfig(),
        data_dir=str(folder),
        database=database or f"sqlite:///{folder / 'slipway.db'}",
        artifacts=str(folder / "artifacts"),
        addresses=("http://127.0.0.1:8080", "127.0.0.1:8081", admin),
        owner_hash="0" * 64,
        supervisor_pid=1,
        adopt=adopt or [],
    )


class Stage:
    """`commands` and what is behind them; `fake` sees the plans."""

    def __init__(self, begin: BeginController, fake: FakeSupervisor) -> None:
        self.fake = fake
        self.controller = Controller(begin, say=fake.heard, clock=SystemClock())
        self.commands = self.controller.commands
        self.running = asyncio.ensure_future(self.controller.run())

    @property
    def stands_by(self) -> bool:
        return self.controller.leadership.standing_by and self.controller.world.known

    async def until(self, found: Callable[[], Any]) -> Any:
        """Wait for it, and give it back."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            if self.running.done():
                self.running.result()
            value = found()
            if value:
                return value
            await asyncio.sleep(0.005)
        raise AssertionError("it did not come to be")

    async def eventually(self, ask: Callable[[], Any], wanted: Any) -> None:
        """`ask()`, awaited, comes to be `wanted`."""
        ends = time.monotonic() + PATIENCE_S
        while (found := await ask()) != wanted:
            assert time.monotonic() < ends, found
            await asyncio.sleep(0.005)

    async def settled(self, name: str, *, state: str = "ready") -> Any:
        """The deployment, once it is in this state."""
        ends = time.monotonic() + PATIENCE_S
        while True:
            found = await self.commands.deployment(name)
            if found.state == state:
                return found
            assert time.monotonic() < ends, f"{name} is {found.state}: {found.reason}"
            await asyncio.sleep(0.005)

    async def kinds(self, name: str = "") -> list[str]:
        return [event.kind for event in await self.commands.events(deployment=name, limit=1000)]

    async def crash(self) -> None:
        """As kill -9 would: nothing is written or given back."""
        self.fake.detach()
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running
        self.controller.fetcher.close()
        self.controller.store.close()


@contextlib.asynccontextmanager
async def stage(begin: BeginController, fake: FakeSupervisor | None = None) -> AsyncIterator[Stage]:
    fake = fake or FakeSupervisor()
    made = Stage(begin, fake)
    fake.attach(made.controller.heard)
    try:
        await made.until(lambda: made.controller.leadership.leading or made.stands_by)
        yield made
    finally:
        if not made.running.done():
            fake.detach()
            await made.controller.close()
            made.running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await made.running


def spec(name: str = "iris", **fields: Any) -> Any:
    return spec_from_json({"apiVersion": "slipway.dev/v1", "name": name, "model": "package.module:Model", **fields})
