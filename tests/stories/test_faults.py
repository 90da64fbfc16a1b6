"""What a machine does to a server: databases that go away, disks that are full or locked, clocks that jump. What runs
goes on, what cannot be done is refused in clear words, and when the trouble is over nobody has to do anything."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from postgres import Postgres, running_postgres
from upping import COMMAND, Up, constant_model, eventually, upped

import slipway
from slipway.client.retry import Retry
from slipway.errors import SlipwayError, StoreUnavailable, Unauthenticated

INPUT = np.ones((1, 1), np.float32)
ONCE = Retry(attempts=1)
MANY = 120
"""Lines of 100 kB each: more than the small disk has."""
SMALL_DISK = "8m"
NOISY = """
import sys, slipway
class Noisy(slipway.Model):
    inputs = {"x": "FP32[-1,1]"}
    outputs = {"y": "FP32[-1,1]"}
    def predict(self, x):
        print("n" * 100_000)
        print("e" * 1000, file=sys.stderr)
        return x
"""


@pytest.fixture(scope="module")
def fragile() -> Iterator[Postgres]:
    """A database server of this file's own: it is stopped here, and others want theirs."""
    with running_postgres() as server:
        yield server


def admin_of(up: Up) -> slipway.Admin:
    return slipway.Admin(data_dir=str(up.data_dir), retry=ONCE)


def answers(up: Up, key: str = "", name: str = "m") -> float | None:
    """What the model says, None where nobody answers."""
    with contextlib.suppress(SlipwayError), slipway.Client(up.http, key=key or owner_key(up), retry=ONCE) as client:
        return float(client.predict(name, INPUT)["y"].ravel()[0])
    return None


def owner_key(up: Up) -> str:
    return (up.data_dir / "admin.key").read_text().strip()


def said_of(up: Up, *verb: str) -> str:
    """What `slipway VERB` prints, whether it ends well or not."""
    ran = subprocess.run(
        [*COMMAND, *verb, "--data-dir", str(up.data_dir)], capture_output=True, text=True, check=False, timeout=60
    )
    return ran.stdout + ran.stderr


def refused(admin: slipway.Admin, words: str) -> None:
    """Nothing that changes something is accepted, and each says why."""
    for change in (
        lambda: admin.scale("m", 2),
        lambda: admin.create_key("late", scopes=["predict:*"]),
        lambda: admin.put_secret("late", value="x" * 8000),
    ):
        with pytest.raises(StoreUnavailable, match=words):
            change()


def killed_worker_is_back(up: Up) -> None:
    (worker,) = up.processes("worker m")
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: not worker.is_running() and answers(up) is not None, "the worker's successor answers")


def trouble_of(up: Up) -> str:
    """Why it can change nothing, as far as it says so."""
    with contextlib.suppress(SlipwayError), admin_of(up) as admin:
        return admin.status().trouble
    return ""


def can_change(up: Up) -> bool:
    with contextlib.suppress(SlipwayError), admin_of(up) as admin:
        status = admin.status()
        return status.leader and not status.trouble
    return False


def whole(admin: slipway.Admin, *names: str) -> None:
    """Nothing of what was refused is there, and nothing that was there is gone."""
    assert sorted(found.name for found in admin.deployments()) == sorted(names)
    assert "late" not in [found.name for found in admin.keys()]  # noqa: SIM118 - no dict
    assert not admin.secrets()
    assert admin.verify_audit().broken_at is None


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def test_postgres_goes_away_and_comes_back(fragile: Postgres, tmp_path: Path) -> None:
    with upped(SLIPWAY_DATABASE=fragile.new_database()) as up, admin_of(up) as admin:
        admin.deploy(constant_model(tmp_path / "m.onnx", 1), name="m", wait=True)
        key = admin.create_key("ci", scopes=["predict:*"])
        fragile.stop()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            admin.revoke_key(key.id)
        refused(admin, "cannot be reached")
        killed_worker_is_back(up)
        assert answers(up, key.secret) == 1, "it was not revoked, and nobody was told that it was"
        assert admin.deployment("m").live == "v1", "what is true now is known without the database"
        eventually(lambda: not admin.status().leader, "it knows that it cannot decide")
        assert re.search(r"trouble +The store postgresql://\S+ cannot be reached", said_of(up, "status"))
        refused(admin, "The store .* cannot be reached")
        (gateway,) = up.processes("gateway")
        os.kill(gateway.pid, signal.SIGKILL)
        eventually(lambda: answers(up, key.secret) == 1, "a new gateway knows who may come in, and what runs")
        fragile.start()
        eventually(lambda: can_change(up), "it decides again")
        whole(admin, "m")
        admin.revoke_key(key.id)

        def shut_out() -> bool:
            with slipway.Client(up.http, key=key.secret, retry=ONCE) as client, contextlib.suppress(Unauthenticated):
                client.predict("m", INPUT)
                return False
            return True

        eventually(shut_out, "now it is revoked")


