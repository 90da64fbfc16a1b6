"""The command as its user runs it, and a server that answers what a test wants it to."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec

from slipway.errors import NotFound, SlipwayError
from slipway.spec.manifest import check_files, manifest_digest
from slipway.spec.resources import (
    Addresses,
    Artifact,
    Deployment,
    Gateway,
    Identity,
    Page,
    Replica,
    ServerStatus,
    UploadFile,
    Version,
)
from slipway.transports.codes import HTTP_STATUS

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "slipway")
DEADLINE_S = 30.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Asked(NamedTuple):
    """One request, as the server got it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Reply(NamedTuple):
    """An answer with headers of its own."""

    status: int = 200
    headers: dict[str, str] = {}
    content: bytes = b""
    kind: str = "application/json"


class StubServer:
    """Answers `/api/v1…` by `routes`: (method, path) to a resource, or a function of Asked that returns or raises
    one."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Any] = {
            ("GET", "/whoami"): Identity(kind="key", name="ci", scopes=["admin"]),
        }
        self.asked: list[Asked] = []
        stage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                said = msgspec.json.decode(body) if headers.get("content-type") == "application/json" else body
                asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), headers, said)
                stage.asked.append(asked)
                self.reply(stage.answer(asked))

            def reply(self, said: Reply) -> None:
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", said.kind)
                self.send_header("content-length", str(len(said.content)))
                self.end_headers()
                self.wfile.write(said.content)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                """Not to the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, asked: Asked) -> Reply:
        key = (asked.method, asked.path.removeprefix("/api/v1"))
        try:
            if key not in self.routes:
                raise NotFound(f"no path {asked.path}")
            route = self.routes[key]
            found = route(asked) if callable(route) else route
        except SlipwayError as error:
            status = HTTP_STATUS[type(error)]
            problem = {"title": type(error).__name__, "status": status, "detail": error.message, "code": error.code}
            problem["errors"] = list(getattr(error, "problems", ()))
            return Reply(status, {}, msgspec.json.encode(problem), "application/problem+json")
        if isinstance(found, Reply):
            return found
        if isinstance(found, str):
            return Reply(200, {}, found.encode(), "text/plain")
        return Reply(204) if found is None else Reply(content=msgspec.json.encode(found))

    def put(self, *deployments: Deployment) -> None:
        """These are all that there are."""
        self.routes["GET", "/deployments"] = Page(items=list(deployments))
        self.routes["GET", "/status"] = status_of(*deployments)
        for one in deployments:
            self.routes["GET", f"/deployments/{one.name}"] = one
            self.routes["GET", f"/deployments/{one.name}/versions"] = Page(items=one.versions)

    def take_uploads(self) -> dict[str, bytearray]:
        """Take artifacts from now on: SHA-256 of a file to what of it has come."""
        come: dict[str, bytearray] = {}

        def declare(asked: Asked) -> Artifact:
            files = check_files(msgspec.convert(asked.body["files"], list[UploadFile]))
            missing = [file.sha256 for file in files if len(come.get(file.sha256, b"")) < file.size_bytes]
            for sha256 in missing:
                self.routes["PUT", f"/artifacts/blobs/{sha256}"] = partial(append, sha256)
            size = sum(file.size_bytes for file in files)
            return Artifact(digest=manifest_digest(files), size_bytes=size, files=files, missing=missing)

        def append(sha256: str, asked: Asked) -> Reply:
            blob = come.setdefault(sha256, bytearray())
            assert int(asked.headers["upload-offset"]) == len(blob)
            blob += asked.body
            return Reply(headers={"Upload-Offset": str(len(blob))})

        self.routes["POST", "/artifacts"] = declare
        return come

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def stub_server() -> Iterator[StubServer]:
    server = StubServer()
    try:
        yield server
    finally:
        server.close()


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


