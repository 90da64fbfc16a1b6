"""The gateways of this server: kept alive, told the routes, asked for their numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from slipway.clock import Clock
from slipway.errors import NotReady, SetupError, SlipwayError
from slipway.launchers.launcher import ChildPlan, Launcher
from slipway.monitor.metrics import INFLIGHT_REQUESTS
from slipway.spec.access import Access
from slipway.spec.serve import ServerSpec
from slipway.supervisor.place import READY, Limits, Place
from slipway.supervisor.post import Post
from slipway.supervisor.tally import Tally
from slipway.supervisor.version import ERRORS
from slipway.wire.messages import (
    AccessSeen,
    BeginGateway,
    ControlMessage,
    Drain,
    Probe,
    Probed,
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

PROBE_WITHIN_S = 30.0
QUIET_EVERY_S = 0.02


class Gateway:
    """A post, and the numbers that its process gave last."""

    def __init__(
        self,
        *,
        number: int,
        spec: ServerSpec,
        runtime_folder: str,
        limits_folder: str,
        launcher: Launcher,
        clock: Clock,
        asked: Callable[[Gateway, RepositoryChange], None],
        access_seen: Callable[[AccessSeen], None],
        tally: Tally,
        changed: Callable[[], None],
    ) -> None:
        self.number = number
        self.last: Snapshot | None = None
        self.serving = False
        self._spec = spec
        self._runtime_folder = runtime_folder
        self._limits_folder = limits_folder
        self._asked = asked
        self._access_seen = access_seen
        self._tally = tally
        self._past_cpu_s = 0.0
        self._waiting: dict[int, asyncio.Future[Snapshot]] = {}
        self._probes: dict[int, asyncio.Future[Probed]] = {}
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

    def probe(self, probe: Probe) -> asyncio.Future[Probed]:
        """Cancelled where the process ends first."""
        answer = self._probes[probe.number] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._probes.pop(probe.number, None))
        self.post.say(probe)
        return answer

    def _plan(self) -> ChildPlan:
        self.serving = False
        if self.last is not None:
            self._tally.keep(self.last.series)
            self._past_cpu_s, self.last = self.cpu_s, None
        for unanswered in list(self._waiting.values()):
            unanswered.cancel()
        for untold in list(self._probes.values()):
            untold.cancel()
        return ChildPlan(module=GATEWAY_MODULE, title=f"slipway: {self.post.name}")

    def _begin(self, generation: int) -> ControlMessage:
        del generation
        return BeginGateway(
            spec=self._spec,
            number=self.number,
            runtime_folder=self._runtime_folder,
            limits_folder=self._limits_folder,
        )

    def _heard(self, message: ControlMessage) -> None:
        if isinstance(message, Snapshot):
            if self.last is not None:
                self._tally.keep_missing(self.last.series, message.series)
            self.last = message
            self.post.place.beat()
            waiting = self._waiting.pop(message.number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif isinstance(message, Serving):
            self.serving = message.ready
        elif isinstance(message, RepositoryChange):
            self._asked(self, message)
        elif isinstance(message, Probed):
            probe = self._probes.get(message.number)
            if probe is not None and not probe.done():
                probe.set_result(message)
        elif isinstance(message, AccessSeen):
            self._access_seen(message)


class Gateways:
    """`routes` None: not known yet, and a gateway that was told nothing is not ready. `access_seen`: who was let in and
    who was not."""

    def __init__(
        self,
        *,
        spec: ServerSpec,
        runtime_folder: str,
        limits_folder: str,
        launcher: Launcher,
        clock: Clock,
        routes: Callable[[], Routes | None],
        asked: Callable[[Gateway, RepositoryChange], None],
        access_seen: Callable[[AccessSeen], None],
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
        self._access: Access | None = None
        self._access_to: dict[int, int] = {}
        self.settled: asyncio.Future[SlipwayError | None] = asyncio.get_running_loop().create_future()
        self.all = [
            Gateway(
                number=number,
                spec=spec,
                runtime_folder=runtime_folder,
                limits_folder=limits_folder,
                launcher=launcher,
                clock=clock,
                asked=asked,
                access_seen=access_seen,
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
        """Tell each gateway what it does not know yet: who may do what, then the routes."""
        routes = self._routes()
        if routes != self._told:
            self._told = routes
            self._told_to.clear()
        for gateway in self.all:
            for message, told_to in ((self._access, self._access_to), (routes, self._told_to)):
                generation = gateway.post.place.generation
                if message is not None and gateway.post.pid and told_to.get(gateway.number) != generation:
                    told_to[gateway.number] = generation
                    gateway.post.say(message)

    def let_in(self, access: Access) -> None:
        """Who may do what, from now on."""
        self._access = access
        self._access_to.clear()
        self.publish()

    async def probe(self, model: str, version: str) -> SlipwayError | None:
        """Whether it answers through every gateway that is ready; else the first error. Where none is ready it waits: a
        gateway that died says nothing about a version."""
        while not any(gateway.ready for gateway in self.all):
            await asyncio.sleep(QUIET_EVERY_S)
        self._number += 1
        probes = [gateway.probe(Probe(self._number, model, version)) for gateway in self.all if gateway.ready]
        done, late = await asyncio.wait(probes, timeout=PROBE_WITHIN_S)
        for answer in late:
            answer.cancel()
        answers = [answer.result() for answer in done if not answer.cancelled()]
        failed = next((answer for answer in answers if answer.code), None)
        if failed is not None:
            return ERRORS.get(failed.code, NotReady)(
                f"model {model!r} {version}: the trial request failed: {failed.message}"
            )
        if not answers and not late:
            return NotReady(f"model {model!r} {version}: the gateways ended during the trial request")
        if late:
            return NotReady(f"model {model!r} {version}: no answer to the trial request within {PROBE_WITHIN_S:g} s")
        return None

    async def quiet(self, model: str, version: str, within_s: float) -> bool:
        """Wait until no gateway has accepted requests of a version that it has not answered. False when time is up."""
        until = self._clock.now() + within_s
        while self._clock.now() < until:
            answered = await self.refresh(timeout_s=ASK_EVERY_S)
            if answered == len([gateway for gateway in self.all if gateway.ready]) and not any(
                _inflight(gateway.last, model, version) for gateway in self.all if gateway.last is not None
            ):
                return True
            await asyncio.sleep(QUIET_EVERY_S)
        return False

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


def _inflight(last: Snapshot, model: str, version: str) -> float:
    return sum(
        one.value for one in last.series if one.name == INFLIGHT_REQUESTS.name and one.labels == (model, version)
    )
