"""Both gRPC doors, one suite: opening, draining, closing, and what stands in the way."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import stat
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_stand import KINDS, affine, connect, failure, numbers_of, stand, until

from slipway import errors
from slipway.infer.protobuf.messages import INFERENCE
from slipway.testing.service import StubService
from slipway.transports.grpc.door import choose_kind, open_grpc_door

both = pytest.mark.parametrize("kind", KINDS)


def try_to_open(**options: Any) -> errors.SlipwayError:
    with pytest.raises(errors.SlipwayError) as caught:
        asyncio.run(open_grpc_door(StubService(), **options))
    return caught.value


@both
def test_draining_finishes_what_was_accepted_and_refuses_the_rest(kind: str) -> None:
    with stand(kind) as door:
        door.service.hold = True
        accepted = [door.start("ModelInfer", affine(id=str(number)).SerializeToString()) for number in range(20)]
        stream = door.channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")
        streamed = stream(iter([affine(id="s").SerializeToString()]), timeout=20)
        until(lambda: len(door.service.held) == 21)
        closing = door.begin(door.door.close(20))
        until(lambda: not door.call("ServerReady").ready)
        assert door.call("ServerLive").live
        health = health_pb2_grpc.HealthStub(door.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        for refused in (failure(lambda: door.infer(affine())), failure(lambda: door.call("RepositoryIndex"))):
            assert refused.code() == StatusCode.UNAVAILABLE
            assert "draining" in refused.details()
            assert dict(refused.trailing_metadata())["slipway-error"] == "draining"
        late = failure(lambda: list(stream(iter([affine().SerializeToString()]), timeout=10)))
        assert (late.code(), "draining" in late.details()) == (StatusCode.UNAVAILABLE, True)
        assert not closing.done()
        door.on_loop(door.service.release)
        closing.result(20)
        assert all(call.result(10) for call in accepted)
        assert b"triton_final_response" in next(streamed)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", door.door.port)):
            pass


@both
def test_what_is_not_done_when_the_drain_ends_is_told_so(kind: str) -> None:
    with stand(kind) as door:
        door.service.hold = True
        call = door.start("ModelInfer", affine().SerializeToString())
        stream = door.channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")
        streamed = stream(iter([affine().SerializeToString()]), timeout=20)
        watched = health_pb2_grpc.HealthStub(door.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        until(lambda: len(door.service.held) == 2)
        door.wait(door.door.close(0.05))
        assert call.exception(10).code() == StatusCode.UNAVAILABLE
        assert "stopped" in call.exception().details()
        assert failure(lambda: list(streamed)).code() == StatusCode.UNAVAILABLE
        assert failure(lambda: list(watched)).code() == StatusCode.UNAVAILABLE
        until(lambda: len(door.service.cancelled) == 2)


@both
def test_an_idle_door_closes_at_once_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    with stand(kind, runtime_folder=tmp_path) as door:
        assert numbers_of(door.infer(affine())) == [3, 5, 7, 9]
        folders = list(tmp_path.iterdir())
        assert len(folders) == (1 if kind == "native" else 0)
        for folder in folders:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        door.wait(door.door.close(30), timeout_s=10)
        assert list(tmp_path.iterdir()) == []


def test_a_runtime_folder_too_deep_for_a_socket_is_done_without(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with stand("native", runtime_folder=deep) as door:
        call = door.channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")
        assert len(list(call(iter([affine().SerializeToString()]), timeout=10))) == 1
        assert list(deep.iterdir()) == []


@both
def test_a_port_in_use_is_named(kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = try_to_open(kind=kind, port=port)
    assert type(error) is errors.PortInUse
    assert f"127.0.0.1:{port}" in error.message


@both
def test_two_doors_share_a_port_only_when_told_to(kind: str) -> None:
    with stand(kind, reuse_port=True) as first:
        port = first.door.port
        assert type(try_to_open(kind=kind, port=port)) is errors.PortInUse
        with stand(kind, reuse_port=True, port=port) as second:
            assert second.door.port == port
            served = set()
            for _ in range(100):  # the kernel spreads connections; it takes a few to meet both
                with connect(port) as channel:
                    channel.unary_unary(f"/{INFERENCE}/ModelInfer")(affine().SerializeToString(), timeout=10)
                served = {bool(one.service.requests) for one in (first, second)}
                if served == {True}:
                    break
            assert served == {True}


@both
@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_hosts_by_name_and_ipv6(kind: str, host: str) -> None:
    if host == "::1" and not Path("/proc/net/if_inet6").read_text():
        host = "127.0.0.2"  # no IPv6 on this machine; then at least another address
    with stand(kind, host=host) as door:
        address = f"[{host}]" if ":" in host else host
        with grpc.insecure_channel(f"{address}:{door.door.port}") as channel:
            assert channel.unary_unary(f"/{INFERENCE}/ServerLive")(b"", timeout=10) == b"\x08\x01"


@both
def test_an_address_that_is_not_ours_is_refused_in_words(kind: str) -> None:
    error = try_to_open(kind=kind, host="192.0.2.1", port=50123)  # TEST-NET, on no machine
    assert type(error) is errors.SetupError
    assert "192.0.2.1:50123" in error.message


@both
def test_a_missing_package_gets_the_command_that_installs_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without_grpc(name: str) -> object:
        return None if name == "grpc" else find(name)

    monkeypatch.setattr("slipway.transports.grpc.door.find_spec", without_grpc)
    error = try_to_open(kind=kind)
    assert type(error) is errors.MissingExtra
    assert "grpcio" in error.message
    assert "pip install 'slipway[grpc]'" in error.message


def test_auto_is_native_where_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_kind("auto") == "native"
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "slipway.transports.grpc.door.find_spec", lambda name: find(name) if name != "pygrpc_native" else None
    )
    assert choose_kind("auto") == "grpcio"
    with pytest.raises(errors.SetupError, match="auto, native and grpcio"):
        choose_kind("rust")
