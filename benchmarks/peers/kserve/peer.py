"""The KServe SDK's model server, as it runs inside a KServe predictor pod."""

from benchmarks.contender import Command, Peer, Start
from benchmarks.payloads import V2_BINARY, V2_GRPC, V2_JSON


def start(start: Start) -> Command:
    return Command(argv=(str(start.python), str(PEER.folder / "server.py")))


PEER = Peer(
    name="kserve",
    title="KServe SDK",
    how="kserve.Model in ModelServer with 2 HTTP workers, latency logging off",
    packages=("kserve", "fastapi", "uvicorn", "pydantic", "grpcio", "onnxruntime"),
    start=start,
    codecs={"json": V2_JSON, "binary": V2_BINARY, "grpc": V2_GRPC},
    ready_path="/v2/health/ready",
)
