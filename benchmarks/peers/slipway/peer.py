"""Slipway itself, from this checkout, through the same command a user types."""

from benchmarks.contender import ROOT, Command, Peer, Start
from benchmarks.payloads import V2_BINARY, V2_GRPC, V2_JSON


def start(start: Start) -> Command:
    ports = start.ports
    return Command(
        argv=(
            *(start.script("slipway"), "serve", str(start.model.path), "--name", start.model.key),
            *("--port", str(ports.http), "--grpc-port", str(ports.grpc), "--admin-port", str(ports.admin)),
            *("--max-batch-rows", str(start.model.batch_rows), "--threads", "1"),
        ),
        env={"PYTHONPATH": ""},  # the folder of this very file would pass for the package
    )


def missing() -> str | None:
    """Until the package can be installed, the run says so instead of failing on it."""
    return None if (ROOT / "pyproject.toml").exists() else "no pyproject.toml in this checkout yet"


PEER = Peer(
    name="slipway",
    title="Slipway",
    how="slipway serve with its defaults, --max-batch-rows as everyone, --threads 1: validation, metrics, deadlines "
    "and worker isolation on",
    packages=("slipway", "onnxruntime", "numpy"),
    start=start,
    codecs={"json": V2_JSON, "binary": V2_BINARY, "grpc": V2_GRPC},
    ready_path="/v2/health/ready",
    missing=missing,
)
