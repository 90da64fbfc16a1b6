"""A gateway, built on one page: doors in front, the service behind them, engines behind that."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING

from slipway.errors import MissingExtra, SetupError, SlipwayError
from slipway.gateway.guard import AccessGuard
from slipway.gateway.numbers import snapshot
from slipway.gateway.probe import probe
from slipway.gateway.service import GatewayService
from slipway.launchers.launcher import EXIT_ORPHANED, EXIT_SETUP_FAILED
from slipway.launchers.memory import Memory
from slipway.spec.access import Access
from slipway.transports.http.server import HttpDoor, open_http_door
from slipway.transports.http.v2 import OpenInference
from slipway.wire.messages import (
    BeginGateway,
    ControlMessage,
    Drain,
    Probe,
    Probed,
    Ready,
    RepositoryChanged,
    Routes,
    Serving,
    SetupFailed,
    SnapshotRequest,
)
from slipway.wire.supervisor_line import SupervisorLine

if TYPE_CHECKING:
    from slipway.transports.grpc.door import GrpcDoor

REPORT_S = 1.0


class Gateway:
    """Opens its doors, follows the supervisor's word, and drains when told to."""

    def __init__(self, begin: BeginGateway, control: socket.socket) -> None:
        self._spec = begin.spec
        self._runtime_folder = begin.runtime_folder
        self._control = control
        self._over: asyncio.Future[tuple[float, int]] = asyncio.get_running_loop().create_future()
        self._line: SupervisorLine | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._package_version = package_version("slipway")
        self._memory = Memory()
        self._guard = AccessGuard(limits_folder=begin.limits_folder)
        self.service = GatewayService(
            version=self._package_version,
            ask=self._say,
            serving_changed=lambda ready: self._say(Serving(ready)),
            guard=self._guard,
        )
        self._http: HttpDoor | None = None
        self._grpc: GrpcDoor | None = None

    def _say(self, message: ControlMessage) -> None:
        if self._line is not None:
            self._line.say(message)

    async def run(self) -> int:
        """Serve until told to drain, or orphaned; the exit status that says which."""
        loop = asyncio.get_running_loop()
        line = SupervisorLine(heard=self._heard, lost=self._orphaned)
        self._line = line
        await loop.create_connection(lambda: line, sock=self._control)
        try:
            self._begin_tracing()
            await self._open_doors()
        except SetupError as error:
            self._say(SetupFailed(error.code, error.message))
            await asyncio.sleep(0.1)  # let it leave
            return EXIT_SETUP_FAILED
        self._say(
            Ready(
                http_port=self._http.port if self._http else -1,
                grpc_port=self._grpc.port if self._grpc else -1,
            )
        )
        # What is here now stays: the collector need not look at it again, nor often at what comes.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        reporting = loop.create_task(self._report_callers())
        drain_s, status = await self._over
        reporting.cancel()
        await self._drain(drain_s)
        return status

    async def _report_callers(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            seen = self._guard.seen()
            if seen is not None:
                self._say(seen)

    def _begin_tracing(self) -> None:
        if not self._spec.otlp_endpoint:
            return
        try:
            from slipway.gateway.tracing import Tracing
        except ImportError:
            raise MissingExtra(
                "--otlp-endpoint needs OpenTelemetry: pip install 'slipway[otel]', or leave the option away"
            ) from None
        self.service.tracing = Tracing(self._spec.otlp_endpoint, service_version=self._package_version)

    async def _open_doors(self) -> None:
        doors = self._spec.doors
        if doors.http_port >= 0:
            app = OpenInference(self.service)
            self._http = await open_http_door(app, host=doors.host, port=doors.http_port, limits=doors, reuse_port=True)
        if doors.grpc_port >= 0:
            from slipway.transports.grpc.door import open_grpc_door

            self._grpc = await open_grpc_door(
                self.service,
                kind=doors.grpc_door,
                host=doors.host,
                port=doors.grpc_port,
                reuse_port=True,
                max_message_bytes=doors.max_body_bytes,
                runtime_folder=self._runtime_folder,
                tls=doors.tls,
            )

    def _heard(self, message: ControlMessage) -> None:
        if isinstance(message, Routes):
            self.service.apply(message)
        elif isinstance(message, Access):
            self._guard.apply(message)
        elif isinstance(message, SnapshotRequest):
            connections = {"http": len(self._http.connections)} if self._http else {}
            self._say(snapshot(message.number, self.service, connections, self._memory))
        elif isinstance(message, RepositoryChanged):
            self.service.changed(message)
        elif isinstance(message, Probe):
            errand = asyncio.get_running_loop().create_task(self._probe(message))
            self._errands.add(errand)
            errand.add_done_callback(self._errands.discard)
        elif isinstance(message, Drain) and not self._over.done():
            self._over.set_result((self._spec.drain_s, 0))

    async def _probe(self, asked: Probe) -> None:
        try:
            error = await probe(self.service.version_of(asked.model, asked.version))
        except SlipwayError as refusal:  # it is gone already
            error = refusal
        self._say(Probed(asked.number, error.code, error.message) if error else Probed(asked.number))

    def _orphaned(self) -> None:
        """The supervisor is gone, so the workers are as well: clean up after all of us and go."""
        shutil.rmtree(self._runtime_folder, ignore_errors=True)
        if not self._over.done():
            self._over.set_result((0.0, EXIT_ORPHANED))  # no worker is left to wait for

    async def _drain(self, drain_s: float) -> None:
        """Refuse what is new, finish what was accepted, close the doors."""
        loop = asyncio.get_running_loop()
        self.service.draining = True
        until = loop.time() + drain_s
        while self.service.unanswered and loop.time() < until:
            await asyncio.sleep(0.01)
        left_s = max(0.0, until - loop.time())
        doors = [door.close(left_s) for door in (self._http, self._grpc) if door is not None]
        await asyncio.gather(*doors)
        for version in self.service.versions():
            version.close()
        self._guard.close()
        if self.service.tracing is not None:
            await loop.run_in_executor(None, self.service.tracing.close)
