"""FastAPI on uvicorn: what most teams write first."""

from benchmarks.contender import Command, Peer, Start
from benchmarks.payloads import PLAIN_JSON, PLAIN_OCTETS


def start(start: Start) -> Command:
    options = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
    workers = () if start.model.one_instance else ("--workers", "2")
    address = ("--host", "127.0.0.1", "--port", str(start.ports.http))
    folder = str(PEER.folder)
    return Command(argv=(start.script("uvicorn"), "server:app", "--app-dir", folder, *address, *options, *workers))


PEER = Peer(
    name="fastapi",
    title="FastAPI + uvicorn",
    how="async handler with pydantic body and answer; uvicorn with uvloop and httptools, 2 workers; "
    "binary is plain octets",
    packages=("fastapi", "uvicorn", "starlette", "pydantic", "uvloop", "httptools", "onnxruntime"),
    start=start,
    codecs={"json": PLAIN_JSON, "binary": PLAIN_OCTETS},
    ready_path="/health",
)
