"""The official Python clients of Triton against a running server. They live in an environment of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import IRIS, ROOT, Served, serving

HERE = Path(__file__).parent
PYTHON = ROOT / ".venv-triton" / "bin" / "python"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(f"iris={IRIS}", "echo=tests.triton.echo_model:Echo") as served:
        yield served


@pytest.mark.parametrize("checks", ["check_http.py", "check_http_aio.py", "check_grpc.py", "check_grpc_aio.py"])
def test_the_official_client(server: Served, checks: str) -> None:
    assert PYTHON.exists(), "scripts/install .venv-triton -r tests/triton/requirements.txt makes their environment"
    assert Path(sys.prefix) != PYTHON.parent.parent
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", HERE / "checks.ini", HERE / checks]
    address = server.grpc if "grpc" in checks else server.http.removeprefix("http://")
    ran = subprocess.run(
        command, env={"SERVER": address, "PATH": "/usr/bin"}, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