def test_a_server_waits_for_its_database_and_says_so(fragile: Postgres) -> None:
    database = fragile.new_database()
    fragile.stop()
    folder = Path(tempfile.mkdtemp(prefix="up-", dir="/tmp"))
    up = Up(folder, SLIPWAY_DATABASE=database)
    try:
        up.begin()
        eventually(lambda: (up.data_dir / "server.json").exists() and trouble_of(up), "it can be asked")
        said = said_of(up, "status")
        assert re.search(r"^starting for .* does not lead", said, re.M), said
        assert "cannot be reached" in said
        assert "cannot be reached" in up.log
        assert up.runs and not up.page
        fragile.start()
        up.await_ready()
        assert can_change(up)
        assert up.stop() == 0
    finally:
        if up.runs:
            up.kill()
        shutil.rmtree(folder)


# --- SQLite -----------------------------------------------------------------------------------------------------------


def test_a_database_file_that_is_locked_vanishes_and_is_replaced(tmp_path: Path) -> None:
    database = tmp_path / "db" / "slipway.db"
    database.parent.mkdir()
    with upped(SLIPWAY_DATABASE=f"sqlite:///{database}?timeout=0.5") as up, admin_of(up) as admin:
        admin.deploy(constant_model(tmp_path / "1" / "m.onnx", 1), name="m", wait=True)
        backup = tmp_path / "backup.db"
        with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(backup)) as to:
            source.backup(to)

        # Locked by another process.
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="is locked by another process"):
                admin.create_key("late", scopes=["predict:*"])
            assert answers(up) == 1
            eventually(lambda: "locked by another process" in admin.status().trouble, "its status says so")
            refused(admin, "is locked by another process")
            assert admin.events(limit=10), "reading goes on"
        eventually(lambda: can_change(up), "the lock is gone")
        whole(admin, "m")

        # Gone, and put back.
        admin.deploy(constant_model(tmp_path / "2" / "m.onnx", 2), name="m", wait=True)
        admin.deploy(constant_model(tmp_path / "3" / "m.onnx", 3), name="n", wait=True)
        moved = {path: tmp_path / path.name for path in database.parent.glob("slipway.db*")}
        for path, aside in moved.items():
            path.rename(aside)
        refused(admin, "is gone")
        killed_worker_is_back(up)
        assert not database.exists(), "no empty one in its place"
        for path, aside in moved.items():
            aside.rename(path)
        eventually(lambda: can_change(up), "the file is back")
        whole(admin, "m", "n")

        # A backup of before in its place: what runs becomes what that says.
        for path in moved:
            path.unlink(missing_ok=True)
        shutil.copy(backup, database)
        eventually(lambda: [found.name for found in admin.deployments()] == ["m"], "what was deployed since is gone")
        eventually(lambda: answers(up) == 1, "the version of then serves")
        eventually(lambda: not up.processes("worker n"), "and what it does not know has ended")
        made = admin.deploy(constant_model(tmp_path / "4" / "m.onnx", 4), name="m", wait=True)
        assert (made.live, answers(up)) == ("v2", 4)
        whole(admin, "m")


def test_a_folder_that_cannot_be_written_any_more(tmp_path: Path) -> None:
    model = constant_model(tmp_path / "m.onnx", 1)
    with upped(powerless=True) as up, admin_of(up) as admin:
        admin.deploy(model, name="m", wait=True)
        closed = [*up.data_dir.glob("slipway.db*"), *up.data_dir.rglob("artifacts/**/"), up.data_dir]
        modes = {path: path.stat().st_mode for path in closed}
        for path in closed:
            path.chmod(0o500 if path.is_dir() else 0o400)
        try:
            with pytest.raises(StoreUnavailable, match="cannot be written"):
                admin.deploy(constant_model(tmp_path / "2" / "m.onnx", 2), name="m")
            killed_worker_is_back(up)
            (controller,) = up.processes("controller")  # a new one has nothing open yet
            os.kill(controller.pid, signal.SIGKILL)
            eventually(lambda: "cannot be" in trouble_of(up), "its successor says what it lacks")
            refused(admin, "must be writable|must belong to the user")
            assert answers(up) == 1
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        eventually(lambda: can_change(up), "it may write again")
        whole(admin, "m")
        assert admin.deploy(constant_model(tmp_path / "2" / "m.onnx", 2), name="m", wait=True).live == "v2"


@pytest.fixture
def small() -> Iterator[Up]:
    """A server whose data directory is a disk of 8 MB, which takes root."""
    folder = Path(tempfile.mkdtemp(prefix="up-", dir="/tmp"))
    up = Up(folder)
    up.data_dir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=0700", "none", str(up.data_dir)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    try:
        if mounted.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
        up.start()
        yield up
        if up.runs:
            assert up.stop() == 0, up.log
    finally:
        if up.runs:
            up.kill()
        if not mounted.returncode:
            subprocess.run(["umount", "-l", str(up.data_dir)], check=True)
        shutil.rmtree(folder)