class Shell:
    """Somebody's shell: a home of its own, and nothing of Slipway in the environment but what is given."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "XDG_"))}
        self.environment = clean | {"HOME": str(home), "NO_COLOR": "1", "PYTHONPATH": str(ROOT)} | environment

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> Ran:
        ran = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.home,
            env=self.environment | environment,
            timeout=DEADLINE_S,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    @contextlib.contextmanager
    def terminal(self, *arguments: str, **environment: str) -> Iterator[Terminal]:
        """The same at a terminal of 30 lines of 120 columns."""
        terminal = Terminal([*COMMAND, *arguments], cwd=self.home, env=self.environment | environment)
        try:
            yield terminal
        finally:
            terminal.close()


class Terminal:
    """A process whose standard streams are one terminal. `screen`: all that was ever written, escapes removed."""

    def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str]) -> None:
        import fcntl
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        env = {name: value for name, value in env.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=env, start_new_session=True, preexec_fn=_own
        )
        os.close(slave)
        self.raw = ""

    @property
    def screen(self) -> str:
        return ESCAPES.sub("", self.raw)

    def wait_for(self, words: str) -> str:
        """Until `words` were written. Fails with what was written instead."""
        deadline = time.monotonic() + DEADLINE_S
        while words not in self.screen:
            assert time.monotonic() < deadline, f"no {words!r} in\n{self.screen}"
            assert self._read(0.1) or self.process.poll() is None or self._read(0.1), f"no {words!r} in\n{self.screen}"
        return self.screen

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ended(self) -> int:
        """Its status, with everything read."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on:\n{self.screen}"
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self, within_s: float) -> bool:
        if not select.select([self._master], [], [], within_s)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody has the other end any more
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)


def _own() -> None:
    """Make the terminal the session's, so that Ctrl-C is a signal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


# --- what there is to tell --------------------------------------------------------------------------------------------


def a_replica(deployment: str = "iris", version: str = "v1", index: int = 1, **more: Any) -> Replica:
    known: dict[str, Any] = {
        "generation": 1, "pid": 4000 + index, "state": "ready", "stage": "", "device": "cpu", "sandbox": "landlock 4",
        "threads": 2, "restarts": 0, "trouble": "", "last_end": "", "memory_bytes": 120 << 20, "cpu_s": 3.5,
        "busy_s": 0.0, "load": 0.25, "batches": 17,
    }  # fmt: skip
    return Replica(deployment=deployment, version=version, index=index, **(known | more))


def a_version(deployment: str = "iris", number: int = 1, **more: Any) -> Version:
    known: dict[str, Any] = {
        "state": "live", "progress": 1.0, "error": "", "digest": f"sha256:{number:064x}",
        "source": f"./{deployment}.onnx",
        "size_bytes": 1234, "platform": "onnxruntime 1.20", "settings": {}, "created_at": 1.7e9, "created_by": "key ci",
        "replicas": [],
    }  # fmt: skip
    return Version(deployment=deployment, version=f"v{number}", number=number, **(known | more))


def a_deployment(name: str = "iris", **more: Any) -> Deployment:
    known: dict[str, Any] = {
        "state": "ready", "reason": "", "revision": 3, "spec": {"name": name, "model": f"./{name}.onnx"}, "live": "v1",
        "target": "v1", "created_at": 1.7e9, "updated_at": 1.7e9, "updated_by": "key ci",
        "versions": [a_version(name, replicas=[a_replica(name)])],
    }  # fmt: skip
    return Deployment(name=name, **(known | more))


def status_of(*deployments: Deployment, **more: Any) -> ServerStatus:
    gateway = Gateway(
        number=1, generation=1, pid=3999, state="ready", restarts=0, trouble="", memory_bytes=80 << 20, cpu_s=1.5
    )
    known: dict[str, Any] = {
        "state": "ready", "version": "0.1.0", "pid": 3997, "controller_pid": 3998, "uptime_s": 3700.0, "leader": True,
        "database": "SQLite", "auth": "open", "addresses": Addresses(http="http://127.0.0.1:8080"),
        "gateways": [gateway],
    }  # fmt: skip
    return ServerStatus(deployments=list(deployments), **(known | more))


def in_turn(*answers: Any) -> Callable[[Asked], Any]:
    """One after the other, the last for ever; an error is raised."""
    left = list(answers)

    def answer(_: Asked) -> Any:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, BaseException):
            raise found
        return found

    return answer


def on_its_way(state: str, progress: float = 0.0, *, number: int = 2, **more: Any) -> Deployment:
    """iris, with v1 live and a version behind it in `state`."""
    coming = a_version(number=number, state=state, progress=progress, **more)
    live = a_version(replicas=[a_replica()])
    return a_deployment(state="deploying", target=coming.version, versions=[coming, live])


def arrived(number: int = 2) -> Deployment:
    version = a_version(number=number, replicas=[a_replica(version=f"v{number}")])
    return replace(a_deployment(), live=version.version, target=version.version, versions=[version])
