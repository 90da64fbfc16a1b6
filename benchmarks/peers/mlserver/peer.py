"""MLServer: Open Inference Protocol in Python, with parallel workers and adaptive batching to choose from."""

import json

from benchmarks.contender import Command, Peer, Start
from benchmarks.payloads import V2_GRPC, V2_JSON


def start(start: Start) -> Command:
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": start.ports.http,
        "grpc_port": start.ports.grpc,
        "metrics_port": start.ports.admin,
        "metrics_dir": str(start.scratch),
        "parallel_workers": 0,
        "grpc_max_message_length": 64 << 20,
        "environments_dir": str(start.scratch / "environments"),
    }
    model = {"name": start.model.key, "implementation": "server.OnnxRuntime"}
    folder = start.scratch / "models"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    # Its loader looks for the runtime's module beside the settings first.
    (folder / "server.py").symlink_to(PEER.folder / "server.py")
    return Command(argv=(start.script("mlserver"), "start", str(folder)))


PEER = Peer(
    name="mlserver",
    title="MLServer",
    how="custom runtime with its NumPy codec, debug off, parallel_workers 0 and no adaptive batching (both tried: "
    "slower for this model); it has no binary HTTP",
    packages=("mlserver", "fastapi", "uvicorn", "pydantic", "grpcio", "onnxruntime"),
    start=start,
    codecs={"json": V2_JSON, "grpc": V2_GRPC},
    ready_path="/v2/health/ready",
)
