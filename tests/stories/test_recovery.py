"""Replicas that die, stop, hang and leak, seen from outside."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from running import FRAGILE, IRIS, Running, eventually, get, running


@pytest.fixture
def fragile(tmp_path: Path) -> str:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    return f"fragile={tmp_path / 'fragile.py'}"


def ready_again(server: Running, *, index: int, after: int) -> bool:
    """A later generation of the replica is ready."""
    return any(
        replica["index"] == index and replica["generation"] > after and replica["state"] == "ready"
        for replica in server.replicas()
    )


def test_a_killed_worker_is_replaced_and_nobody_notices() -> None:
    with running(str(IRIS), "--replicas", "2") as server:
        server.wait_ready()
        os.kill(server.replicas()[0]["pid"], signal.SIGKILL)
        answers = [server.infer() for _ in range(20)]
        assert [answer for answer in answers if answer[0] != 200] == []
        eventually(lambda: ready_again(server, index=1, after=1), "it is back")
        first = server.replicas()[0]
        assert first["restarts"] == 1
        assert first["last_end"] == "exit by signal 9 (SIGKILL)"
        restarts = server.metrics()["slipway_replica_restarts_total"]
        assert restarts == {(("model", "iris"), ("reason", "signal"), ("version", "v1")): 1}


def test_a_stopped_worker_is_hung_and_replaced_and_readiness_is_honest() -> None:
    with running(str(IRIS), "--hang-s", "1.5") as server:
        server.wait_ready()
        os.kill(server.replicas()[0]["pid"], signal.SIGSTOP)
        eventually(lambda: get(f"{server.http}/v2/health/ready")[0] != 200, "it says that it is not ready")
        eventually(lambda: ready_again(server, index=1, after=1), "it is back")
        eventually(lambda: server.infer()[0] == 200, "it answers")
        assert "hung: no sign of life" in server.replicas()[0]["last_end"]


def test_a_batch_that_never_ends_costs_its_replica_and_no_other(fragile: str) -> None:
    with running(fragile, "--replicas", "2", "--hang-s", "1.5", "--not-idempotent") as server:
        server.wait_ready()
        status, body = server.double(-4)
        assert status == 503, body
        assert server.double(4)[1]["outputs"][0]["data"] == [8]
        eventually(lambda: all(r["state"] == "ready" for r in server.replicas()), "both are there")
        assert sum(replica["restarts"] for replica in server.replicas()) == 1


def test_a_model_that_keeps_dying_is_a_clear_status_and_no_spin(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(
        "import os, threading, slipway\n"
        "class Dying(slipway.Model):\n"
        "    inputs = {'x': 'FP32[-1]'}\n"
        "    outputs = {'y': 'FP32[-1]'}\n"
        "    def predict(self, x):\n"
        "        threading.Timer(0.2, os._exit, [7]).start()\n"
        "        return x\n"
    )
    with running(f"dying={tmp_path / 'dying.py'}", "--drain-s", "1") as server:
        server.wait_ready()
        said = eventually(
            lambda: [d["reason"] for d in server.status()["deployments"] if "crashes in 60 s" in d["reason"]],
            "the status speaks of a crash loop",
        )
        assert "last: exit with status 7" in said[0]
        status, body = server.infer("dying", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]})
        if status != 200:  # in a moment of life it may answer
            assert status == 503
            assert "crashes in 60 s" in body["error"]


def test_a_gateway_that_dies_is_replaced_and_sums_do_not_go_back() -> None:
    with running(str(IRIS)) as server:
        server.wait_ready()
        assert all(server.infer()[0] == 200 for _ in range(5))
        assert sum(server.metrics()["slipway_requests_total"].values()) == 5
        os.kill(server.status()["gateways"][0]["pid"], signal.SIGKILL)
        eventually(lambda: server.status()["gateways"][0]["restarts"] == 1, "it was started again")

        def answers() -> bool:
            try:
                return server.infer()[0] == 200
            except OSError:
                return False

        eventually(answers, "it serves again")
        assert sum(server.metrics()["slipway_requests_total"].values()) == 6
        assert server.metrics()["slipway_gateway_restarts_total"][()] == 1
