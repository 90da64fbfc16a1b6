"""Which server is meant and which credential goes to it; and that none goes to a server it was not for."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.client.login import find_server, forget_login, login_path, read_logins, save_login
from slipway.errors import InvalidInput, SetupError

OWNER = "sw_owner_" + "a" * 43


@pytest.fixture
def around(tmp_path: Path) -> dict[str, str]:
    """An environment of its own: a home without anything."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "SLIPWAY_DATA_DIR": str(tmp_path / "data")}


def runs_here(around: dict[str, str], admin: str = "http://127.0.0.1:8082", pid: int | None = None) -> Path:
    folder = Path(around["SLIPWAY_DATA_DIR"])
    folder.mkdir(exist_ok=True)
    (folder / "server.json").write_text(json.dumps({"pid": pid or os.getpid(), "admin": admin, "more": 1}))
    (folder / "admin.key").write_text(OWNER + "\n")
    return folder


def test_arguments_come_first(around: dict[str, str]) -> None:
    runs_here(around)
    found = find_server(
        server="https://models.example", key="sw_k", environment=around | {"SLIPWAY_SERVER": "http://x"}
    )
    assert (found.server, found.headers()) == ("https://models.example:443", {"authorization": "Bearer sw_k"})


def test_then_the_environment(around: dict[str, str]) -> None:
    runs_here(around)
    found = find_server(environment=around | {"SLIPWAY_SERVER": "http://there:9", "SLIPWAY_KEY": "sw_e"})
    assert (found.server, found.key) == ("http://there:9", "sw_e")


def test_then_the_server_of_the_data_directory_with_its_owners_key(around: dict[str, str]) -> None:
    save_login("http://other:1", key="sw_saved", environment=around)
    folder = runs_here(around)
    found = find_server(environment=around)
    assert (found.server, found.key) == ("http://127.0.0.1:8082", OWNER)
    assert str(folder) in found.found


def test_then_what_login_remembers(around: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", around["XDG_CONFIG_HOME"])
    save_login("http://first:1", key="sw_first", environment=around)
    save_login("http://second:2", key="sw_second", ca_file="/ca.pem", environment=around)
    del around["SLIPWAY_DATA_DIR"]
    found = find_server(environment=around)
    assert (found.server, found.key, found.ca_file) == ("http://second:2", "sw_second", "/ca.pem")


def test_no_credential_goes_to_a_server_that_it_was_not_for(around: dict[str, str]) -> None:
    runs_here(around)
    save_login("http://first:1", key="sw_first", environment=around)
    assert find_server(server="http://stranger:1", environment=around).key == ""
    assert find_server(server="http://first:1", environment=around).key == "sw_first"
    assert find_server(server="127.0.0.1:8082", environment=around).key == OWNER


def test_a_server_that_was_killed_is_not_there(around: dict[str, str]) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = runs_here(around, pid=ended.pid)
    with pytest.raises(SetupError, match=f"no server runs in {folder}.*slipway up"):
        find_server(environment=around)


def test_a_server_without_management_door_says_so(around: dict[str, str]) -> None:
    runs_here(around, admin="")
    with pytest.raises(SetupError, match="no management door"):
        find_server(environment=around)


def test_a_user_instead_of_a_key(around: dict[str, str]) -> None:
    runs_here(around)
    found = find_server(user="ann", password="pässword", environment=around)
    assert found.headers() == {"authorization": "Basic YW5uOnDDpHNzd29yZA=="}
    with pytest.raises(SetupError, match="not both"):
        find_server(user="ann", password="x", key="sw_k", environment=around)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"server": "ftp://x"}, "is not a URL"),
        ({"server": "grpc://x:1"}, "is gRPC"),
        ({"server": "http://x:99999"}, "is not a URL"),
        ({"server": "http://x", "key": "sw_a\nb"}, "line break"),
    ],
)
def test_what_cannot_be(around: dict[str, str], settings: dict[str, str], words: str) -> None:
    with pytest.raises(SetupError, match=words):
        find_server(**settings, environment=around)


def test_the_login_file_is_for_its_owner_only(around: dict[str, str]) -> None:
    path = save_login("http://first:1", key="sw_first", environment=around)
    assert path == login_path(around)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(SetupError, match="chmod 600"):
        read_logins(around)


def test_a_login_can_be_forgotten(around: dict[str, str]) -> None:
    save_login("http://first:1", key="sw_first", environment=around)
    save_login("http://second:2", key="sw_second", environment=around)
    assert forget_login(environment=around) == "http://second:2"
    assert read_logins(around).current == ""
    assert set(read_logins(around).servers) == {"http://first:1"}
    with pytest.raises(InvalidInput, match="no login for http://second:2"):
        forget_login("http://second:2", environment=around)


def test_a_broken_login_file_is_told(around: dict[str, str]) -> None:
    path = save_login("http://first:1", environment=around)
    path.write_text("{")
    with pytest.raises(SetupError, match="log in again"):
        read_logins(around)


def test_a_login_does_not_show_its_key(around: dict[str, str]) -> None:
    assert "sw_k" not in repr(find_server(server="http://x", key="sw_k", environment=around))
