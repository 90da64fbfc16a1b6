"""From a command to answers, or to one clear line."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
from running import ANY_PORTS, FLOWER, IRIS, eventually, get, post, running


def test_the_printed_curl_line_works_and_a_term_signal_leaves_nothing() -> None:
    with running(str(IRIS), "--replicas", "2") as server:
        server.wait_ready()
        assert server.status()["state"] == "ready"
        assert server.titles() == [
            "slipway: controller",
            "slipway: gateway #1",
            "slipway: supervisor",
            "slipway: worker iris v1 #1",
            "slipway: worker iris v1 #2",
        ]
        (curl,) = [line for line in server.lines if line.lstrip().startswith("curl")]
        answer = json.loads(subprocess.check_output(shlex.split(curl), timeout=20))
        assert answer["outputs"][0]["data"] == [0], "a setosa"
        assert json.loads(subprocess.check_output(shlex.split(curl), timeout=20)) == answer
        assert get(f"{server.http}/v2/health/ready")[0] == 200
        folders = [path for path in (server.folder / "run").iterdir() if path.is_dir()]
        assert [path.stat().st_mode & 0o777 for path in folders] == [0o700]


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


def test_several_models_and_numbered_versions(tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / "flowers" / number).mkdir(parents=True)
        (tmp_path / "flowers" / number / "model.onnx").write_bytes(IRIS.read_bytes())
    with running(f"iris={IRIS}", str(tmp_path / "flowers")) as server:
        server.wait_ready()
        for path in ("iris", "flowers", "flowers/versions/v1", "flowers/versions/v2"):
            status, body = post(f"{server.http}/v2/models/{path}/infer", FLOWER)
            assert status == 200, (path, body)
