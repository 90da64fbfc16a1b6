"""A contender on its feet: started, ready, and proven to answer the real request with the right numbers."""

import contextlib
import http.client
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import grpc
import numpy as np

from benchmarks import environments
from benchmarks.contender import Model, Peer, Ports, Protocol, Request, Start, variables_for_servers
from benchmarks.processes import Server, cpu_seconds, weigh

_START_S = 120.0
_FIRST_ANSWER_S = 20.0
_POLL_S = 0.01
# Long enough for the backlog that a slow server keeps after its load has gone.
_ANSWER_S = 30.0
_GRPC_LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Failed(Exception):
    """The contender did not start or did not answer; the message goes into the results."""


class Wrong(Exception):
    """It answered, but not what onnxruntime answers."""


def free_ports() -> Ports:
    """Three ports from the system, held together until all are known so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        numbers = [each.getsockname()[1] for each in sockets]
    return Ports(http=numbers[0], grpc=numbers[1], admin=numbers[2])


def _environment(python: Path, added: Mapping[str, str]) -> dict[str, str]:
    """A plain environment: what the caller exported for other purposes must not tune one contender."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}"
    return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1", **added}


def exchange(
    port: int, request: Request | None, path: str, timeout_s: float = _ANSWER_S
) -> tuple[int, dict[str, str], bytes]:
    """One HTTP request on a connection of its own: (status, headers in lower case, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        if request is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, request.body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def call(port: int, request: Request, timeout_s: float = _ANSWER_S) -> bytes:
    """One gRPC call with the very bytes that the load generator sends, through a real client."""
    metadata = [header for header in request.headers if header[0] not in ("content-type", "te")]  # the client's own
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_GRPC_LIMITS) as channel:
        method = channel.unary_unary(request.path)
        return bytes(method(request.body[5:], timeout=timeout_s, metadata=metadata, wait_for_ready=True))


def compare(model: Model, outputs: Mapping[str, np.ndarray]) -> None:
    """Raises Wrong unless every output that came back is what onnxruntime says, the main one among them."""
    if model.main_output not in outputs:
        raise Wrong(f"no output named {model.main_output}: {sorted(outputs)}")
    for name, expected in model.expected.items():
        found = outputs.get(name)
        if found is None:
            continue
        # Some protocols have no rows without columns: a [rows] tensor comes back as [rows, 1].
        if found.ndim == expected.ndim + 1 and found.shape[-1] == 1:
            found = found[..., 0]
        if found.shape != expected.shape:
            raise Wrong(f"{name} has shape {found.shape}, not {expected.shape}")
        if not np.allclose(found, expected, rtol=1e-3, atol=1e-5 * max(1.0, float(np.abs(expected).max()))):
            raise Wrong(f"{name} is {found.ravel()[:3].tolist()}…, not {expected.ravel()[:3].tolist()}…")


class Standing:
    """Use as a context manager; leaving it stops every process of the contender."""

    def __init__(self, peer: Peer, model: Model, cache: Path) -> None:
        self.peer, self.model, self.ports = peer, model, free_ports()
        self.scratch = cache / "run" / f"{peer.name}-{model.key}"
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        python = environments.python_of(cache, peer)
        start = Start(python=python, model=model, ports=self.ports, scratch=self.scratch)
        command = peer.start(start)
        env = _environment(python, {**variables_for_servers(start), **command.env})
        self.server = Server(command.argv, env=env, cwd=self.scratch, log=self.scratch / "output.log")
        self.start_s = 0.0

    def __enter__(self) -> "Standing":
        try:
            self._await_first_answer()
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def request(self, protocol: Protocol) -> Request:
        return self.peer.codecs[protocol].encode(self.model)

    def port(self, protocol: Protocol) -> int:
        return self.ports.grpc if protocol == "grpc" else self.ports.http

    def weigh(self) -> list[dict[str, object]]:
        return weigh(self.server.pids())

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.server.pids())

    def check(self, protocol: Protocol) -> None:
        """Ask the real request once. Raises Failed or Wrong."""
        codec, request = self.peer.codecs[protocol], self.request(protocol)
        headers: dict[str, str] = {}
        try:
            if protocol == "grpc":
                body = call(self.ports.grpc, request)
            else:
                status, headers, body = exchange(self.ports.http, request, request.path)
                if status != 200:
                    raise Failed(f"{protocol}: status {status}: {body[:200].decode(errors='replace')}")
        except grpc.RpcError as error:
            raise Failed(f"grpc: {error.code()}: {error.details()}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{protocol}: {error!r}") from error
        try:
            outputs = codec.decode(self.model, headers, body)
        except Exception as error:
            raise Wrong(f"{protocol}: cannot read the answer ({error!r}): {body[:120]!r}") from error
        compare(self.model, outputs)

    def _await_first_answer(self) -> None:
        """Start-up ends with the first right answer: a server that is up but cannot answer yet is not ready."""
        protocol: Protocol = "json" if "json" in self.peer.codecs else "binary"
        ready, problem = self.peer.ready_path is None, "never opened its port"
        until_s = self.server.begun_s + _START_S
        while time.monotonic() < until_s:
            if (code := self.server.exit_code()) is not None:
                raise Failed(f"exited with {code} while starting: {self.server.last_words()}")
            try:
                if not ready and exchange(self.ports.http, None, self.peer.ready_path or "/", 5)[0] == 200:
                    ready, until_s = True, min(until_s, time.monotonic() + _FIRST_ANSWER_S)
                if ready:
                    self.check(protocol)
                    self.start_s = time.monotonic() - self.server.begun_s
                    return
            except (Failed, OSError, http.client.HTTPException) as error:
                problem = str(error)
            time.sleep(_POLL_S)
        waited_s = time.monotonic() - self.server.begun_s
        raise Failed(f"no right answer after {waited_s:.0f} s ({problem}): {self.server.last_words()}")
