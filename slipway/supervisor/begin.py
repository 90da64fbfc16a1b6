"""The two ways in: `slipway serve`, which forgets everything at its end, and `slipway up`, which remembers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from setproctitle import setproctitle

from slipway.client.login import data_folder
from slipway.clock import SystemClock
from slipway.errors import SetupError
from slipway.launchers.courtesy import stand_aside
from slipway.launchers.local import LocalLauncher
from slipway.logs import configure_logs
from slipway.spec.serve import Doors, ServerSpec, check_server
from slipway.spec.server import Authentication, Logs, Ports, ServerConfig
from slipway.supervisor.data import DataFolder
from slipway.supervisor.folder import RuntimeFolder
from slipway.supervisor.house import House, Watcher
from slipway.supervisor.ports import HeldPort


def supervise(spec: ServerSpec, *, watcher: Watcher) -> int:
    """Serve the models of `spec` until a signal ends it; the exit status: 0 after a drain, 130 when it was told twice.

    Raises SetupError where it cannot begin. Either way no process, socket or file of it remains.
    """
    setproctitle("slipway: supervisor")
    configure_logs("supervisor", as_json=spec.log_json, level=spec.log_level)
    check_server(spec)
    return _supervise(spec, config_of(spec), data_dir=None, watcher=watcher)


def supervise_up(config: ServerConfig, *, watcher: Watcher) -> int:
    """Serve what is deployed, and what comes to be, until a signal ends it; the exit status as of `supervise`.

    Raises SetupError where it cannot begin. Processes and sockets end with it; what was deployed stays in its data
    directory.
    """
    setproctitle("slipway: supervisor")
    configure_logs("supervisor", as_json=config.logs.json, level=config.logs.level)
    spec = server_spec_of(config)
    check_server(spec, needs_models=False)
    return _supervise(spec, config, data_dir=data_folder(config.data_dir), watcher=watcher)


def _supervise(spec: ServerSpec, config: ServerConfig, *, data_dir: Path | None, watcher: Watcher) -> int:
    ports = HeldPorts(spec.doors)
    try:
        folder = RuntimeFolder()
        try:
            data = DataFolder(data_dir or folder.path / "data")
            try:
                ports.admin.listen()
                return asyncio.run(_live(ports, spec, config, data, folder, watcher, remembers=data_dir is not None))
            finally:
                ports.release()  # first, since who sees the lock gone may start the next server there
                data.release()
        finally:
            folder.remove()
    finally:
        ports.release()


async def _live(
    ports: HeldPorts,
    spec: ServerSpec,
    config: ServerConfig,
    data: DataFolder,
    folder: RuntimeFolder,
    watcher: Watcher,
    *,
    remembers: bool,
) -> int:
    house = House(
        spec=ports.fill(spec),
        config=config,
        remembers=remembers,
        data=data,
        listeners=ports.admin.sockets,
        folder=folder,
        launcher=LocalLauncher(),
        clock=SystemClock(),
        watcher=watcher,
    )
    stand_aside()  # after the house has counted the cores, and before it starts anybody
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

    @property
    def admin(self) -> HeldPort:
        return self._held[2]

    def fill(self, spec: ServerSpec) -> ServerSpec:
        """The spec with real ports in the place of 0."""
        http, grpc, admin = (held.port for held in self._held)
        doors = msgspec.structs.replace(spec.doors, http_port=http, grpc_port=grpc, admin_port=admin)
        return msgspec.structs.replace(spec, doors=doors)

    def release(self) -> None:
        for held in self._held:
            held.release()


def server_spec_of(config: ServerConfig) -> ServerSpec:
    """What gateways are told of a server's configuration. Raises SetupError."""
    if config.tls is not None and config.tls.client not in ("none", "optional", "required"):
        raise SetupError(f"tls.client is {config.tls.client!r}; it is none, optional or required")
    limits = config.limits
    doors = Doors(
        host=config.host,
        http_port=config.ports.http,
        grpc_port=config.ports.grpc,
        admin_port=config.ports.admin,
        grpc_door=config.grpc_door,
        max_body_bytes=int(limits.max_body_mb * 2**20),
        max_head_bytes=int(limits.max_head_kb * 2**10),
        max_connections=limits.max_connections,
        idle_timeout_s=limits.idle_timeout_s,
        head_timeout_s=limits.head_timeout_s,
        cors_origins=config.cors_origins,
        tls=config.tls,
    )
    return ServerSpec(
        models=(),
        doors=doors,
        gateways=config.gateways,
        drain_s=config.drain_s,
        log_json=config.logs.json,
        log_level=config.logs.level,
        otlp_endpoint=config.otlp_endpoint,
    )


def config_of(spec: ServerSpec) -> ServerConfig:
    """What the controller of `slipway serve` is told."""
    doors = spec.doors
    return ServerConfig(
        host=doors.host,
        ports=Ports(doors.http_port, doors.grpc_port, doors.admin_port),
        gateways=spec.gateways,
        drain_s=spec.drain_s,
        auth=Authentication(required=False if spec.open else None),
        logs=Logs(spec.log_json, spec.log_level),
        tls=doors.tls,
    )