def test_a_full_disk(small: Up, tmp_path: Path) -> None:
    up = small
    (tmp_path / "noisy.py").write_text(NOISY)
    with admin_of(up) as admin, slipway.Client(up.http, key=owner_key(up), retry=ONCE) as client:
        admin.deploy(constant_model(tmp_path / "m.onnx", 1), name="m", wait=True)
        admin.deploy(tmp_path / "noisy.py", name="noisy", wait=True)
        for _ in range(MANY):  # its log fills the disk, which is no reason to fail
            assert client.predict("noisy", INPUT)["y"].tolist() == [[1.0]]
        filler = up.data_dir / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert shutil.disk_usage(up.data_dir).free == 0
        refused(admin, "is on a full disk")
        with pytest.raises(StoreUnavailable, match="full"):
            admin.deploy(constant_model(tmp_path / "big" / "m.onnx", 5, width=30_000), name="n")
        assert (answers(up), client.predict("noisy", INPUT)["y"].tolist()) == (1, [[1.0]])
        killed_worker_is_back(up)
        eventually(lambda: "is on a full disk" in admin.status().trouble, "its status says so")
        (controller,) = up.processes("controller")
        os.kill(controller.pid, signal.SIGKILL)
        eventually(lambda: "is on a full disk" in trouble_of(up), "so does its successor's")
        assert answers(up) == 1

        filler.unlink()
        os.truncate(next((up.data_dir / "logs" / "noisy").glob("*.log")), 0)
        eventually(lambda: can_change(up), "there is room again")
        whole(admin, "m", "noisy")
        incoming = [path for path in (up.data_dir / "artifacts" / "incoming").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in incoming) < 2**20, incoming
        made = admin.deploy(constant_model(tmp_path / "big" / "m.onnx", 5, width=30_000), name="n", wait=True)
        assert made.live == "v1" and answers(up, name="n") == 5
        for name in ("m", "noisy", "n"):
            admin.delete(name, wait=True)
        assert not list((up.data_dir / "logs").rglob("*.log")), "logs go with their deployments"


# --- clocks -----------------------------------------------------------------------------------------------------------


def change(admin: slipway.Admin) -> float:
    """When it was made, as the server wrote it down. What happened later has the higher number, whatever the clock."""
    before = admin.events(limit=1)[-1]
    for description in ("one", "another"):
        found = admin.deployment("m").spec
        assert admin.deploy(found | {"description": f"{description} {before.id}"}).change == "updated"
    after = [event for event in admin.events("m", after=before.id) if event.kind == "deployment.updated"]
    assert len(after) == 2 and before.id < after[0].id < after[1].id
    return after[1].at


FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
HOUR_S = 3600


@pytest.mark.skipif(FAKETIME is None, reason="clocks are set by libfaketime: apt install faketime")
def test_clocks_that_jump_an_hour_both_ways(tmp_path: Path) -> None:
    """The wall clock of every process, not the monotonic one: as when somebody sets a machine's time."""
    offset = tmp_path / "offset"
    offset.write_text("+0")

    def jump(to_s: int) -> None:
        beside = offset.with_name("beside")
        beside.write_text(f"{to_s:+d}")
        beside.replace(offset)

    with (
        upped(
            LD_PRELOAD=str(FAKETIME),
            FAKETIME_TIMESTAMP_FILE=str(offset),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            DONT_FAKE_MONOTONIC="1",
            FAKETIME_FORCE_MONOTONIC_FIX="0",  # without it, whoever waits for Python's lock spins instead of sleeping
        ) as up,
        admin_of(up) as admin,
    ):
        limits = {"requests_per_s": 50, "burst": 50, "rows_per_day": 10_000}
        model = constant_model(tmp_path / "m.onnx", 1)
        admin.deploy({"name": "m", "model": str(model), "limits": limits}, wait=True)
        lasting = admin.create_key("lasting", scopes=["predict:*"]).secret
        short = admin.create_key("short", scopes=["predict:*"], expires_in_s=HOUR_S / 2).secret
        pids = {child.pid for child in up.processes("")}
        assert answers(up, short) == 1
        for to_s, valid in ((HOUR_S, False), (-HOUR_S, True), (0, True)):
            jump(to_s)
            eventually(lambda: (answers(up, short) == 1) is valid, f"at {to_s:+d} s the key is {valid}")  # noqa: B023
            for _ in range(5):
                eventually(lambda: answers(up, lasting) == 1, "and no limit is stuck in another time")
            eventually(lambda: abs(change(admin) - time.time() - to_s) < 60, "changes are made, at the new time")  # noqa: B023
            assert admin.status().leader
        assert not [event for event in admin.events(limit=1000) if event.kind == "replica.ended"]
        assert {child.pid for child in up.processes("")} == pids, "nobody was taken for hung"
        assert admin.verify_audit().broken_at is None
        assert "Traceback" not in up.log
