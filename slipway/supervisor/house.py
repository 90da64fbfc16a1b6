"""The wiring of one server: which parts there are, who knows whom, and how they start and end together."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Protocol

from slipway import __version__
from slipway.clock import Clock
from slipway.errors import SlipwayError
from slipway.launchers.courtesy import Courtesy
from slipway.launchers.launcher import Launcher
from slipway.spec.access import Access
from slipway.spec.hosts import is_loopback
from slipway.spec.resources import Addresses
from slipway.spec.serve import Doors, ModelSpec, ServerSpec
from slipway.spec.server import ServerConfig
from slipway.supervisor.controller import Controller, begin_of
from slipway.supervisor.cores import usable_cores
from slipway.supervisor.data import DataFolder
from slipway.supervisor.folder import RuntimeFolder
from slipway.supervisor.gateways import Gateway, Gateways
from slipway.supervisor.metrics import gather_metrics
from slipway.supervisor.observed import observe
from slipway.supervisor.post import StartGate
from slipway.supervisor.repository import Repository
from slipway.supervisor.version import Version
from slipway.supervisor.worker_logs import rotate
from slipway.wire.messages import Observed, Plan, RepositoryChange, Routes, VersionRoutes

TICK_S = 0.1
ROTATE_EVERY_S = 10.0
TELL_WITHIN_S = 2.0
ATTACH_S = 0.05
KILL_WITHIN_S = 5.0
"""After a SIGKILL a process is gone in no time, unless the kernel itself waits for a disk; then we go without it."""

logger = logging.getLogger(__name__)


class Watcher(Protocol):
    """Who looks at the server from its terminal."""

    def loading(self, stages: dict[str, str]) -> None:
        """Called whenever something moved and several times a second: for each process by name its stage, `ready`
        when it is."""
        ...

    def ready(self, addresses: Addresses, versions: list[VersionRoutes], *, closed: bool) -> None:
        """`closed`: who calls needs a credential."""
        ...

    def draining(self) -> None: ...

    def close(self) -> None:
        """It is over, also where it never got ready."""
        ...


class House:
    """All parts of one running server. `remembers`: what is deployed outlives it; otherwise the controller starts last,
    since nobody waits for it, and takes over what `spec` named. `listeners`: the admin door's sockets."""

    def __init__(
        self,
        *,
        spec: ServerSpec,
        config: ServerConfig,
        remembers: bool,
        data: DataFolder,
        listeners: tuple[socket.socket, ...],
        folder: RuntimeFolder,
        launcher: Launcher,
        clock: Clock,
        watcher: Watcher,
    ) -> None:
        self._spec = spec
        self._remembers = remembers
        self._data = data
        self._clock = clock
        self._watcher = watcher
        self.addresses = addresses_of(spec.doors)
        self._access: Access | None = None
        self._planned = False
        self._rotated = clock.now()
        self.gateways = Gateways(
            spec=spec,
            runtime_folder=str(folder.path),
            limits_folder=str(data.path / "limits"),
            launcher=launcher,
            clock=clock,
            routes=self._routes,
            asked=self._asked,
            access_seen=lambda seen: self.controller.forward(seen),
            changed=self._changed,
        )
        self.repository = Repository(
            make=self._version_maker(folder, launcher, clock),
            clock=clock,
            changed=self._changed,
            told=self._told,
            probe=self.gateways.probe,
            quiet=self.gateways.quiet,
        )
        self.controller = Controller(
            begin=begin_of(spec, config, data=data.path, owner_hash=data.owner_hash, addresses=self.addresses),
            listeners=listeners,
            launcher=launcher,
            clock=clock,
            observe=self._observe,
            follow=self._follow,
            let_in=self._let_in,
            metrics=lambda number: self._run(self._tell_metrics(number)),
        )
        if not remembers:
            self.repository.begin(spec.models)
        self._controls = False
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._last_signal = 0
        self._watching = self._draining = False
        self._errands: set[asyncio.Task[object]] = set()

    def _version_maker(
        self, folder: RuntimeFolder, launcher: Launcher, clock: Clock
    ) -> Callable[[ModelSpec, int, bool], Version]:
        cores, courtesy = usable_cores(), Courtesy()
        gate = StartGate(places=max(4, 2 * cores))

        def make(model: ModelSpec, generation: int, behind: bool) -> Version:
            return Version(
                spec=model,
                generation=generation,
                cores=cores,
                launcher=launcher,
                clock=clock,
                folder=folder,
                logs=(self._spec.log_json, self._spec.log_level),
                output=self._output,
                reserved=self._remembers,  # a deployment says in its spec what it needs
                gate=gate,
                behind=behind,
                courtesy=courtesy,
                changed=self._changed,
            )

        return make

    async def live(self) -> int:
        """From the first process to the last."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                loop.add_signal_handler(number, self.stop, number)
        tasks = [loop.create_task(job) for job in (self._turn(), self._stop.wait(), self._start())]
        _, stop, start = tasks
        try:
            await asyncio.wait((stop, start), return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
            await stop
            start.cancel()
            await self._drain()
        finally:
            for task in (*tasks, *self._errands):
                task.cancel()
            self._watching = False
            self._watcher.close()
            await self._end()
        return 128 + self._last_signal if self._at_once.is_set() else 0

    def stop(self, number: int) -> None:
        """The first signal drains, the second ends it at once."""
        if self._stop.is_set():
            self._last_signal = number
            self._at_once.set()
        self._stop.set()

    async def _start(self) -> None:
        """Launch first: the children's own start takes the longest."""
        self._controls = self._remembers
        if not self._remembers and (self._spec.open or is_loopback(self._spec.doors.host)):
            self._let_in(Access())
        self._step()
        if self._remembers:  # now, so that a server which waits for its database can be asked what it waits for
            self._data.publish(self.addresses, version=__version__, tls=self._spec.doors.tls)
        self._watching = True
        errors = await self._settled()
        for error in errors:
            logger.error("%s", error.message)
        while not (errors or self._remembers or self.gateways.serving):
            await asyncio.sleep(0.005)
        self._controls = True
        if self._remembers or self._access is None:
            await self._access_known()
        await self._told()  # ready means every replica, not only the first that a gateway reached
        self._watching = False
        closed = self._access is not None and self._access.required
        self._watcher.ready(self.addresses, self._routes_now().versions, closed=closed)

    async def _access_known(self) -> None:
        """Raises the error of a controller that cannot begin."""
        error = await self.controller.settled
        if error is not None:
            raise error
        while self._access is None:
            await asyncio.sleep(0.005)

    async def _settled(self) -> list[SlipwayError]:
        """Wait until all are ready; raises the error of the first that cannot be. With `keep_going` models that
        fail are left to be tried again, and their errors returned; without a gateway there is no going on."""
        failed: list[SlipwayError] = []
        waited = [self.gateways.settled, *self.repository.settled()]
        if self._remembers:
            waited.append(self.controller.settled)
        for outcome in asyncio.as_completed(waited):
            error = await outcome
            if error is not None:
                if not self._spec.keep_going or self.gateways.failed:
                    raise error
                failed.append(error)
        return failed

    async def _turn(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._step()
            self._show()
            if self._remembers and self._clock.now() - self._rotated >= ROTATE_EVERY_S:
                self._rotated = self._clock.now()
                self._run(asyncio.to_thread(rotate, self._data.path / "logs"))

    def _step(self) -> None:
        parts = [self.repository.step, self.gateways.step]
        if self._controls:
            parts.append(self.controller.step)
        for part in parts:
            try:
                part()
            except Exception:  # the others go on, and so does this one at the next turn
                logger.exception("a step of the supervisor failed")

    # --- what the parts ask of each other ----------------------------------------------------------------------------

    def _changed(self) -> None:
        self.gateways.publish()
        self.controller.moved()
        self._show()

    def _routes(self) -> Routes | None:
        """None until it is known what should run: before that, nothing is missing and nothing is ready."""
        return self._routes_now() if self._planned or not self._remembers else None

    def _routes_now(self) -> Routes:
        return self.repository.routes()

    def _observe(self) -> Observed:
        return observe(self.repository, self.gateways, draining=self._draining, now=self._clock.now())

    def _follow(self, plan: Plan) -> None:
        if not self._draining:
            self._planned = True
            self.repository.follow(plan)

    def _let_in(self, access: Access) -> None:
        self._access = access
        self.gateways.let_in(access)

    async def _tell_metrics(self, number: int) -> None:
        series = await gather_metrics(repository=self.repository, gateways=self.gateways, controller=self.controller)
        self.controller.tell_metrics(number, series)

    def _output(self, model: ModelSpec, index: int) -> str:
        """Where what a replica writes goes: to the terminal of `slipway serve`, else to a file that can be followed."""
        if not self._remembers:
            return ""
        try:
            return self._data.worker_log(model.name, model.version, index)
        except OSError as error:
            logger.warning("no log file for %s %s: %s", model.name, model.version, error.strerror)
            return ""

    def _show(self) -> None:
        if self._watching:
            self._watcher.loading(self._stages())

    async def _told(self) -> None:
        """A gateway answers in turn, so with its numbers it says that it has heard what was said before. It then
        reaches a new replica within a turn of its loop, and says so where it reached none before."""
        await self.gateways.refresh(timeout_s=TELL_WITHIN_S)
        await asyncio.sleep(ATTACH_S)
        for _ in range(int(TELL_WITHIN_S / ATTACH_S)):
            if self.gateways.serving or not self.repository.ready:
                return
            await asyncio.sleep(ATTACH_S)

    def _run(self, errand: Coroutine[object, object, object]) -> None:
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    def _stages(self) -> dict[str, str]:
        posts = [replica.post for load in self.repository.loads() for replica in load.replicas]
        posts += [gateway.post for gateway in self.gateways.all]
        if self._remembers:
            posts.append(self.controller.post)
        return {post.name: post.place.stage or post.place.state for post in posts}

    def _asked(self, gateway: Gateway, asked: RepositoryChange) -> None:
        async def change() -> None:
            generation = gateway.post.place.generation
            answer = await self.repository.change(asked)
            if gateway.post.place.generation == generation:  # its successor asked nothing
                gateway.post.say(answer)

        self._run(change())

    async def _drain(self) -> None:
        """Gateways first, so that what they accepted is answered while the workers are still there."""
        self._draining, self._watching = True, False
        self._watcher.draining()
        self.gateways.retire(drain_s=self._spec.drain_s)
        await self._until(lambda: self.gateways.gone)
        if self._at_once.is_set():
            return
        self.repository.retire()
        await self._until(lambda: self.repository.gone)
        self.controller.retire()
        await self._until(lambda: self.controller.post.gone)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done() and not self._at_once.is_set():
            await asyncio.sleep(0.01)
            self._step()

    async def _end(self) -> None:
        """Whatever is still there goes now."""
        self.gateways.kill()
        self.repository.kill()
        self.controller.kill()
        for _ in range(int(KILL_WITHIN_S / 0.01)):
            self._step()
            if self.gateways.gone and self.repository.gone and self.controller.post.gone:
                return
            await asyncio.sleep(0.01)


def addresses_of(doors: Doors) -> Addresses:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(doors.host, doors.host)
    host = f"[{host}]" if ":" in host else host
    scheme = "http" if doors.tls is None else "https"
    return Addresses(
        http=f"{scheme}://{host}:{doors.http_port}" if doors.http_port != -1 else "",
        grpc=f"{host}:{doors.grpc_port}" if doors.grpc_port != -1 else "",
        admin=f"{scheme}://{host}:{doors.admin_port}" if doors.admin_port != -1 else "",
    )
