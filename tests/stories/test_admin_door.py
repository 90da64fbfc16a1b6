"""A running server seen and changed from outside: metrics, status, and the model repository."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

from running import COMMAND, IRIS, eventually, get, post, running


def test_metrics_are_exact_sums_over_gateways() -> None:
    with running(str(IRIS), "--gateways", "2", "--replicas", "2") as server:
        server.wait_ready()
        requests, threads = 200, 8

        def ask(_: int) -> int:
            return server.infer()[0]  # a connection each, so that the kernel spreads them

        with ThreadPoolExecutor(threads) as pool:
            assert set(pool.map(ask, range(requests))) == {200}
        bad, _ = server.infer(body={"inputs": []})
        assert bad == 400
        found = server.metrics()
        labels = (("model", "iris"), ("version", "v1"))
        by_code = {dict(key)["code"]: value for key, value in found["slipway_requests_total"].items()}
        assert by_code == {"ok": requests, "invalid_input": 1}
        assert found["slipway_request_seconds_count"][labels] >= requests
        assert found["slipway_queue_seconds_count"][labels] == requests
        assert found["slipway_batch_rows_sum"][labels] == requests
        assert found["slipway_gateways_summed"][()] == 2
        ready = found["slipway_replicas"][("model", "iris"), ("state", "ready"), ("version", "v1")]
        assert ready == 2
        processes = {dict(key)["process"] for key in found["slipway_process_resident_bytes"]}
        workers = {"worker iris v1 #1", "worker iris v1 #2"}
        assert processes == {"supervisor", "controller", "gateway #1", "gateway #2"} | workers
        assert all(value > 0 for value in found["slipway_process_resident_bytes"].values())


def test_the_admin_door_answers_and_says_what_it_has() -> None:
    with running(str(IRIS)) as server:
        server.wait_ready()
        admin = server.address("Metrics").removesuffix("/metrics")
        assert get(f"{admin}/healthz")[0] == 200
        assert get(f"{admin}/readyz")[0] == 200
        status, body = get(f"{admin}/metricz")
        assert status == 404
        assert "/docs" in json.loads(body)["detail"]
        status, body = post(f"{admin}/api/v1/status", {"a": 1})
        assert status == 405
        table = subprocess.check_output([*COMMAND, "status", "--server", admin], text=True, timeout=30)
        assert re.search(r"^#1 +\d+ +ready", table, re.M), "the gateway"
        assert re.search(r"^iris +ready +v1 +live +1/1", table, re.M)
        (replica,) = server.replicas()
        assert replica["state"] == "ready"
        assert replica["sandbox"]
        assert replica["memory_bytes"] > 1_000_000


def test_status_of_no_server_is_one_clear_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        asked = subprocess.run(
            [*COMMAND, "status", "--server", url], capture_output=True, text=True, timeout=30, check=False
        )
    assert asked.returncode == 6
    assert asked.stderr.startswith(f"error: cannot reach {url}")
    assert asked.stderr.count("\n") == 1


def test_unload_and_load_through_the_repository() -> None:
    with running(str(IRIS), "--gateways", "2") as server:
        server.wait_ready()
        (before,) = server.replicas()
        assert post(f"{server.http}/v2/repository/models/iris/unload")[0] == 200
        assert not [title for title in server.titles() if "worker" in title], "its memory is back"
        assert {server.infer()[0] for _ in range(10)} == {503}, "both gateways know"
        stop = threading.Event()
        assert post(f"{server.http}/v2/repository/models/iris/load")[0] == 200
        assert {server.infer()[0] for _ in range(10)} == {200}, "both gateways serve it again"
        failures: list[int] = []

        def keep_asking() -> None:
            while not stop.is_set():
                status = server.infer()[0]
                if status != 200:
                    failures.append(status)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        assert post(f"{server.http}/v2/repository/models/iris/load")[0] == 200
        stop.set()
        asking.join()
        assert failures == [], "a reload is not seen from outside"
        (after,) = eventually(lambda: len(found := server.replicas()) == 1 and found, "its predecessor is gone")
        assert after["generation"] > before["generation"]
        assert post(f"{server.http}/v2/repository/models/irsi/load")[0] == 404
