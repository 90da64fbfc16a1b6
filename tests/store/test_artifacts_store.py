"""Artifacts on a real disk: sent in pieces, whole or not there, found damaged, collected."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from artifact_remotes import sha

from slipway.errors import (
    Cancelled,
    Conflict,
    DigestMismatch,
    InvalidSpec,
    NotFound,
    PayloadTooLarge,
    StoreUnavailable,
)
from slipway.spec.manifest import manifest_digest
from slipway.spec.resources import Artifact, UploadFile
from slipway.store.artifacts import ArtifactStore

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def store(folder: Path) -> ArtifactStore:
    return ArtifactStore(folder)


def named(path: str, body: bytes, *, executable: bool = False) -> UploadFile:
    return UploadFile(path=path, sha256=sha(body), size_bytes=len(body), executable=executable)


def send(store: ArtifactStore, files: dict[str, bytes]) -> Artifact:
    artifact = store.declare([named(path, body) for path, body in files.items()])
    bodies = {sha(body): body for body in files.values()}
    for sha256 in artifact.missing:
        store.append(sha256, store.received(sha256), bodies[sha256][store.received(sha256) :])
        store.finish(sha256)
    store.commit(artifact.digest)
    return artifact


def blobs(folder: Path) -> list[Path]:
    return [path for path in (folder / "blobs").rglob("*") if path.is_file()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- uploads -------------------------------------------------------------------------------------------------------


def test_a_folder_is_sent_and_is_there(store: ArtifactStore) -> None:
    files = {"model.onnx": b"m" * 1000, "tokens/vocab.txt": b"v", "empty": b""}
    artifact = store.declare([named(path, body) for path, body in files.items()])
    assert artifact.digest == manifest_digest(artifact.files)
    assert set(artifact.missing) == {sha(b"m" * 1000), sha(b"v")}  # nobody need send nothing
    assert store.get(artifact.digest).missing == artifact.missing
    with pytest.raises(Conflict, match="2 files"):
        store.commit(artifact.digest)
    with pytest.raises(NotFound):
        store.path(artifact.digest)
    send(store, files)
    assert contents(store.path(artifact.digest)) == files
    assert store.get(artifact.digest).missing == []
    assert [each.digest for each in store.list()] == [artifact.digest]


def test_a_single_file_is_its_own_path(store: ArtifactStore) -> None:
    artifact = send(store, {"iris.onnx": b"iris"})
    assert store.path(artifact.digest).read_bytes() == b"iris"
    assert store.path(artifact.digest).name == "iris.onnx"
    assert contents(store.folder(artifact.digest)) == {"iris.onnx": b"iris"}


def test_what_is_here_is_not_asked_for_again(store: ArtifactStore, folder: Path) -> None:
    send(store, {"a": b"one", "b": b"two"})
    assert store.declare([named("other", b"one"), named("b", b"three")]).missing == [sha(b"three")]
    again = store.declare([named("c", b"two")])
    assert again.missing == []
    assert store.path(again.digest).read_bytes() == b"two"  # complete, so it is there already
    assert len(blobs(folder)) == 2


def test_pieces_in_order_and_from_where_it_stands(store: ArtifactStore, folder: Path) -> None:
    body = os.urandom(1000)
    artifact = store.declare([named("m", body)])
    assert store.append(sha(body), 0, body[:300]) == 300
    with pytest.raises(Conflict, match=r"300 bytes of .* are here: go on from there, not from 0"):
        store.append(sha(body), 0, body[:300])
    with pytest.raises(Conflict):
        store.append(sha(body), 301, body[301:])
    with pytest.raises(Conflict, match="300 of the 1000"):
        store.finish(sha(body))
    again = ArtifactStore(folder)  # the controller was restarted
    assert again.received(sha(body)) == 300
    assert again.append(sha(body), 300, memoryview(body)[300:]) == 1000
    again.finish(sha(body))
    again.finish(sha(body))
    assert again.append(sha(body), 0, body) == 1000  # a client that was not told
    assert again.commit(artifact.digest).read_bytes() == body
    assert again.commit(artifact.digest).read_bytes() == body


def test_more_than_was_declared_is_refused(store: ArtifactStore) -> None:
    store.declare([named("m", b"1234")])
    with pytest.raises(PayloadTooLarge, match="declared with 4 bytes"):
        store.append(sha(b"1234"), 0, b"12345")
    assert store.received(sha(b"1234")) == 0


def test_the_wrong_bytes_never_count(store: ArtifactStore, folder: Path) -> None:
    artifact = store.declare([named("m", b"right")])
    store.append(sha(b"right"), 0, b"wrong")
    with pytest.raises(DigestMismatch) as caught:
        store.finish(sha(b"right"))
    assert sha(b"right") in caught.value.message
    assert sha(b"wrong") in caught.value.message
    assert store.received(sha(b"right")) == 0
    assert blobs(folder) == []
    store.append(sha(b"right"), 0, b"right")
    store.finish(sha(b"right"))
    assert store.commit(artifact.digest).read_bytes() == b"right"


def test_what_nobody_declared(store: ArtifactStore) -> None:
    for ask in (store.received, store.finish, lambda sha256: store.append(sha256, 0, b"x")):
        with pytest.raises(NotFound, match="declare it"):
            ask("0" * 64)
        with pytest.raises(InvalidSpec, match="not a SHA-256"):
            ask("../../../etc/passwd")
    for ask in (store.path, store.get, store.commit, store.verify, store.folder):
        with pytest.raises(NotFound, match="upload it"):
            ask("sha256:" + "0" * 64)
        with pytest.raises(InvalidSpec, match="not a digest"):
            ask("../x")


def test_a_lie_about_the_size_does_not_stay(store: ArtifactStore) -> None:
    lie = UploadFile(path="m", sha256=sha(b"12345"), size_bytes=3)
    store.declare([lie])
    store.append(lie.sha256, 0, b"xxx")
    send(store, {"m": b"12345"})
    assert store.received(lie.sha256) == 5


def test_clients_that_send_the_same_at_once_take_turns(folder: Path) -> None:
    body = os.urandom(300_000)
    first = ArtifactStore(folder).declare([named("m", body)])

    def client(number: int) -> None:
        store = ArtifactStore(folder)  # each is a controller of its own
        while (at := store.received(sha(body))) < len(body):
            try:
                store.append(sha(body), at, body[at : at + 1000 + number])
            except Conflict:
                continue
        store.finish(sha(body))
        store.commit(first.digest)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(client, range(6)))
    assert ArtifactStore(folder).path(first.digest).read_bytes() == body
    assert len(blobs(folder)) == 1


# --- the tree ------------------------------------------------------------------------------------------------------


def test_files_are_stored_once_and_nobody_writes_to_them(store: ArtifactStore, folder: Path) -> None:
    first = send(store, {"a": b"same", "b": b"same"})
    second = send(store, {"sub/c": b"same", "d": b"other"})
    inodes = {(store.path(first.digest) / name).stat().st_ino for name in "ab"}
    inodes.add((store.path(second.digest) / "sub/c").stat().st_ino)
    assert len(inodes) == 1
    modes = {oct(path.stat().st_mode & 0o777) for path in store.path(second.digest).rglob("*")}
    assert modes == {"0o444", "0o555"}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_can_be_run_stays_so_without_changing_its_twin(store: ArtifactStore) -> None:
    store.declare([named("run", b"#!", executable=True), named("plain", b"#!")])
    store.append(sha(b"#!"), 0, b"#!")
    store.finish(sha(b"#!"))
    artifact = store.declare([named("run", b"#!", executable=True), named("plain", b"#!")])
    assert (store.path(artifact.digest) / "run").stat().st_mode & 0o777 == 0o555
    assert (store.path(artifact.digest) / "plain").stat().st_mode & 0o777 == 0o444


def test_a_disk_without_hard_links_gets_copies(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    artifact = send(store, {"a": b"one", "b": b"two"})
    assert contents(store.path(artifact.digest)) == {"a": b"one", "b": b"two"}
    assert (store.path(artifact.digest) / "a").stat().st_nlink == 1


# --- from this machine ---------------------------------------------------------------------------------------------


def test_a_folder_of_this_machine_is_copied(store: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_bytes(os.urandom(3_000_000))
    (source / "sub" / "b").write_bytes(b"b")
    was = contents(source)
    seen: list[tuple[int, int | None]] = []
    artifact = store.import_path(source, progress=lambda *step: seen.append(step))
    assert seen[-1] == (2 * 3_000_001, 2 * 3_000_001)
    (source / "a").write_bytes(b"changed afterwards")
    assert contents(store.path(artifact.digest)) == was
    assert store.import_path(source / "sub" / "b") == send(store, {"b": b"b"})
    with pytest.raises(DigestMismatch, match="not what was pinned"):
        store.import_path(source, digest=artifact.digest)
    with pytest.raises(Cancelled):
        store.import_path(source, cancelled=lambda: True)


def test_a_large_model_holds_up_nobody(store: ArtifactStore, tmp_path: Path) -> None:
    """It is hashed and copied in a thread, and an event loop beside it goes on."""
    source = tmp_path / "big"
    source.write_bytes(os.urandom(48 * 2**20))

    async def run() -> int:
        taking, turns = asyncio.ensure_future(asyncio.to_thread(store.import_path, source)), 0
        while not taking.done():
            await asyncio.sleep(0)
            turns += 1
        await taking
        return turns

    assert asyncio.run(run()) > 1000


def test_several_become_one(store: ArtifactStore) -> None:
    labels, vocab = send(store, {"x.txt": b"l"}), send(store, {"a": b"1", "b/c": b"2"})
    both = store.combine({"labels.txt": labels.digest, "vocab": vocab.digest})
    assert contents(store.path(both.digest)) == {"labels.txt": b"l", "vocab/a": b"1", "vocab/b/c": b"2"}
    with pytest.raises(InvalidSpec, match="no name"):
        store.combine({"../x": labels.digest})
    with pytest.raises(NotFound):
        store.combine({"x": "sha256:" + "0" * 64})


# --- damage --------------------------------------------------------------------------------------------------------


def spoil(path: Path, change: Callable[[Path], None]) -> None:
    path.chmod(0o600)
    change(path)


def test_damage_is_found_and_only_that_is_sent_anew(store: ArtifactStore) -> None:
    files = {"a": b"good", "b": b"fine"}
    artifact = send(store, files)
    assert store.verify(artifact.digest) == store.get(artifact.digest)
    spoil(store.path(artifact.digest) / "a", lambda path: path.write_bytes(b"evil"))
    with pytest.raises(DigestMismatch) as caught:
        store.verify(artifact.digest)
    assert "'a'" in caught.value.message
    assert sha(b"evil") in caught.value.message
    with pytest.raises(NotFound):
        store.path(artifact.digest)
    assert store.declare([named(path, body) for path, body in files.items()]).missing == [sha(b"good")]
    send(store, files)
    assert contents(store.path(artifact.digest)) == files
    store.verify(artifact.digest)


def test_what_fell_short_is_damage_too(store: ArtifactStore) -> None:
    artifact = send(store, {"a": b"good"})
    spoil(store.path(artifact.digest), lambda path: os.truncate(path, 2))
    with pytest.raises(DigestMismatch, match="another size"):
        store.verify(artifact.digest)


def test_a_lost_link_is_mended_without_anybody(store: ArtifactStore) -> None:
    artifact = send(store, {"a": b"good", "b": b"fine"})
    place = store.path(artifact.digest)
    place.chmod(0o700)
    (place / "a").unlink()
    assert store.verify(artifact.digest) == store.get(artifact.digest)
    assert contents(store.path(artifact.digest)) == {"a": b"good", "b": b"fine"}


def test_a_damaged_manifest(store: ArtifactStore, folder: Path) -> None:
    artifact = send(store, {"a": b"good"})
    other = send(store, {"b": b"fine"})
    manifest = next(path for path in folder.glob("trees/*/manifest.json") if artifact.digest[7:] in str(path))
    spoil(manifest, lambda path: path.write_bytes(b'[{"path":"../../x"}]'))
    with pytest.raises(DigestMismatch, match="manifest"):
        store.path(artifact.digest)
    assert [each.digest for each in store.list()] == [other.digest]
    with pytest.raises(DigestMismatch, match="manifest"):
        store.verify(artifact.digest)
    assert send(store, {"a": b"good"}).digest == artifact.digest
    assert store.path(artifact.digest).read_bytes() == b"good"


# --- collecting ----------------------------------------------------------------------------------------------------


def test_what_no_version_needs_goes_and_nothing_else(store: ArtifactStore, folder: Path) -> None:
    kept = send(store, {"a": b"k" * 5000, "shared": b"s" * 3000})
    gone = send(store, {"b": b"g" * 7000, "shared": b"s" * 3000})
    assert store.collect({kept.digest}, now=time.time() + 3 * HOUR) >= 7000
    assert contents(store.path(kept.digest)) == {"a": b"k" * 5000, "shared": b"s" * 3000}
    with pytest.raises(NotFound):
        store.path(gone.digest)
    assert len(blobs(folder)) == 2
    assert store.collect({kept.digest}, now=time.time() + 3 * HOUR) == 0
    assert store.collect(set(), now=time.time() + 3 * HOUR) >= 8000
    assert blobs(folder) == []
    assert list((folder / "trees").iterdir()) == []


def test_what_came_just_now_waits_for_its_version(store: ArtifactStore) -> None:
    artifact = send(store, {"a": b"new"})
    assert store.collect(set(), now=time.time() + HOUR) == 0
    assert store.path(artifact.digest).read_bytes() == b"new"
    os.utime(next((store._places.root / "trees").iterdir()), (0, 0))
    store.declare(artifact.files)  # somebody deploys it again, so it is young again
    assert store.collect(set(), now=time.time() + HOUR) == 0
    assert store.collect(set(), now=time.time() - DAY) == 0  # a clock that went back


def test_an_upload_goes_a_day_after_its_last_byte(store: ArtifactStore, folder: Path) -> None:
    files = {"a": b"a" * 100, "b": b"b" * 100}
    artifact = store.declare([named(path, body) for path, body in files.items()])
    store.append(sha(files["a"]), 0, files["a"])
    store.finish(sha(files["a"]))
    store.append(sha(files["b"]), 0, files["b"][:50])
    assert store.collect(set(), now=time.time() + 23 * HOUR) == 0
    assert store.received(sha(files["b"])) == 50
    assert store.collect(set(), now=time.time() + 25 * HOUR) >= 150
    with pytest.raises(NotFound):
        store.received(sha(files["b"]))
    with pytest.raises(NotFound):
        store.commit(artifact.digest)
    assert not [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    assert contents(store.folder(send(store, files).digest)) == files


def test_what_is_written_right_now_stays(store: ArtifactStore, tmp_path: Path) -> None:
    """However old it looks: a copy holds what it writes."""
    source = tmp_path / "big"
    source.write_bytes(os.urandom(3 * 2**20))
    collected: list[int] = []
    halves: list[int] = []

    def collect(done: int, total: int | None) -> None:
        assert total is not None
        if done > total // 2 and not halves:
            halves.append(done)
            collected.append(store.collect(set(), now=time.time() + 9 * DAY))

    artifact = store.import_path(source, progress=collect)
    assert halves
    assert store.path(artifact.digest).read_bytes() == source.read_bytes()


def test_two_stores_collect_and_commit_at_once(folder: Path) -> None:
    """Whatever the order: an artifact is there whole, or not at all."""
    stop, seen = threading.Event(), 0
    first, second = ArtifactStore(folder), ArtifactStore(folder)

    def sweep() -> None:
        while not stop.is_set():
            second.collect(set(), now=time.time())  # all that is old enough: nothing
            second.collect(set(), now=time.time() + 3 * HOUR)  # all that is complete

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(60):
            files = {"a": b"a" * 100, f"b{number % 7}": b"b" * number}
            try:
                artifact = send(first, files)
                seen += first.verify(artifact.digest).digest == artifact.digest
            except (NotFound, Conflict):
                continue  # collected between two steps, since the sweeper knows no grace
    finally:
        stop.set()
        sweeper.join()
    assert seen > 0
    assert contents(first.folder(send(first, {"z": b"z"}).digest)) == {"z": b"z"}


# --- a disk that fails ---------------------------------------------------------------------------------------------


@pytest.fixture
def full_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """From a number of bytes on, the disk is full."""
    write, left = os.pwrite, [1 << 60]

    def pwrite(opened: int, data: bytes, offset: int) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(opened, memoryview(data)[: left[0]], offset)
        left[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", pwrite)

    def set_left(size: int) -> None:
        left[0] = size

    yield set_left
    left[0] = 1 << 60


def test_a_full_disk_loses_nothing_and_leaves_nothing_half(
    store: ArtifactStore, full_after: Callable[[int], None], tmp_path: Path
) -> None:
    body = os.urandom(10_000)
    source = tmp_path / "m"
    source.write_bytes(body)
    artifact = store.declare([named("m", body)])
    store.append(sha(body), 0, body[:1000])
    full_after(500)
    with pytest.raises(StoreUnavailable, match=r"is full .*free some space, or put --data-dir on another disk"):
        store.append(sha(body), 1000, body[1000:])
    assert store.received(sha(body)) == 1000
    full_after(500)
    with pytest.raises(StoreUnavailable, match="is full"):
        store.import_path(source)
    assert list((store._places.root / "incoming" / "scratch").iterdir()) == []
    full_after(1 << 60)
    store.append(sha(body), 1000, body[1000:])
    store.finish(sha(body))
    full_after(10)
    with pytest.raises(StoreUnavailable, match="is full"):
        store.commit(artifact.digest)
    assert store.list() == []
    full_after(1 << 60)
    assert store.commit(artifact.digest).read_bytes() == body


def test_what_cannot_fit_is_said_before_it_is_sent(store: ArtifactStore) -> None:
    huge = UploadFile(path="m", sha256="1" * 64, size_bytes=2**41)
    with pytest.raises(StoreUnavailable, match=f"bytes free, and {2**41} more are needed"):
        store.declare([huge])


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A folder that this process may be kept from writing to, also where the tests run as root."""
    place = Path(tempfile.mkdtemp(prefix="slipway-read-only-"))
    place.chmod(0o755)
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(place, 65534, 65534)
        os.seteuid(65534)
    yield place
    if is_root:
        os.seteuid(0)
    for each in [place, *place.rglob("*")]:
        each.chmod(0o700)
    shutil.rmtree(place)


def test_a_read_only_folder(nobodys: Path) -> None:
    store = ArtifactStore(nobodys / "artifacts")
    artifact = send(store, {"a": b"a"})
    folders = [nobodys, *[path for path in nobodys.rglob("*") if path.is_dir()]]
    for folder in folders:
        folder.chmod(0o555)
    with pytest.raises(StoreUnavailable, match="let this user write to it"):
        store.declare([named("b", b"b")])
    with pytest.raises(StoreUnavailable, match="let this user write to it"):
        ArtifactStore(nobodys / "other")
    assert store.path(artifact.digest).read_bytes() == b"a"  # what is there serves on


def test_a_folder_that_is_gone(store: ArtifactStore, folder: Path) -> None:
    send(store, {"a": b"a"})
    shutil.move(folder, folder.with_name("away"))
    with pytest.raises(StoreUnavailable, match="gone from"):
        store.declare([named("b", b"b")])
    with pytest.raises(StoreUnavailable, match="gone from"):
        store.collect(set(), now=time.time())
    shutil.move(folder.with_name("away"), folder)
    assert send(store, {"b": b"b"}).missing != []
