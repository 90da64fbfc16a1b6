"""schemathesis reads the OpenAPI document and tries everything that it promises, with all checks it has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
from api_stand import standing

from slipway.auth.throttle import Throttle

HERE = Path(__file__).parent
EXAMPLES = 4


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with standing(tmp_path, required=True) as stand:
        # It tries every operation with wrong credentials, and means the answer of the first of them.
        patient = {name: Throttle(free=10**6) for name in ("_pairs", "_peers", "_users")}
        stand.call(lambda: vars(stand.app.state.desk.admission.verifier.guesses).update(patient))
        stand.deploy("iris")
        stand.wait_live("iris", "v1")
        ran = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                f"--config-file={HERE / 'fuzz.toml'}",
                "run",
                f"{stand.url}/openapi.json",
                "--checks=all",
                f"--header=Authorization: Bearer {stand.owner_key}",
                f"--max-examples={EXAMPLES}",
                "--exclude-path=/api/v1/events/stream",  # never ends, by design
                "--seed=1",
                "--no-color",
            ],
            env=os.environ | {"SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(HERE)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert httpx.get(f"{stand.url}/readyz").status_code in (200, 503)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr
    assert "Tested: 42" in ran.stdout, ran.stdout
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in ran.stdout, ran.stdout
