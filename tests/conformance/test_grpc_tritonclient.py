"""The official Triton clients, sync and asyncio, against both gRPC doors.

Their pins clash with ours now and then, so they live in an environment of their own, which `scripts/install` makes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from grpc_stand import KINDS, stand

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def triton_python() -> str:
    """The interpreter that has tritonclient; SLIPWAY_TRITON_PYTHON names another one."""
    named = os.environ.get("SLIPWAY_TRITON_PYTHON")
    if named:
        return named
    install = [ROOT / "scripts/install", ".venv-triton", "-r", "tests/triton/requirements.txt"]
    subprocess.run(install, check=True)
    return str(ROOT / ".venv-triton/bin/python")


@pytest.mark.parametrize("kind", KINDS)
def test_tritonclient_is_served(kind: str, triton_python: str) -> None:
    with stand(kind) as door:
        command = [triton_python, ROOT / "tests/conformance/grpc_tritonclient_calls.py", str(door.door.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tritonclient is served" in done.stdout


@pytest.mark.parametrize("ours_first", [True, False])
def test_our_messages_live_beside_tritonclients_in_one_process(ours_first: bool, triton_python: str) -> None:
    """Both define `inference.ModelInferRequest`."""
    ours = "from slipway.infer.protobuf.messages import ModelInferRequest"
    theirs = "from tritonclient.grpc.service_pb2 import ModelInferRequest as Theirs"
    imports = (ours, theirs) if ours_first else (theirs, ours)
    check = "assert Theirs.FromString(ModelInferRequest(model_name='m').SerializeToString()).model_name == 'm'"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([triton_python, "-c", "\n".join((*imports, check))], check=True, env=environment, timeout=60)
