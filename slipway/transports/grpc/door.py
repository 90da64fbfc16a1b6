"""Opens the gRPC door: picks the implementation, takes the port, and says in words what stood in the way."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slipway.errors import MissingExtra, PortInUse, SetupError
from slipway.infer.service import Service
from slipway.spec.serve import Tls
from slipway.transports.tls import TlsFiles

if TYPE_CHECKING:
    from slipway.transports.grpc.handlers import Handlers

_PACKAGES = {"native": ("pygrpc_native", "grpc", "google.protobuf"), "grpcio": ("grpc", "google.protobuf")}
_PIP_NAMES = {"pygrpc_native": "pygrpc-native", "grpc": "grpcio", "google.protobuf": "protobuf"}
_SOCKET_PATH_BYTES = 107  # what the address of a Unix socket has room for


class GrpcDoor(Protocol):
    """An open door. `kind`: native or grpcio. `port`: the one that was taken."""

    @property
    def kind(self) -> str: ...

    @property
    def port(self) -> int: ...

    async def close(self, drain_s: float) -> None:
        """Refuse new calls with UNAVAILABLE, wait up to `drain_s` for those on their way, refuse the rest, shut."""
        ...


async def open_grpc_door(
    service: Service,
    *,
    kind: str = "auto",
    host: str = "127.0.0.1",
    port: int = 0,
    reuse_port: bool = False,
    max_message_bytes: int = 256 * 2**20,
    runtime_folder: Path | str | None = None,
    tls: Tls | None = None,
) -> GrpcDoor:
    """Serve `service` over gRPC at `host:port`; port 0 takes any free one. Call it on the event loop's thread.

    `kind`: `native`, `grpcio`, or `auto`, which is native where it is installed. `reuse_port`: other processes
    may serve the same port. `runtime_folder`: where the native door keeps a private folder with one socket in it
    until it closes; the system's temporary folder by default. `tls`: encrypt; the native door cannot, so `auto` is
    grpcio then.

    Raises MissingExtra, PortInUse, and SetupError for an address that cannot be had otherwise.
    """
    kind = choose_kind(kind, encrypted=tls is not None)
    certificates = None if tls is None else TlsFiles(tls, protocols=("h2",))
    _try_port(host, port, reuse_port=reuse_port)
    # Not before here: they need grpc and protobuf, which may be missing.
    from slipway.transports.grpc.handlers import Handlers

    handlers = Handlers(service, max_message_bytes=max_message_bytes)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if kind == "native":
            return await _open_native(handlers, target, reuse_port, max_message_bytes, runtime_folder)
        from slipway.transports.grpc.aio_door import AioDoor

        door = AioDoor(handlers, max_message_bytes=max_message_bytes, reuse_port=reuse_port, tls=certificates)
        await door.open(target)
    except (OSError, RuntimeError) as error:
        raise _cannot_listen(host, port, error) from error
    return door


def choose_kind(kind: str, *, encrypted: bool = False) -> str:
    """`native` or `grpcio`. Raises MissingExtra that names the packages, SetupError for an unknown kind and for one
    that cannot encrypt."""
    if encrypted:
        if kind == "native":
            raise SetupError("the native gRPC door has no TLS; take grpc_door: grpcio, or auto, which is that with TLS")
        kind = "grpcio" if kind == "auto" else kind
    if kind == "auto":
        kind = "grpcio" if _missing("native") else "native"
    if kind not in _PACKAGES:
        raise SetupError(f"no gRPC door is called {kind!r}; there are auto, {' and '.join(_PACKAGES)}")
    missing = _missing(kind)
    if missing:
        raise MissingExtra(
            f"the {kind} gRPC door needs {' and '.join(missing)}: pip install 'slipway[grpc]', or serve without gRPC"
        )
    return kind


def _missing(kind: str) -> list[str]:
    missing = []
    for package in _PACKAGES[kind]:
        try:
            found = find_spec(package)
        except ModuleNotFoundError:  # of its parent
            found = None
        if found is None:
            missing.append(_PIP_NAMES[package])
    return missing


async def _open_native(
    handlers: Handlers, target: str, reuse_port: bool, max_message_bytes: int, runtime_folder: Path | str | None
) -> GrpcDoor:
    from slipway.transports.grpc.native_door import NativeDoor

    folder = _private_folder(runtime_folder)
    door = NativeDoor(handlers, max_message_bytes=max_message_bytes, folder=folder)
    try:
        await door.open(target, reuse_port=reuse_port)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return door


def _private_folder(inside: Path | str | None) -> Path:
    """A new folder for our eyes only (mkdtemp makes it 0700), short enough to hold a socket."""
    folder = Path(tempfile.mkdtemp(prefix="grpc-", dir=inside))
    if len(os.fsencode(folder / "streams")) > _SOCKET_PATH_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="slipway-grpc-"))
    return folder


def _try_port(host: str, port: int, *, reuse_port: bool) -> None:
    """Bind the address once and let go, because not every implementation says why it could not."""
    if port == 0:
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(address)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error


def _cannot_listen(host: str, port: int, error: Exception) -> SetupError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return PortInUse(f"{host}:{port} is in use by another program; choose a free one with --grpc-port")
    return SetupError(f"cannot listen for gRPC at {host}:{port}: {error}")
