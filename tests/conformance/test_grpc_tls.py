"""TLS on the gRPC door: encrypted, following its files, and clients who show a certificate."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import callers
import grpc
import pytest
from certificates import Authority, Place, connected, shown_by
from grpc_stand import affine, stand, until

from slipway.errors import SetupError
from slipway.gateway.guard import AccessGuard
from slipway.transports.grpc.door import choose_kind


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.at(tmp_path)


def guarded() -> AccessGuard:
    guard = AccessGuard(now=lambda: callers.NOW)
    guard.apply(callers.access())
    return guard


@contextlib.contextmanager
def channel(place: Place, port: int, shows: tuple[bytes, bytes] | None = None) -> Iterator[grpc.Channel]:
    certificate, key = shows or (None, None)
    credentials = grpc.ssl_channel_credentials(place.authority.certificate, key, certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{port}", credentials, options=options) as opened:
        yield opened


def infer(opened: grpc.Channel, **options: Any) -> grpc.StatusCode:
    call = opened.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    try:
        call(affine().SerializeToString(), timeout=10, **options)
    except grpc.RpcError as error:
        return error.code()  # type: ignore[attr-defined, no-any-return]
    return grpc.StatusCode.OK


def grpc_name(port: int) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with connected(port, context, name=None) as wrapped:
        return shown_by(wrapped)


def test_grpc_is_encrypted_and_follows_its_files(place: Place) -> None:
    with stand("grpcio", tls=place.tls()) as door, channel(place, door.door.port) as before:
        assert infer(before) is grpc.StatusCode.OK
        assert grpc_name(door.door.port) == "first"
        with grpc.insecure_channel(f"127.0.0.1:{door.door.port}") as plain:
            assert infer(plain) is grpc.StatusCode.UNAVAILABLE
        place.files.pair("server", place.authority.issue("second"))
        until(lambda: grpc_name(door.door.port) == "second")
        assert infer(before) is grpc.StatusCode.OK
        place.files.put("server.key", b"broken")
        with channel(place, door.door.port) as after:
            assert infer(after) is grpc.StatusCode.OK
        assert grpc_name(door.door.port) == "second"


def test_grpc_clients_are_who_their_certificates_say(place: Place) -> None:
    edge, laptop = place.clients.issue("edge-7"), place.clients.issue("laptop")
    with stand("grpcio", tls=place.tls("required"), guard=guarded()) as door:
        port = door.door.port
        with channel(place, port, edge) as one, channel(place, port, laptop) as other, channel(place, port) as nobody:
            for _ in range(2):
                assert infer(one) is grpc.StatusCode.OK
                assert infer(other) is grpc.StatusCode.PERMISSION_DENIED
            key = (("authorization", callers.bearer(callers.AFFINE)),)
            assert infer(other, metadata=key) is grpc.StatusCode.OK
            assert infer(nobody) is grpc.StatusCode.UNAVAILABLE
            forged = (("x-forwarded-client-cert", "CN=edge-7"),)
            assert infer(other, metadata=forged) is grpc.StatusCode.PERMISSION_DENIED
        with channel(place, port, Authority("clients").issue("edge-7")) as stranger:
            assert infer(stranger) is grpc.StatusCode.UNAVAILABLE


def test_the_native_door_does_not_pretend_to_encrypt() -> None:
    with pytest.raises(SetupError, match="native gRPC door has no TLS"):
        choose_kind("native", encrypted=True)
    assert choose_kind("auto", encrypted=True) == "grpcio"
