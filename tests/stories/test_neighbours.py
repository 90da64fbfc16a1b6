"""What a deployment on its way in leaves to those who serve, and that it has everything once it serves itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from upping import Up, constant_model, eventually, upped

import slipway
from slipway.launchers.courtesy import MIDDLE_SLICE_NS, last_half, slice_of

MODEL = """
import os
import numpy as np
from slipway import Model


def here():
    return [len(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)]


class Standing(Model):
    inputs = {"x": "FP32[-1]"}
    outputs = {"while_loading": "INT64[-1,2]", "now": "INT64[-1,2]"}

    def load(self, *_):
        self.then = here()

    def predict(self, x):
        return {"while_loading": np.array([self.then] * len(x)), "now": np.array([here()] * len(x))}
"""
CORES = os.sched_getaffinity(0)


@pytest.fixture
def up() -> Iterator[Up]:
    with upped() as running:
        yield running


def standing(up: Up, name: str) -> tuple[list[int], list[int]]:
    """(number of cores, niceness): while it loaded, and now."""
    with slipway.Client(up.http) as client:
        said = client.predict(name, np.zeros(1, np.float32))
        return said["while_loading"][0].tolist(), said["now"][0].tolist()


def test_who_loads_beside_others_stands_aside_until_it_serves(up: Up, tmp_path: Path) -> None:
    model = tmp_path / "standing.py"
    model.write_text(MODEL)
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    everything = [len(CORES), ours]
    with up.admin() as admin:
        admin.deploy(str(model), name="first", wait=True)
        assert standing(up, "first") == (everything, everything), "there was nobody to stand aside for"
        admin.deploy(str(model), name="second", wait=True)
        aside, _ = standing(up, "second")
        assert aside[0] == len(last_half(CORES))
        eventually(lambda: standing(up, "second")[1] == everything, "it has all the cores, and its priority again")


BLAS = """
import numpy as np
import threadpoolctl
from slipway import Model


def widths():
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


class Wide(Model):
    inputs = {"x": "FP32[-1]"}
    outputs = {"widths": "INT64[-1,-1]"}

    def predict(self, x):
        return {"widths": np.array([widths()] * len(x))}
"""


def test_linear_algebra_that_was_loaded_aside_has_its_threads_once_it_serves(up: Up, tmp_path: Path) -> None:
    model = tmp_path / "wide.py"
    model.write_text(BLAS)
    found = []
    with up.admin() as admin, slipway.Client(up.http) as client:
        for name in ("first", "second"):
            admin.deploy(str(model), name=name, wait=True)
            found.append(client.predict(name, np.zeros(1, np.float32))["widths"][0].tolist())
    assert found == [[len(CORES)]] * 2


def test_who_decides_stands_aside_of_who_serves(up: Up, tmp_path: Path) -> None:
    with up.admin() as admin:
        admin.deploy(constant_model(tmp_path / "m.onnx", 3), name="m", wait=True)
    (controller,), (gateway,), (worker,) = (up.processes(kind) for kind in ("controller", "gateway", "worker"))
    assert [os.sched_getaffinity(pid) for pid in (up.process.pid, controller.pid)] == [last_half(CORES)] * 2
    assert [os.sched_getaffinity(process.pid) for process in (gateway, worker)] == [CORES] * 2
    own, aside = slice_of(), slice_of(controller.pid)
    assert {slice_of(process.pid) for process in (gateway, worker)} == {own}
    assert aside == slice_of(up.process.pid) and aside in (own, MIDDLE_SLICE_NS), "before Linux 6.12 there is one"
