"""`slipway up`, `down` and `systemd`: a real server in front of and behind the terminal."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli_stage import COMMAND, DEADLINE_S, ROOT, Ran, Shell
from cryptography.hazmat.primitives.serialization import Encoding

from slipway.cli.up import without_password
from slipway.cli.up_options import UpOptions, arguments_of, config_from
from slipway.errors import InvalidSpec, SetupError
from slipway.spec.server import ServerConfig

IRIS = ROOT / "examples" / "iris" / "iris.onnx"
ANY_PORTS = ("--port", "0", "--grpc-port", "-1", "--admin-port", "0")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Shell]:
    """A shell whose data directory is its own; whatever was started in it ends."""
    data = tmp_path / "data"
    shell = Shell(tmp_path, SLIPWAY_DATA_DIR=str(data))
    try:
        yield shell
    finally:
        card = data / "server.json"
        if card.exists():
            with_pid = json.loads(card.read_text())["pid"]
            if psutil.pid_exists(with_pid):
                os.kill(with_pid, signal.SIGKILL)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"never came true: {what}")


def card_of(home: Shell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home.home / "data" / "server.json").read_text())
    return found


def up(home: Shell, *more: str) -> Ran:
    return home.run("up", "--detach", *ANY_PORTS, *more)


def test_a_detached_server_from_its_start_to_its_end(home: Shell) -> None:
    started = up(home)
    assert started.status == 0, started
    card = card_of(home)
    assert card["http"] in started.out and card["admin"] in started.out
    assert f"Slipway is ready: process {card['pid']}" in started.out
    log = home.home / "data" / "logs" / "server.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert (home.home / "data").stat().st_mode & 0o777 == 0o700
    supervisor = psutil.Process(card["pid"])
    assert os.getsid(card["pid"]) == card["pid"], "in a session of its own"
    assert psutil.Process(card["pid"]).terminal() is None
    again = up(home)
    assert again.status == 2
    assert f"process {card['pid']} runs on it already; `slipway down` ends it" in again.err
    deployed = home.run("deploy", str(IRIS))
    assert deployed.status == 0, deployed
    assert deployed.out == "iris v1 is live (created)\n"
    assert home.run("status", "iris", "--check").status == 0
    ended = home.run("down")
    assert ended.status == 0, ended
    assert "ended after" in ended.out
    assert not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE
    assert home.run("down").out.startswith("No server runs on ")
    back = up(home)
    assert back.status == 0, back
    eventually(lambda: home.run("status", "iris", "--check").status == 0, "what was deployed comes back")
    assert home.run("down", "--now").status == 0


def test_a_start_that_fails_shows_the_end_of_its_log(home: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = home.run("up", "--detach", "--port", str(port), "--grpc-port", "-1", "--admin-port", "0")
    assert failed.status == 2
    assert "ended with status 2 before it was ready" in failed.err
    assert f"--port {port}: process" in failed.err


def test_its_owner_trusts_the_certificate_that_the_data_directory_names(home: Shell) -> None:
    """Whoever signed it, and whatever names are in it; nobody else does."""
    tls = ROOT / "tests" / "client" / "tls"
    (home.home / "etc").mkdir()
    for name in ("cert.pem", "key.pem"):
        (home.home / "etc" / name).write_bytes((tls / name).read_bytes())
    (home.home / "etc" / "server.yaml").write_text("tls: {certificate: ./cert.pem, key: ./key.pem}\n")
    started = up(home, "--config", "etc/server.yaml", "--timeout-s", "30")
    assert started.status == 0, "its paths begin at its folder, and it is waited for over TLS"
    admin = card_of(home)["admin"]
    assert admin.startswith("https://")
    assert home.run("whoami").out.startswith("owner 'owner'")
    assert home.run("whoami", "--server", admin).out.startswith("owner 'owner'")
    stranger = home.run("whoami", "--server", admin, "--key", "sw_abcd1234_x", SLIPWAY_DATA_DIR=str(home.home / "no"))
    assert stranger.status == 6
    assert "CERTIFICATE_VERIFY_FAILED" in stranger.err
    card = home.home / "data" / "server.json"
    other = json.loads(card.read_text()) | {"certificate": str(another_certificate(home.home))}
    card.write_text(json.dumps(other))
    assert "CERTIFICATE_VERIFY_FAILED" in home.run("whoami").err, "that one and no other"
    assert home.run("down").status == 0


def another_certificate(folder: Path) -> Path:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(datetime.now(UTC)).not_valid_after(datetime.now(UTC) + timedelta(1))
    path = folder / "other.pem"
    path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


def test_a_key_set_that_is_not_there_is_told_before_anything_starts(home: Shell) -> None:
    (home.home / "etc").mkdir()
    (home.home / "etc" / "server.yaml").write_text("auth: {jwt: [{issuer: me, jwks: keys.json}]}\n")
    said = home.run("up", "--dry-run", *ANY_PORTS, "--config", "etc/server.yaml")
    assert said.status == 2
    assert f"auth.jwt[0].jwks: there is no file {home.home / 'etc' / 'keys.json'}" in said.err
    (home.home / "etc" / "keys.json").write_text('{"keys": []}')
    assert home.run("up", "--dry-run", *ANY_PORTS, "--config", "etc/server.yaml").status == 0


def test_the_first_key_of_a_server_for_others_is_shown_once_and_leaves_the_log(home: Shell) -> None:
    started = home.run("up", "--detach", *ANY_PORTS, "--host", "0.0.0.0")
    assert started.status == 0, started
    (key,) = [line for line in started.out.splitlines() if line.startswith("sw_")]
    log = (home.home / "data" / "logs" / "server.log").read_text()
    assert key.split("_", 2)[2] not in log
    assert f"{key[:11]}_{'*' * 43}" in log
    admin = card_of(home)["admin"]
    elsewhere = Shell(home.home / "elsewhere", SLIPWAY_SERVER=admin, SLIPWAY_KEY=key)
    elsewhere.home.mkdir()
    assert elsewhere.run("whoami", "-o", "json").json["scopes"] == ["admin"]
    assert elsewhere.run("list", SLIPWAY_KEY="").status == 4
    assert home.run("down").status == 0


def test_a_start_that_takes_too_long_is_stopped(home: Shell) -> None:
    late = up(home, "--timeout-s", "0.1")
    assert late.status == 7
    assert "not ready in time; it was stopped" in late.err
    assert home.run("down").out.startswith("No server runs on ")


def test_ctrl_c_while_waiting_stops_what_was_started(home: Shell) -> None:
    log = home.home / "data" / "logs" / "server.log"
    starting = subprocess.Popen(
        [*COMMAND, "up", "--detach", *ANY_PORTS], cwd=home.home, env=home.environment, stderr=subprocess.PIPE, text=True
    )
    eventually(lambda: log.exists() and log.stat().st_size, "the server has begun")
    starting.send_signal(signal.SIGINT)
    _, said = starting.communicate(timeout=DEADLINE_S)
    assert starting.returncode == 130, said
    assert "stopping what was started" in said
    assert home.run("down").out.startswith("No server runs on ")


def test_down_waits_for_what_is_being_answered(home: Shell) -> None:
    """A request in flight is answered; in the meantime `down` says what it waits for, and can give up waiting."""
    assert up(home).status == 0
    (home.home / "slow.py").write_text(
        "import time\nimport slipway\n\n\nclass Slow(slipway.Model):\n"
        "    inputs = {'x': 'FP32[-1]'}\n    outputs = {'y': 'FP32[-1]'}\n    batchable = False\n\n"
        "    def predict(self, x):\n        time.sleep(float(x[0]))\n        return x\n"
    )
    deployed = home.run("deploy", "slow.py:Slow")
    assert deployed.status == 0, deployed
    url = f"{card_of(home)['http']}/v2/models/slow/infer"
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [4.0]}]})
    asking = subprocess.Popen(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url, "-d", body], stdout=subprocess.PIPE, text=True
    )
    metrics = f"{card_of(home)['admin']}/metrics"
    eventually(lambda: 'inflight_requests{model="slow",version="v1"} 1.0' in _get(metrics), "it is being computed")
    hasty = home.run("down", "--timeout-s", "0.5")
    assert hasty.status == 7
    assert "still drains" in hasty.err
    assert "`slipway down --now`" in hasty.err
    patient = home.run("down")
    assert patient.status == 0, "to ask again is not to ask for haste"
    assert "draining: " in patient.err
    assert asking.communicate(timeout=DEADLINE_S)[0] == "200"


def _get(url: str) -> str:
    return subprocess.run(["curl", "-s", url], capture_output=True, text=True, check=False).stdout


def test_down_of_a_directory_that_is_not_there(home: Shell) -> None:
    said = home.run("down", "--data-dir", "/nowhere/at/all")
    assert said.status == 3
    assert "there is no data directory /nowhere/at/all" in said.err


def test_a_dry_run_says_what_would_run(home: Shell) -> None:
    said = home.run("up", "--dry-run", "--port", "0", "--grpc-port", "-1", "--admin-port", "0", "--gateways", "3")
    assert said.status == 0, said
    assert "data (will be made)" in said.out
    assert "3 gateway process(es). Nothing was started." in said.out
    assert not (home.home / "data").exists()


# --- options and the configuration file -------------------------------------------------------------------------------


def test_what_is_typed_comes_on_top_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("host: 0.0.0.0\nports: {http: 9000, grpc: 9001}\ngateways: 2\nlogs: {json: true}\ndrain_s: 5\n")
    config = config_from(UpOptions(config=str(file), port=7000, log_json=False))
    assert (config.host, config.gateways, config.drain_s) == ("0.0.0.0", 2, 5)
    assert (config.ports.http, config.ports.grpc, config.ports.admin) == (7000, 9001, 8082)
    assert config.logs.json is False
    assert config_from(UpOptions()) == ServerConfig()


def test_what_is_wrong_in_the_file_has_its_place(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("host: 0.0.0.0\ngateway: 2\n")
    with pytest.raises(InvalidSpec, match=r"server\.yaml:2:1: .*did you mean 'gateways'\?"):
        config_from(UpOptions(config=str(file)))
    with pytest.raises(SetupError, match=r"--config .*No such file"):
        config_from(UpOptions(config=str(tmp_path / "none.yaml")))
    with pytest.raises(SetupError, match="--log-level is 'loud'"):
        config_from(UpOptions(log_level="loud"))


def test_the_same_options_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = UpOptions(
        data_dir="d", port=0, admin_port=-1, drain_s=0.0, log_json=False, detach=True, timeout_s=3, host="::1"
    )
    assert arguments_of(given) == [
        f"--data-dir={tmp_path}/d", "--host=::1", "--port=0", "--admin-port=-1", "--drain-s=0.0", "--no-log-json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pa:ss@db/slipway", "postgresql://me:…@db/slipway"),
        ("postgresql://me@db/slipway", "postgresql://me@db/slipway"),
        ("postgresql://me@db/s?password=x&a=b", "postgresql://me@db/s?password=…&a=b"),
        ("sqlite:////srv/a.db", "sqlite:////srv/a.db"),
        ("", ""),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


# --- systemd ----------------------------------------------------------------------------------------------------------


def unit(home: Shell, *arguments: str) -> configparser.ConfigParser:
    said = home.run("systemd", *arguments)
    assert said.status == 0, said
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(said.out)
    return parser


def test_the_unit_starts_this_server_and_keeps_it(home: Shell) -> None:
    found = unit(home, "--port", "9000", "--drain-s", "7")
    service = found["Service"]
    command = shlex.split(service["ExecStart"])
    assert command[:4] == [sys.executable, "-m", "slipway", "up"]
    assert command[4:] == [f"--data-dir={home.home}/data", "--port=9000", "--drain-s=7.0"]
    assert (service["Restart"], service["KillMode"], service["TimeoutStopSec"]) == ("always", "mixed", "37")
    assert found["Install"]["WantedBy"] == "multi-user.target"
    assert "User" in service
    mine = unit(home, "--user")
    assert mine["Install"]["WantedBy"] == "default.target"
    assert "User" not in mine["Service"]


def test_the_unit_quotes_as_systemd_reads(home: Shell) -> None:
    said = home.run("systemd", "--data-dir", str(home.home / "a b%c$d"))
    assert f'"--data-dir={home.home}/a b%%c$$d"' in said.out


def test_no_password_in_a_unit(home: Shell) -> None:
    said = home.run("systemd", "--database", "postgresql://me:secret@db/slipway")
    assert said.status == 2
    assert "secret" not in said.out + said.err
