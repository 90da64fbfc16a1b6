"""What a spec's `env` can do to a replica: everything a model asks for, and nothing before its sandbox is shut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway.spec.serve import ReplicaSpec

ONE = [np.float32(1)]
TRAP = "open({path!r}, 'w').write('was here')\n"


@pytest.fixture
def begin(launch: Callable, python_model: Callable) -> Callable:
    """Start a model whose `predict` is `body`."""

    def start(body: str, environment: dict[str, str], **replicas: Any) -> Any:
        return launch(python_model(body), replicas=ReplicaSpec(**replicas), given=environment)

    return start


def test_a_spec_gives_its_model_an_environment(begin: Callable) -> None:
    body = "return x * 0 + float(os.environ['FACTOR']) + float(os.environ['OMP_NUM_THREADS'] == '3')"
    worker = begin(body, {"FACTOR": "6", "OMP_NUM_THREADS": "9", "TMPDIR": "/nowhere"}, threads=3)
    worker.ready()
    assert worker.gateway().run(x=ONE)["y"] == [7]
    assert b"FACTOR" not in Path(f"/proc/{worker.pid}/environ").read_bytes()


def test_a_time_zone_and_an_import_path_count(begin: Callable, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "lent_module.py").write_text("VALUE = 4\n")
    body = "import time, lent_module\nreturn x * 0 + lent_module.VALUE + time.localtime(0).tm_hour"
    worker = begin(
        body, {"TZ": "Etc/GMT-5", "PYTHONPATH": str(tmp_path / "more")}, allow_read=(str(tmp_path / "more"),)
    )
    worker.ready()
    assert worker.gateway().run(x=ONE)["y"] == [9]


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize", "msgspec", "json"])
def test_an_import_path_runs_no_code_before_the_sandbox_is_shut(begin: Callable, tmp_path: Path, name: str) -> None:
    trap, caught = tmp_path / "trap", tmp_path / "caught"
    trap.mkdir()
    (trap / f"{name}.py").write_text(TRAP.format(path=str(caught)))
    worker = begin("return x", {"PYTHONPATH": str(trap), "PYTHONHOME": "", "PYTHONUSERBASE": str(trap)})
    worker.ready()
    assert not caught.exists()


@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "PYTHONPATH"])
def test_no_search_path_opens_a_folder_of_the_machine(begin: Callable, tmp_path: Path, variable: str) -> None:
    secret = tmp_path / "home" / "admin.key"
    secret.parent.mkdir()
    secret.write_text("sw_owner_…")
    body = f"try:\n    open({str(secret)!r}).read()\nexcept PermissionError:\n    return x * 0\nreturn x"
    worker = begin(body, {variable: str(secret.parent)})
    worker.ready()
    assert worker.gateway().run(x=ONE)["y"] == [0]
