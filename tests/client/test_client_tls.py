"""https:// and grpcs://, with a certificate that only `ca_file` makes trustworthy."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from slipway.client import Retry
from slipway.errors import SetupError, Unavailable
from slipway.infer.protobuf.messages import message_class

CERTIFICATE = Path(__file__).parent / "tls" / "cert.pem"
KEY = Path(__file__).parent / "tls" / "key.pem"


class Server(BaseHTTPRequestHandler):
    """Knows one answer: what the server is called."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"name":"secret","version":"1","extensions":[]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def https() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture(scope="module")
def grpcs() -> Iterator[str]:
    answer = message_class("inference.ServerMetadataResponse")(name="secret").SerializeToString()
    handler = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService",
        {"ServerMetadata": grpc.unary_unary_rpc_method_handler(lambda _, __: answer)},
    )
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    credentials = grpc.ssl_server_credentials([(KEY.read_bytes(), CERTIFICATE.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"grpcs://127.0.0.1:{port}"
    server.stop(0).wait(10)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_a_server_that_the_ca_file_vouches_for(kind: Any, scheme: str, request: pytest.FixtureRequest) -> None:
    with kind(request.getfixturevalue(scheme), ca_file=str(CERTIFICATE)) as client:
        assert client.server_metadata().name == "secret"


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_a_server_that_nobody_vouches_for(kind: Any, scheme: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(scheme)
    with kind(url, retry=Retry(attempts=1)) as client, pytest.raises(Unavailable, match=r"(?i)certificate|handshake"):
        client.server_metadata(timeout_s=20)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_a_ca_file_that_is_none(kind: Any, scheme: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot read ca_file .*missing\.pem"):
        kind(f"{scheme}://127.0.0.1:1", ca_file=str(tmp_path / "missing.pem"))
