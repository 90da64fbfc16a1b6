"""Ports, taken before any process starts: a clear error while it costs nothing, and nobody can take them later.

A held port is a socket that is bound and does not listen. Gateways bind beside it with SO_REUSEPORT, so several share
one port, and it stays ours while one of them is restarted; a socket that does not listen gets no connections.
"""

from __future__ import annotations

import contextlib
import errno
import socket

from slipway.errors import PortInUse, SetupError

SHUT = -1
BACKLOG = 128


class HeldPort:
    """`option` names it in errors, such as `--port`. `port` is the real one; SHUT where the door stays shut."""

    def __init__(self, *, option: str, host: str, port: int) -> None:
        self.port = port
        self._sockets: list[socket.socket] = []
        if port == SHUT:
            return
        absent: OSError | None = None
        for family, address in _addresses(option, host, port):
            try:
                self._sockets.append(_take(family, (address[0], self.port, *address[2:])))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:  # as `localhost` has where there is no IPv6
                    absent = error
                    continue
                self.release()
                raise _explain(error, option=option, host=host, port=self.port) from error
            self.port = self._sockets[-1].getsockname()[1]
        if not self._sockets:
            raise _explain(absent or OSError(errno.EADDRNOTAVAIL, ""), option=option, host=host, port=port)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return tuple(self._sockets)

    def listen(self) -> None:
        """Connections wait from now on, for whoever is given the sockets. What is left of those that were closed does
        not keep the next server from the port, as it inherits that it may be reused."""
        for held in self._sockets:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.listen(BACKLOG)

    def release(self) -> None:
        for held in self._sockets:
            held.close()
        self._sockets.clear()


def _addresses(option: str, host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise SetupError(f"--host {host!r} is no address of this machine: {error.strerror}") from error
    except OverflowError as error:
        raise SetupError(f"{option} is {port}; a port is 1 to 65535, 0 for any free one, -1 for none") from error
    return list({(family, address): None for family, _, _, _, address in found})  # type: ignore[misc]


def _take(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """Raises OSError. The first bind is strict, so that it also meets a server that shares its port on purpose.

    Where only connections that a former server closed are in the way, a bind that may reuse them tells.
    """
    try:
        _bind(family, address).close()
        return _bind(family, address, socket.SO_REUSEPORT)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        trial = _bind(family, address, socket.SO_REUSEADDR)
        try:
            trial.listen()
        finally:
            trial.close()
        return _bind(family, address, socket.SO_REUSEADDR, socket.SO_REUSEPORT)


def _bind(family: socket.AddressFamily, address: tuple[str, int], *options: int) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            held.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind(address)
    except OSError:
        held.close()
        raise
    return held


def _explain(error: OSError, *, option: str, host: str, port: int) -> SetupError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"{option} {port}: {_holder(port)} listens on {host}:{port} already. "
            f"Give {option} another port (0: any free one) or end that process"
        )
    if error.errno == errno.EACCES:
        return SetupError(f"{option} {port}: ports below 1024 are for root; give {option} a higher one")
    if error.errno == errno.EADDRNOTAVAIL:
        return SetupError(f"--host {host!r} is not an address of this machine")
    return SetupError(f"{option} {port}: cannot listen on {host}:{port}: {error.strerror}")


def _holder(port: int) -> str:
    """Who it is, as far as this user may know."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid and not connection.raddr:
                process = psutil.Process(connection.pid)
                return f"process {connection.pid} ({process.name()})"
    return "another process"
