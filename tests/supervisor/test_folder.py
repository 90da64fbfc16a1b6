from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.errors import SetupError
from slipway.supervisor.folder import OWNER, PREFIX, RuntimeFolder, sweep


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


HOLD = """
import sys
from slipway.supervisor.folder import RuntimeFolder
folder = RuntimeFolder()
folder.next_scratch()
print(folder.path, flush=True)
sys.stdin.read()
"""


def start_holder() -> tuple[subprocess.Popen[str], Path]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert holder.stdout is not None
    return holder, Path(holder.stdout.readline().strip())


def end(holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=10)


def test_only_the_owner_can_look_in(base: Path) -> None:
    folder = RuntimeFolder()
    assert folder.path.parent == base
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(folder.next_scratch()).stat().st_mode) == 0o700
    folder.remove()
    assert list(base.iterdir()) == []


def test_what_a_killed_supervisor_left_goes_at_the_next_start(base: Path) -> None:
    holder, left = start_holder()
    try:
        living = RuntimeFolder()
        assert left.exists(), "the folder of a living supervisor was taken"
        assert sweep(base) == []
    finally:
        end(holder)
    assert left.exists()
    fresh = RuntimeFolder()
    assert not left.exists()
    assert living.path.exists() and fresh.path.exists()
    living.remove()
    fresh.remove()


def test_other_peoples_folders_are_left_alone(base: Path) -> None:
    (base / f"{PREFIX}notes").mkdir()
    (base / f"{PREFIX}file").write_text("not a folder")
    (base / "elsewhere").mkdir()
    (base / "elsewhere" / OWNER).write_text("1")
    (base / f"{PREFIX}link").symlink_to(base / "elsewhere")
    assert sweep(base) == []
    assert (base / "elsewhere" / OWNER).exists()


def test_sockets_fit_where_the_temp_dir_has_a_long_name(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = base / ("d" * 90)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    folder = RuntimeFolder()
    try:
        assert deep not in folder.path.parents
        paths = [folder.next_socket() for _ in range(3)]
        assert len(set(paths)) == 3
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(paths[0])
    finally:
        folder.remove()


@pytest.mark.usefixtures("base")
def test_a_full_disk_or_a_read_only_one_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slipway.supervisor.folder.tempfile.mkdtemp", full)
    with pytest.raises(SetupError, match="No space left on device"):
        RuntimeFolder()
