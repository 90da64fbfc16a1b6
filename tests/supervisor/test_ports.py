from __future__ import annotations

import os
import socket

import pytest

from slipway.errors import PortInUse, SetupError
from slipway.supervisor.ports import SHUT, HeldPort


def held(port: int = 0, *, option: str = "--port", host: str = "127.0.0.1") -> HeldPort:
    return HeldPort(option=option, host=host, port=port)


def listener(port: int, *, reuse_port: bool) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_zero_is_any_free_port_and_gateways_can_share_it() -> None:
    port = held()
    try:
        assert port.port > 0
        with listener(port.port, reuse_port=True), listener(port.port, reuse_port=True):
            for _ in range(20):  # none of these may land on the socket that only holds the port
                socket.create_connection(("127.0.0.1", port.port), timeout=5).close()
    finally:
        port.release()


def test_a_held_port_is_nobody_elses() -> None:
    first = held()
    try:
        with pytest.raises(PortInUse):
            held(first.port)
        with pytest.raises(OSError):
            listener(first.port, reuse_port=False)
    finally:
        first.release()
    again = held(first.port)
    again.release()


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_in_use_is_named_with_its_option_and_holder(reuse_port: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with listener(port, reuse_port=reuse_port), pytest.raises(PortInUse) as caught:
        held(port, option="--grpc-port")
    message = caught.value.message
    assert message.startswith(f"--grpc-port {port}: process {os.getpid()} (")
    assert "0: any free one" in message


def test_connections_of_a_former_server_are_not_in_the_way() -> None:
    with listener(0, reuse_port=False) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        accepted, _ = server.accept()
        accepted.close()  # the server's side closes first, and keeps the port in TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    port_again = held(port)
    try:
        assert port_again.port == port
        with listener(port, reuse_port=True):
            pass
    finally:
        port_again.release()


def test_a_shut_door_holds_nothing() -> None:
    shut = held(SHUT)
    assert shut.port == SHUT
    shut.release()


@pytest.mark.parametrize("host", ["localhost", "", "0.0.0.0"])
def test_a_host_may_have_several_addresses(host: str) -> None:
    port = held(host=host)
    try:
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(("127.0.0.1", port.port))
            server.listen()
    finally:
        port.release()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_host_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(SetupError, match=r"--host '"):
        held(host=host)
