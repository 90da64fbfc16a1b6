"""LitServe: FastAPI workers in front of a batching loop in a process of its own."""

from benchmarks.contender import Command, Peer, Start
from benchmarks.payloads import PLAIN_JSON


def start(start: Start) -> Command:
    return Command(argv=(str(start.python), str(PEER.folder / "server.py")))


PEER = Peer(
    name="litserve",
    title="LitServe",
    how="LitAPI with batching (1 ms), fast_queue (ZeroMQ), 1 inference worker, 2 API servers; it has no binary door",
    packages=("litserve", "fastapi", "uvicorn", "onnxruntime"),
    start=start,
    codecs={"json": PLAIN_JSON},
    ready_path="/health",
)
