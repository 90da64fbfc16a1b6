"""From a signal to nothing left."""

from __future__ import annotations

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running import FRAGILE, IRIS, Running, eventually, running


@pytest.fixture
def fragile(tmp_path: Path) -> str:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    return f"fragile={tmp_path / 'fragile.py'}"


def test_ctrl_c_finishes_what_was_accepted_and_refuses_what_is_new(fragile: str) -> None:
    with running(fragile) as server, ThreadPoolExecutor(1) as pool:
        server.wait_ready()
        assert in_flight(server) == 0  # asked once, so that the controller, which starts last, is there
        with socket.create_connection(("127.0.0.1", int(server.http.rpartition(":")[2])), timeout=30) as early:
            slow = pool.submit(server.double, -3)
            eventually(lambda: in_flight(server) == 1, "the slow request was accepted")
            server.signal(signal.SIGINT)
            eventually(lambda: server.status()["state"] == "draining", "it drains")
            body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).encode()
            early.sendall(
                b"POST /v2/models/fragile/infer HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            early.sendall(body)
            refused = early.recv(4096)
        assert slow.result()[0] == 200
        assert slow.result()[1]["outputs"][0]["data"] == [-6]
        assert refused == b"" or b" 503 " in refused.splitlines()[0]
        assert server.ended() == 0


def in_flight(server: Running) -> float:
    return sum(server.metrics().get("slipway_inflight_requests", {}).values())


def test_a_second_ctrl_c_stops_at_once(fragile: str) -> None:
    with running(fragile, "--hang-s", "600") as server, ThreadPoolExecutor(1) as pool:
        server.wait_ready()
        hanging = pool.submit(server.double, -4)
        eventually(lambda: in_flight(server) == 1, "the request hangs")
        server.signal(signal.SIGINT)
        eventually(lambda: server.status()["state"] == "draining", "it drains")
        server.signal(signal.SIGINT)
        assert server.ended() == 130
        with pytest.raises(OSError):
            hanging.result()


def test_kill_9_of_the_supervisor_leaves_nothing() -> None:
    with running(str(IRIS), "--replicas", "2", "--gateways", "2") as server:
        server.wait_ready()
        eventually(lambda: len(server.titles()) == 6, "supervisor, controller, two gateways, two workers")
        server.signal(signal.SIGKILL)
        assert server.ended() == -signal.SIGKILL


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_a_signal_while_it_loads_leaves_nothing(tmp_path: Path, number: int, status: int) -> None:
    (tmp_path / "slow.py").write_text(FRAGILE + "    def load(self): time.sleep(600)\n")
    with running(f"slow={tmp_path / 'slow.py'}") as server:
        eventually(lambda: "slow v1 #1: load" in server.log, "it loads")
        server.signal(number)
        assert server.ended() == status
