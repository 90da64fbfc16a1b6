"""The gateways of this server: kept alive, told the routes, asked for their numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from slipway.clock import Clock
from slipway.errors import SetupError, SlipwayError
from slipway.launchers.launcher import ChildPlan, Launcher
from slipway.spec.serve import ServerSpec
from slipway.supervisor.place import READY, Limits, Place
from slipway.supervisor.post import Post
from slipway.supervisor.tally import Tally
from slipway.supervisor.version import ERRORS
from slipway.wire.messages import (
    BeginGateway,
    ControlMessage,
    Drain,
    RepositoryChange,
    Routes,
    Serving,
    Snapshot,
    SnapshotRequest,
)

GATEWAY_MODULE = "slipway.gateway"
STARTUP_S = 60.0
HANG_S = 10.0
ASK_EVERY_S = 1.0
"""A snapshot answered is a gateway's sign of life, and keeps what a dead gateway had counted until then."""


class Gateway:
    """A post, and the numbers that its process gave last."""

    def __init__(
        self,
        *,
        number: int,
        spec: ServerSpec,
        runtime_folder: str,
        launcher: Launcher,
        clock: Clock,
        routes: Callable[[], Routes],
        asked: Callable[[Gateway, RepositoryChange], None],
        tally: Tally,
        changed: Callable[[], None],
    ) -> None:
        self.number = number
        self.last: Snapshot | None = None
        self.serving = False
        self._spec = spec
        self._runtime_folder = runtime_folder
        self._routes = routes
        self._asked = asked
        self._tally = tally
        self._past_cpu_s = 0.0
        self._waiting: dict[int, asyncio.Future[Snapshot]] = {}
        self.post = Post(
            name=f"gateway #{number}",
            place=Place(limits=Limits(startup_s=STARTUP_S, hang_s=HANG_S)),
            launcher=launcher,
            clock=clock,
            plan=self._plan,
            begin=self._begin,
            heard=self._heard,
            changed=changed,
        )

    @property
    def ready(self) -> bool:
        return self.post.place.state == READY

    @property
    def cpu_s(self) -> float:
        return self._past_cpu_s + (self.last.cpu_s if self.last else 0.0)

    @property
    def rss_bytes(self) -> int:
        return self.last.rss_bytes if self.last and self.ready else 0

    def ask(self, number: int) -> asyncio.Future[Snapshot]:
        """Its numbers now: a future that the answer to this question completes."""
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._waiting.pop(number, None))
        self.post.say(SnapshotRequest(number))
        return answer

    def _plan(self) -> ChildPlan:
        self.serving = False
        if self.last is not None:
            self._tally.keep(self.last.series)
            self._past_cpu_s, self.last = self.cpu_s, None
        for unanswered in list(self._waiting.values()):
            unanswered.cancel()
        return ChildPlan(module=GATEWAY_MODULE, title=f"slipway: {self.post.name}")

    def _begin(self, generation: int) -> ControlMessage:
        del generation
        return BeginGateway(spec=self._spec, number=self.number, runtime_folder=self._runtime_folder)

    def _heard(self, message: ControlMessage) -> None:
        if isinstance(message, Snapshot):
            self.last = message
            self.post.place.beat()
            waiting = self._waiting.pop(message.number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif isinstance(message, Serving):
            self.serving = message.ready
        elif isinstance(message, RepositoryChange):
            self._asked(self, message)


class Gateways:
    def __init__(
        self,
        *,
        spec: ServerSpec,
        runtime_folder: str,
        launcher: Launcher,
        clock: Clock,
        routes: Callable[[], Routes],
        asked: Callable[[Gateway, RepositoryChange], None],
        changed: Callable[[], None],
    ) -> None:
        self.tally = Tally()
        self._clock = clock
        self._routes = routes
        self._changed = changed
        self._asked_last = 0.0
        self._number = 0
        self._told: Routes | None = None
        self._told_to: dict[int, int] = {}
        self.settled: asyncio.Future[SlipwayError | None] = asyncio.get_running_loop().create_future()
        self.all = [
            Gateway(
                number=number,
                spec=spec,
                runtime_folder=runtime_folder,
                launcher=launcher,
                clock=clock,
                routes=routes,
                asked=asked,
                tally=self.tally,
                changed=self._gateway_changed,
            )
            for number in range(1, spec.gateways + 1)
        ]

    def step(self) -> None:
        for gateway in self.all:
            gateway.post.step()
        now = self._clock.now()
        if now - self._asked_last >= ASK_EVERY_S:
            self._asked_last = now
            self._ask()

    def publish(self) -> None:
        """Tell the routes to each gateway that does not know them yet."""
        routes = self._routes()
        if routes != self._told:
            self._told = routes
            self._told_to.clear()
        for gateway in self.all:
            generation = gateway.post.place.generation
            if gateway.post.pid and self._told_to.get(gateway.number) != generation:
                self._told_to[gateway.number] = generation
                gateway.post.say(routes)

    async def refresh(self, *, timeout_s: float) -> int:
        """Ask every gateway for its numbers; how many answered in time. The others' last ones stand in."""
        answers = self._ask()
        if not answers:
            return 0
        done, late = await asyncio.wait(answers, timeout=timeout_s)
        for answer in late:
            answer.cancel()
        return len(done)

    def retire(self, *, drain_s: float) -> None:
        for gateway in self.all:
            gateway.post.retire(patience_s=drain_s, farewell=Drain())

    def kill(self) -> None:
        for gateway in self.all:
            gateway.post.kill()

    @property
    def failed(self) -> bool:
        """One of them could not begin at the first start."""
        return self.settled.done() and self.settled.result() is not None

    @property
    def serving(self) -> bool:
        """Every gateway reaches a replica of every version that should serve."""
        return all(gateway.serving for gateway in self.all)

    @property
    def gone(self) -> bool:
        return all(gateway.post.gone for gateway in self.all)

    def _ask(self) -> list[asyncio.Future[Snapshot]]:
        self._number += 1
        return [gateway.ask(self._number) for gateway in self.all if gateway.ready]

    def _gateway_changed(self) -> None:
        if not self.settled.done():
            if all(gateway.ready for gateway in self.all):
                self.settled.set_result(None)
            for gateway in self.all:
                place = gateway.post.place
                last = None if place.ever_ready or place.generation != 1 else place.last
                if last is not None and not self.settled.done():
                    kind = ERRORS.get(last.code, SetupError) if last.reason == "load" else SetupError
                    kind = kind if issubclass(kind, SetupError) else SetupError
                    self.settled.set_result(kind(f"{gateway.post.name}: {last.words}"))
        self._changed()
