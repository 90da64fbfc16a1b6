"""From a command to answers, and from a signal to nothing left."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running import ANY_PORTS, FLOWER, FRAGILE, IRIS, Running, eventually, get, post, running


@pytest.fixture
def fragile(tmp_path: Path) -> str:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    return f"fragile={tmp_path / 'fragile.py'}"


def test_the_printed_curl_line_works_and_a_term_signal_leaves_nothing() -> None:
    with running(str(IRIS), "--replicas", "2") as server:
        server.wait_ready()
        assert server.titles() == [
            "slipway: gateway #1",
            "slipway: worker iris v1 #1",
            "slipway: worker iris v1 #2",
        ]
        (curl,) = [line for line in server.lines if line.lstrip().startswith("curl")]
        answer = json.loads(subprocess.check_output(shlex.split(curl), timeout=20))
        assert answer["outputs"][0]["data"] == [0], "a setosa"
        assert json.loads(subprocess.check_output(shlex.split(curl), timeout=20)) == answer
        assert get(f"{server.http}/v2/health/ready")[0] == 200
        assert server.status()["state"] == "ready"
        folders = [path for path in (server.folder / "run").iterdir() if path.is_dir()]
        assert [path.stat().st_mode & 0o777 for path in folders] == [0o700]


def test_ctrl_c_finishes_what_was_accepted_and_refuses_what_is_new(fragile: str) -> None:
    with running(fragile) as server, ThreadPoolExecutor(1) as pool:
        server.wait_ready()
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
        assert len(server.titles()) == 4
        server.signal(signal.SIGKILL)
        assert server.ended() == -signal.SIGKILL


@pytest.mark.parametrize("option", ["--port", "--grpc-port", "--admin-port"])
def test_a_port_in_use_is_one_clear_line(option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with running(str(IRIS), option, port, ports=tuple(_without(option))) as server:
            assert server.ended() == 2
            assert server.log.startswith(f"error: {option} {port}: process ")
            assert server.log.count("\n") == 1


def _without(option: str) -> list[str]:
    pairs = [ANY_PORTS[place : place + 2] for place in range(0, len(ANY_PORTS), 2)]
    return [word for pair in pairs if pair[0] != option for word in pair]


def test_a_model_that_cannot_be_loaded_ends_the_start_with_its_error(tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(IRIS.read_bytes()[:-200])
    with running(str(cut)) as server:
        assert server.ended() == 2
        last = server.log.splitlines()[-1]
        assert last.startswith("error: model 'cut': ")
        assert server.lines == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("notes.txt", b"just some words", "known are"), ("empty.onnx", b"", "known are")],
)
def test_what_nobody_recognises_is_told_what_is_known(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with running(str(tmp_path / name)) as server:
        assert server.ended() == 2
        assert words in server.log.splitlines()[-1]


def test_options_come_from_the_environment_too() -> None:
    more = {"SLIPWAY_PORT": "0", "SLIPWAY_GRPC_PORT": "-1", "SLIPWAY_ADMIN_PORT": "0", "SLIPWAY_LOG_JSON": "1"}
    with running(str(IRIS), ports=(), SLIPWAY_NAME="flowers", **more) as server:
        eventually(lambda: "slipway is ready" in server.log, "it says that it is ready")
        records = [json.loads(line) for line in server.log.splitlines()]
        (ready,) = [record for record in records if record["message"] == "slipway is ready"]
        assert ready["models"] == "flowers v1"
        status, _ = post(f"{ready['http']}/v2/models/flowers/infer", FLOWER)
        assert status == 200


def test_a_dry_run_starts_nothing() -> None:
    with running(str(IRIS), "--dry-run", "--replicas", "3") as server:
        assert server.ended() == 0
        said = server.read_all()
        assert said[0] == f"iris v1: onnx, {IRIS}"
        assert "3 worker process(es)" in said[1]


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
        assert processes == {"supervisor", "gateway #1", "gateway #2", "worker iris v1 #1", "worker iris v1 #2"}
        assert all(value > 0 for value in found["slipway_process_resident_bytes"].values())
        each = [get(f"{server.http}/v2/models/iris/stats") for _ in range(1)]
        assert each[0][0] == 200


def test_the_admin_door_answers_and_says_what_it_has() -> None:
    with running(str(IRIS)) as server:
        server.wait_ready()
        admin = server.address("Metrics").removesuffix("/metrics")
        assert get(f"{admin}/healthz")[0] == 200
        assert get(f"{admin}/readyz")[0] == 200
        status, body = get(f"{admin}/metricz")
        assert status == 404
        assert "did you mean /metrics?" in json.loads(body)["error"]
        status, body = post(f"{admin}/api/v1/status", {"a": 1})
        assert status == 405
        (replica,) = server.replicas()
        assert replica["state"] == "ready"
        assert replica["sandbox"]
        assert replica["rss_bytes"] > 1_000_000


def test_unload_and_load_through_the_repository() -> None:
    with running(str(IRIS), "--gateways", "2") as server:
        server.wait_ready()
        (before,) = server.replicas()
        assert post(f"{server.http}/v2/repository/models/iris/unload")[0] == 200
        assert server.titles() == ["slipway: gateway #1", "slipway: gateway #2"], "its memory is back"
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
        (after,) = server.replicas()
        assert after["generation"] > before["generation"]
        assert post(f"{server.http}/v2/repository/models/irsi/load")[0] == 404


def test_several_models_and_numbered_versions(tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / "flowers" / number).mkdir(parents=True)
        (tmp_path / "flowers" / number / "model.onnx").write_bytes(IRIS.read_bytes())
    with running(f"iris={IRIS}", str(tmp_path / "flowers")) as server:
        server.wait_ready()
        for path in ("iris", "flowers", "flowers/versions/v1", "flowers/versions/v2"):
            status, body = post(f"{server.http}/v2/models/{path}/infer", FLOWER)
            assert status == 200, (path, body)
