"""What lies in a data directory that somebody else could write to before it was ours."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from slipway.errors import SetupError
from slipway.store.secrets import secret_key
from slipway.supervisor.data import DataFolder

PLANTED = "sw_owner_" + "A" * 43


def test_a_folder_that_was_open_to_all_is_shut_and_its_key_is_new(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o777)
    folder = DataFolder(tmp_path / "data")
    key = (tmp_path / "data" / "admin.key").read_text().strip()
    assert folder.owner_hash == hashlib.sha256(key.encode()).hexdigest()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data", tmp_path / "data" / "admin.key")}
    assert modes == {"data": 0o700, "admin.key": 0o600}
    folder.release()


def test_a_planted_link_is_not_the_owner_s_credential(tmp_path: Path) -> None:
    (tmp_path / "known").write_text(PLANTED)
    (tmp_path / "known").chmod(0o600)
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "admin.key").symlink_to(tmp_path / "known")
    with pytest.raises(SetupError, match="no file of yours"):
        DataFolder(tmp_path / "data")


def test_what_belongs_to_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_key(tmp_path / "secret.key")
    DataFolder(tmp_path / "data").release()
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    with pytest.raises(SetupError, match="no file of yours"):
        secret_key(tmp_path / "secret.key")
    with pytest.raises(SetupError, match="belongs to another user"):
        DataFolder(tmp_path / "data")
