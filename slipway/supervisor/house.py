"""The wiring of one server: which parts there are, who knows whom, and how they start and end together."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec
from setproctitle import setproctitle

from slipway.clock import Clock, SystemClock
from slipway.errors import SlipwayError
from slipway.launchers.launcher import Launcher
from slipway.launchers.local import LocalLauncher
from slipway.logs import configure_logs
from slipway.spec.serve import Doors, ModelSpec, ServerSpec, check_server
from slipway.supervisor.cores import usable_cores
from slipway.supervisor.folder import RuntimeFolder
from slipway.supervisor.gateways import Gateway, Gateways
from slipway.supervisor.ports import HeldPort
from slipway.supervisor.repository import Repository
from slipway.supervisor.status import Addresses, Observer
from slipway.supervisor.version import Version
from slipway.wire.messages import RepositoryChange, VersionRoutes

if TYPE_CHECKING:
    from slipway.transports.http.server import HttpDoor

TICK_S = 0.1
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

    def ready(self, addresses: Addresses, versions: list[VersionRoutes]) -> None: ...

    def draining(self) -> None: ...

    def close(self) -> None:
        """It is over, also where it never got ready."""
        ...


def supervise(spec: ServerSpec, *, watcher: Watcher) -> int:
    """Serve until a signal ends it; the exit status: 0 after a drain, 130 when it was told twice.

    Raises SetupError where it cannot begin. Either way no process, socket or file of it remains.
    """
    setproctitle("slipway: supervisor")
    configure_logs("supervisor", as_json=spec.log_json, level=spec.log_level)
    check_server(spec)
    ports = HeldPorts(spec.doors)
    try:
        folder = RuntimeFolder()
        try:
            return asyncio.run(_live(ports.fill(spec), folder=folder, watcher=watcher))
        finally:
            folder.remove()
    finally:
        ports.release()


async def _live(spec: ServerSpec, *, folder: RuntimeFolder, watcher: Watcher) -> int:
    house = House(spec=spec, folder=folder, launcher=LocalLauncher(), clock=SystemClock(), watcher=watcher)
    return await house.live()


class HeldPorts:
    """The public addresses, ours from now on. Raises PortInUse, SetupError."""

    def __init__(self, doors: Doors) -> None:
        self._held: list[HeldPort] = []
        wanted = (("--port", doors.http_port), ("--grpc-port", doors.grpc_port), ("--admin-port", doors.admin_port))
        try:
            for option, port in wanted:
                self._held.append(HeldPort(option=option, host=doors.host, port=port))
        except Exception:
            self.release()
            raise

    def fill(self, spec: ServerSpec) -> ServerSpec:
        """The spec with real ports in the place of 0."""
        http, grpc, admin = (held.port for held in self._held)
        doors = msgspec.structs.replace(spec.doors, http_port=http, grpc_port=grpc, admin_port=admin)
        return msgspec.structs.replace(spec, doors=doors)

    def release(self) -> None:
        for held in self._held:
            held.release()


class House:
    """All parts of one running server."""

    def __init__(
        self, *, spec: ServerSpec, folder: RuntimeFolder, launcher: Launcher, clock: Clock, watcher: Watcher
    ) -> None:
        self._spec = spec
        self._watcher = watcher
        cores = usable_cores()

        def make_version(model: ModelSpec, generation: int) -> Version:
            return Version(
                spec=model,
                generation=generation,
                cores=cores,
                launcher=launcher,
                clock=clock,
                folder=folder,
                logs=(spec.log_json, spec.log_level),
                changed=self._changed,
            )

        self.repository = Repository(specs=spec.models, make=make_version, changed=self._changed, told=self._told)
        self.gateways = Gateways(
            spec=spec,
            runtime_folder=str(folder.path),
            launcher=launcher,
            clock=clock,
            routes=self.repository.routes,
            asked=self._asked,
            changed=self._changed,
        )
        self.observer = Observer(
            repository=self.repository,
            gateways=self.gateways,
            addresses=addresses_of(spec.doors),
            pid=os.getpid(),
            clock=clock,
        )
        self._admin: HttpDoor | None = None
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._last_signal = 0
        self._watching = False
        self._errands: set[asyncio.Task[None]] = set()

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
        """Launch first and import later: the children's own start takes the longest."""
        self._step()
        self._watching = True
        from slipway.supervisor.admin import open_admin_door

        doors = self._spec.doors
        if doors.admin_port != -1:
            self._admin = await open_admin_door(self.observer, doors=doors, port=doors.admin_port)
        errors = await self._settled()
        for error in errors:
            logger.error("%s", error.message)
        while not (errors or self.gateways.serving):
            await asyncio.sleep(0.005)
        await self._told()  # ready means every replica, not only the first that a gateway reached
        self._watching = False
        self.observer.started = True
        self._watcher.ready(self.observer.addresses, self.repository.routes().versions)

    async def _settled(self) -> list[SlipwayError]:
        """Wait until all are ready; raises the error of the first that cannot be. With `keep_going` models that
        fail are left to be tried again, and their errors returned; without a gateway there is no going on."""
        failed: list[SlipwayError] = []
        for outcome in asyncio.as_completed([self.gateways.settled, *self.repository.settled()]):
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

    def _step(self) -> None:
        for part in (self.repository.step, self.gateways.step):
            try:
                part()
            except Exception:  # the others go on, and so does this one at the next turn
                logger.exception("a step of the supervisor failed")

    def _changed(self) -> None:
        self.gateways.publish()
        self._show()

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

    def _stages(self) -> dict[str, str]:
        posts = [replica.post for load in self.repository.loads() for replica in load.replicas]
        posts += [gateway.post for gateway in self.gateways.all]
        return {post.name: post.place.stage or post.place.state for post in posts}

    def _asked(self, gateway: Gateway, asked: RepositoryChange) -> None:
        async def change() -> None:
            generation = gateway.post.place.generation
            answer = await self.repository.change(asked)
            if gateway.post.place.generation == generation:  # its successor asked nothing
                gateway.post.say(answer)

        errand = asyncio.get_running_loop().create_task(change())
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)

    async def _drain(self) -> None:
        """Gateways first, so that what they accepted is answered while the workers are still there."""
        self.observer.draining, self._watching = True, False
        self._watcher.draining()
        self.gateways.retire(drain_s=self._spec.drain_s)
        await self._until(lambda: self.gateways.gone)
        if self._at_once.is_set():
            return
        self.repository.retire()
        await self._until(lambda: self.repository.gone)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done() and not self._at_once.is_set():
            await asyncio.sleep(0.01)
            self._step()

    async def _end(self) -> None:
        """Whatever is still there goes now."""
        if self._admin is not None:
            await self._admin.close(drain_s=0.2)
        self.gateways.kill()
        self.repository.kill()
        for _ in range(int(KILL_WITHIN_S / 0.01)):
            self._step()
            if self.gateways.gone and self.repository.gone:
                return
            await asyncio.sleep(0.01)


def addresses_of(doors: Doors) -> Addresses:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(doors.host, doors.host)
    host = f"[{host}]" if ":" in host else host
    return Addresses(
        http=f"http://{host}:{doors.http_port}" if doors.http_port != -1 else "",
        grpc=f"{host}:{doors.grpc_port}" if doors.grpc_port != -1 else "",
        admin=f"http://{host}:{doors.admin_port}" if doors.admin_port != -1 else "",
    )
