"""A SQLite store whose file, folder or disk is in trouble: what it says, that nothing breaks, and that it goes on."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from slipway.errors import StoreUnavailable
from slipway.store.opening import open_store
from slipway.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a b%20#c" / "slipway.db"  # what a URL or a SQLite URI could trip over


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    path.parent.mkdir()
    store = open_store(f"sqlite:///{path}?timeout=0.1")
    note(store)
    yield store
    store.close()


def note(store: Store, text: str = "") -> None:
    store.note(actor="a", action="b", target="c", details={"text": text}, now=1.0)


def noted(store: Store) -> int:
    assert store.verify_audit() is None
    return len(store.audit(limit=10**6))


def test_the_files_are_for_their_owner_only(store: Store, path: Path) -> None:
    note(store)
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert found == {"slipway.db": 0o600, "slipway.db-wal": 0o600, "slipway.db-shm": 0o600}


def test_a_file_that_vanished_and_came_back(store: Store, path: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    for attempt in (lambda: note(store), store.deployments):
        with pytest.raises(StoreUnavailable, match=r"is gone .* Put its file back"):
            attempt()
    assert not path.exists()  # no empty one made in its place
    aside.rename(path)
    note(store)
    assert noted(store) == 2


def test_a_backup_put_in_its_place_while_it_runs(store: Store, path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    with sqlite3.connect(path) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    source.close()
    target.close()
    note(store)
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(StoreUnavailable, match="is gone"):
        store.keys()
    shutil.copy(backup, path)
    assert noted(store) == 1
    note(store)
    assert noted(store) == 2


def test_a_leader_writes_nothing_to_a_backup_before_it_asked_for_the_lease(store: Store, path: Path) -> None:
    store.fence = store.lease(holder="one", ttl_s=60).epoch
    aside = path.with_name("aside.db")
    with sqlite3.connect(path) as source, sqlite3.connect(aside) as target:
        source.backup(target)
    source.close()
    target.close()
    note(store)
    store.close()
    aside.replace(path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="was replaced by another file, which is read first"):
            note(store)
    assert noted(store) == 1
    store.fence = store.lease(holder="one", ttl_s=60).epoch
    note(store)
    assert noted(store) == 2


def test_locked_by_somebody_else(store: Store, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match=r"is locked by another process: database is locked.*fuser"):
        note(store)
    assert noted(store) == 1  # reading goes on
    other.close()
    note(store)
    assert noted(store) == 2


def test_a_full_disk(store: Store) -> None:
    """SQLite's own limit of pages gives the very error that a full disk does."""
    limit = [0]

    def small(connection: sqlite3.Connection, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {limit[0] or pages + 1}")

    event.listen(store._database._engine, "connect", small)
    store.close()
    with pytest.raises(StoreUnavailable, match=r"is on a full disk: database or disk is full\. Free some space"):
        for _ in range(50):
            note(store, "x" * 4000)
    before = noted(store)
    limit[0] = 10**6
    store.close()
    note(store, "x" * 100_000)
    assert noted(store) == before + 1


@pytest.mark.parametrize(("text", "words"), [
    ("this is no database, but somebody's notes" * 100, "is not a SQLite database"),
    ("SQLite format 3\0" + "x" * 5000, "is not a SQLite database|is damaged"),
])  # fmt: skip
def test_a_file_that_is_no_database(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.db"
    path.write_text(text)
    with pytest.raises(StoreUnavailable, match=words):
        open_store(f"sqlite:///{path}")
    assert path.read_text() == text


def test_a_damaged_page(store: Store, path: Path) -> None:
    for _ in range(200):
        note(store, "x" * 1000)
    store.close()
    with path.open("r+b") as file:
        file.seek(4096 * 30)
        file.write(b"\xff" * 4096 * 20)
    with pytest.raises(StoreUnavailable, match=r"is damaged.*put a backup in its place"):
        noted(store)


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=f"there is no folder {tmp_path}/none"):
        open_store(f"sqlite:///{tmp_path}/none/x.db")
    with pytest.raises(StoreUnavailable, match="cannot be opened: Is a directory"):
        open_store(f"sqlite:///{tmp_path}")
    assert list(tmp_path.iterdir()) == []


COMMON = """
import os, pathlib, resource, sys
from slipway.errors import StoreUnavailable
from slipway.store.opening import open_store
def note(store, text=""):
    store.note(actor="a", action="b", target="c", details={"text": text}, now=1.0)
def refused(attempt, words):
    try:
        attempt()
    except StoreUnavailable as error:
        assert words in error.message, error.message
    else:
        sys.exit("not refused: " + words)
open_store("sqlite://")  # all modules, while they can be read
folder = pathlib.Path(sys.argv[1])
path = folder / "slipway.db"
url = f"sqlite:///{path}"
if os.getuid() == 0:  # whom no mode stops
    os.chown(folder, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


@pytest.mark.parametrize("script", [
    # A folder that cannot be written, with no database in it, and then with one.
    """
folder.chmod(0o500)
refused(lambda: open_store(url), "must belong to the user that runs Slipway")
folder.chmod(0o700)
store = open_store(url)
note(store)
store.close()
folder.chmod(0o500)
refused(lambda: note(store), "folder")
folder.chmod(0o700)
note(store)
assert len(store.audit()) == 2 and store.verify_audit() is None
""",
    # A file that cannot be written, found so at the start and again by a store that is open.
    """
store = open_store(url)
note(store)
store.close()
path.chmod(0o400)
refused(lambda: note(store), "cannot be written")
refused(lambda: open_store(url), "cannot be opened")
path.chmod(0o600)
note(store)
assert len(store.audit()) == 2 and store.verify_audit() is None
""",
    # A disk that takes no more bytes: the kernel's own refusal, in the middle of a change.
    """
store = open_store(url)
note(store)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
refused(lambda: [note(store, "x" * 20_000) for _ in range(100)], "full or failing disk, a file size limit")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.verify_audit() is None
before = len(store.audit(limit=1000))
note(store, "x" * 20_000)
assert len(store.audit(limit=1000)) == before + 1 and store.verify_audit() is None
""",
], ids=["folder", "file", "disk"])  # fmt: skip
def test_what_the_system_refuses(script: str) -> None:
    folder = tempfile.mkdtemp(dir="/tmp")
    try:
        command = [sys.executable, "-c", COMMON + script, folder]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    finally:
        shutil.rmtree(folder)


def test_a_database_in_memory_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite://")
    note(store)
    with pytest.raises(StoreUnavailable), store._database.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM nothing")  # an error leaves the rest of it as it was
    assert noted(store) == 1 and store.url_shown == "sqlite://"
    assert noted(open_store("sqlite://")) == 0
    assert list(tmp_path.iterdir()) == []
