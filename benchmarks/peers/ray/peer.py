"""Ray Serve: a deployment behind its HTTP proxy, on a one-node Ray."""

from benchmarks.contender import Command, Peer, Start
from benchmarks.payloads import PLAIN_JSON, PLAIN_OCTETS


def start(start: Start) -> Command:
    return Command(
        argv=(str(start.python), str(PEER.folder / "server.py")),
        env={"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
    )


PEER = Peer(
    name="ray",
    title="Ray Serve",
    how="one replica with serve.batch (1 ms), RAY_SERVE_THROUGHPUT_OPTIMIZED=1, access log and dashboard off; "
    "binary is plain octets",
    packages=("ray", "fastapi", "uvicorn", "onnxruntime"),
    start=start,
    codecs={"json": PLAIN_JSON, "binary": PLAIN_OCTETS},
    ready_path="/-/healthz",
)
