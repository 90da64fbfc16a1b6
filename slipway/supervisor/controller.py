"""The controller of this server: kept alive, shown what runs, and obeyed.

What it said last stays true while it is dead: traffic and restarts go on, and its successor finds everything as it
was left.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from slipway.clock import Clock
from slipway.errors import SetupError, SlipwayError
from slipway.launchers.launcher import ChildPlan, Launcher
from slipway.spec.access import Access
from slipway.spec.resources import Addresses
from slipway.spec.serve import ServerSpec
from slipway.spec.server import ServerConfig
from slipway.supervisor.place import READY, Limits, Place
from slipway.supervisor.post import Post
from slipway.supervisor.version import ERRORS
from slipway.wire.messages import (
    AccessSeen,
    Beat,
    BeginController,
    ControlMessage,
    Metrics,
    MetricsRequest,
    Observed,
    Plan,
    Ready,
    Series,
)

CONTROLLER_MODULE = "slipway.controller"
LIMITS = Limits(startup_s=60.0, hang_s=20.0)
SAY_AFTER_S = 0.02
"""Changes come in bursts; one observation tells of all of them."""
SAY_EVERY_S = 2.0


class Controller:
    """`settled` gives None when it was ready once, or the error of its first start. `observe`: what runs now."""

    def __init__(
        self,
        *,
        begin: BeginController,
        listeners: tuple[socket.socket, ...],
        launcher: Launcher,
        clock: Clock,
        observe: Callable[[], Observed],
        follow: Callable[[Plan], None],
        let_in: Callable[[Access], None],
        metrics: Callable[[int], None],
    ) -> None:
        self.begin = begin
        self._listeners = listeners
        self._clock = clock
        self._observe = observe
        self._follow = follow
        self._let_in = let_in
        self._metrics = metrics
        self._due: asyncio.TimerHandle | None = None
        self._said_last = 0.0
        self._past_cpu_s = 0.0
        self.beat = Beat(0.0, 0, 0, 0.0)
        self.settled: asyncio.Future[SlipwayError | None] = asyncio.get_running_loop().create_future()
        self.post = Post(
            name="controller",
            place=Place(limits=LIMITS),
            launcher=launcher,
            clock=clock,
            plan=self._plan,
            begin=lambda _: self.begin,
            heard=self._heard,
            changed=self._changed,
        )

    @property
    def ready(self) -> bool:
        return self.post.place.state == READY

    @property
    def cpu_s(self) -> float:
        return self._past_cpu_s + self.beat.cpu_s

    def step(self) -> None:
        self.post.step()
        if self.ready and self._clock.now() - self._said_last >= SAY_EVERY_S:
            self._say()

    def moved(self) -> None:
        """Something that it should see has changed."""
        if self.ready and self._due is None:
            self._due = asyncio.get_running_loop().call_later(SAY_AFTER_S, self._say)

    def tell_metrics(self, number: int, series: list[Series]) -> None:
        self.post.say(Metrics(number, series))

    def forward(self, seen: AccessSeen) -> None:
        self.post.say(seen)

    def retire(self) -> None:
        self.post.retire(patience_s=LIMITS.stop_s)

    def kill(self) -> None:
        self.post.kill()

    def _say(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._said_last = self._clock.now()
        self.post.say(self._observe())

    def _plan(self) -> ChildPlan:
        self._past_cpu_s += self.beat.cpu_s
        self.beat = Beat(0.0, 0, 0, 0.0)
        return ChildPlan(module=CONTROLLER_MODULE, title="slipway: controller", listeners=self._listeners)

    def _heard(self, message: ControlMessage) -> None:
        if isinstance(message, Ready):
            self._say()  # what runs already comes before anything that it might decide
        elif isinstance(message, Beat):
            self.beat = message
            self.post.place.beat(busy_s=message.busy_s, rss_bytes=message.rss_bytes)
        elif isinstance(message, Plan):
            self._follow(message)
        elif isinstance(message, Access):
            self._let_in(message)
        elif isinstance(message, MetricsRequest):
            self._metrics(message.number)

    def _changed(self) -> None:
        if self.settled.done():
            return
        place = self.post.place
        if self.ready:
            self.settled.set_result(None)
        elif place.generation == 1 and place.last is not None and not place.ever_ready:
            kind = ERRORS.get(place.last.code, SetupError) if place.last.reason == "load" else SetupError
            kind = kind if issubclass(kind, SetupError) else SetupError
            self.settled.set_result(kind(f"controller: {place.last.words}"))


def begin_of(
    spec: ServerSpec, config: ServerConfig, *, data: Path, owner_hash: str, addresses: Addresses
) -> BeginController:
    """What each controller of a server hears first. `data`: the data directory."""
    return BeginController(
        config=config,
        data_dir=str(data),
        database=config.database or f"sqlite:///{data / 'slipway.db'}",
        artifacts=config.artifacts or str(data / "artifacts"),
        addresses=(addresses.http, addresses.grpc, addresses.admin),
        owner_hash=owner_hash,
        supervisor_pid=os.getpid(),
        adopt=list(spec.models),
        log_json=spec.log_json,
        log_level=spec.log_level,
    )
