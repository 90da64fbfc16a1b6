from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.supervisor.cores import share_of_cores, usable_cores


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", 16), ("150000 100000", 2), ("50000 100000", 1), ("nonsense", 16)]
)
@pytest.mark.usefixtures("many_cores")
def test_a_quota_of_a_control_group_counts(tmp_path: Path, text: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert usable_cores(cgroup=tmp_path) == cores


@pytest.mark.usefixtures("many_cores")
def test_the_older_form_of_a_quota_counts_too(tmp_path: Path) -> None:
    assert usable_cores(cgroup=tmp_path) == 16
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("400000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cores(cgroup=tmp_path) == 4
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1")
    assert usable_cores(cgroup=tmp_path) == 16


@pytest.mark.parametrize(("replicas", "cores", "threads"), [(1, 8, 8), (3, 8, 2), (16, 8, 1), (2, 1, 1)])
def test_replicas_share_the_cores(replicas: int, cores: int, threads: int) -> None:
    assert share_of_cores(replicas=replicas, cores=cores) == threads
