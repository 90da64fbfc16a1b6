"""The controller as a process: its line to the supervisor, its sign of life, and the door of its API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from typing import Any

from slipway.clock import SystemClock
from slipway.controller.api.app import make_app
from slipway.controller.api.listening import serve
from slipway.controller.core import Controller
from slipway.errors import SetupError, SlipwayError
from slipway.launchers.launcher import EXIT_ORPHANED, EXIT_SETUP_FAILED
from slipway.launchers.memory import resident_bytes
from slipway.transports.tls import TlsFiles
from slipway.wire.messages import Beat, BeginController, ControlMessage, Ready, SetupFailed
from slipway.wire.supervisor_line import SupervisorLine

BEAT_S = 1.0
OPEN_S = 3.0
"""How long being ready waits for the store; then the door opens without, and says so."""

logger = logging.getLogger(__name__)


class House:
    def __init__(self, begin: BeginController, control: socket.socket, listeners: list[socket.socket]) -> None:
        self._begin = begin
        self._control = control
        self._listeners = listeners
        self._stop = asyncio.Event()
        self._status = 0
        self._line: SupervisorLine | None = None
        self._controller: Controller | None = None

    async def live(self) -> int:
        """Until SIGTERM, or orphaned; the exit status that says which."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        line = self._line = SupervisorLine(heard=self._heard, lost=self._orphaned)
        await loop.create_connection(lambda: line, sock=self._control)
        try:
            controller = self._controller = Controller(self._begin, say=line.say, clock=SystemClock())
        except SlipwayError as error:  # a configuration that nobody checked before
            await self._tell_failure(error)
            return self._status
        living = asyncio.ensure_future(controller.run())
        jobs: list[asyncio.Future[Any]] = [living]
        try:
            await self._await_beginning(controller, living)
            jobs += [asyncio.ensure_future(job) for job in (self._serve(controller), self._beat())]
            line.say(Ready())
            stopping: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
            done, _ = await asyncio.wait([*jobs, stopping], return_when=asyncio.FIRST_COMPLETED)
            for job in done - {stopping}:
                job.result()
            if len(jobs) > 1 and not jobs[1].done():
                await asyncio.wait([jobs[1]], timeout=OPEN_S)  # the API finishes what it accepted
        except* SetupError as errors:
            await self._tell_failure(_first(errors))
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            await controller.close()
        return self._status

    def _heard(self, message: ControlMessage) -> None:
        if self._controller is not None:
            self._controller.heard(message)

    def _orphaned(self) -> None:
        self._status = EXIT_ORPHANED
        self._stop.set()

    async def _await_beginning(self, controller: Controller, living: asyncio.Future[None]) -> None:
        """An error that waiting does not mend should end the first start, and not the first request; and who asks early
        waits in the backlog, instead of being refused by a controller that knows nobody yet."""
        begun = asyncio.ensure_future(controller.begun.wait())
        both: list[asyncio.Future[Any]] = [living, begun]
        await asyncio.wait(both, timeout=OPEN_S, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if living.done():
            living.result()

    async def _serve(self, controller: Controller) -> None:
        if not self._listeners:
            await self._stop.wait()
            return
        tls = self._begin.config.tls
        app = make_app(controller.commands, seal_key=controller.specs.sealing_key, own_hosts=[self._begin.config.host])
        files = TlsFiles(tls) if tls is not None else None
        await serve(app, listeners=self._listeners, stop=self._stop, tls=files)

    async def _beat(self) -> None:
        while True:
            if self._line is not None:
                self._line.say(Beat(busy_s=0.0, batches=0, rss_bytes=resident_bytes(), cpu_s=time.process_time()))
            await asyncio.sleep(BEAT_S)

    async def _tell_failure(self, error: SlipwayError) -> None:
        logger.error("the controller cannot begin: %s", error.message)
        if self._line is not None:
            self._line.say(SetupFailed(error.code, error.message))
        self._status = EXIT_SETUP_FAILED
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)  # let it leave


def _first(errors: BaseExceptionGroup[SetupError]) -> SetupError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, SetupError)
    return found
