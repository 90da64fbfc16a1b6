"""What any file system of fsspec gets: here one that says little of itself, as many do."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from artifact_remotes import QUICK
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from slipway.errors import Cancelled, Forbidden, InvalidSpec, NotFound, Unavailable, Unsupported
from slipway.store.artifacts import ArtifactStore

MB = 2**20
ONE, TWO = os.urandom(20 * MB), os.urandom(20 * MB)


class Box(AbstractFileSystem):
    """Files in a dict. `tells`: which fields it has beside size; `starts`: where reads began; `hook`: before each."""

    protocol = "box"
    files: dict[str, bytes] = {}
    marks: dict[str, str] = {}
    tells = "mtime"
    starts: list[int] = []
    hook: Callable[[int], None] = lambda _: None

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path not in Box.files:
            raise FileNotFoundError(path)
        told = {"name": path, "size": len(Box.files[path]), "type": "file"}
        return told | ({Box.tells: Box.marks.get(path, "1")} if Box.tells else {})

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> BoxFile:
        return BoxFile(self, path, mode, size=len(Box.files[path]), **kwargs)


class BoxFile(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        Box.hook(start)
        Box.starts.append(start)
        return Box.files[self.path][start:end]


@pytest.fixture
def box() -> Iterator[type[Box]]:
    fsspec.register_implementation("box", Box, clobber=True)
    Box.files, Box.marks, Box.starts, Box.tells, Box.hook = {"m/big": ONE}, {}, [], "mtime", lambda _: None
    yield Box


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", patience=QUICK)


def stop_after(store: ArtifactStore, size: int) -> None:
    have = [0]
    with pytest.raises(Cancelled):
        store.fetch(
            "box://m/big", progress=lambda done, _: have.__setitem__(0, done), cancelled=lambda: have[0] >= size
        )


def read(store: ArtifactStore) -> bytes:
    return store.path(store.fetch("box://m/big").digest).read_bytes()


def test_it_goes_on_while_the_time_of_change_is_the_same(store: ArtifactStore, box: type[Box]) -> None:
    stop_after(store, 8 * MB)
    box.starts = []
    assert read(store) == ONE
    assert box.starts[0] == 8 * MB


def test_it_begins_anew_when_it_is_not(store: ArtifactStore, box: type[Box]) -> None:
    stop_after(store, 8 * MB)
    box.files, box.marks, box.starts = {"m/big": TWO}, {"m/big": "2"}, []
    assert read(store) == TWO
    assert box.starts[0] == 0


def test_it_begins_anew_when_nobody_can_tell(store: ArtifactStore, box: type[Box]) -> None:
    box.tells = ""
    stop_after(store, 8 * MB)
    box.files, box.starts = {"m/big": TWO}, []
    assert read(store) == TWO
    assert box.starts[0] == 0


def test_what_changes_between_two_reads_is_not_mixed(store: ArtifactStore, box: type[Box]) -> None:
    def change(start: int) -> None:
        if start >= 8 * MB:
            box.files, box.marks = {"m/big": TWO}, {"m/big": "2"}

    box.hook = change
    assert read(store) == TWO


def test_a_time_of_change_is_no_reason_not_to_read_it_again(store: ArtifactStore, box: type[Box]) -> None:
    """Two files of one size within a second have the same."""
    assert read(store) == ONE
    box.files = {"m/big": TWO}
    assert read(store) == TWO


def test_a_hash_is(store: ArtifactStore, box: type[Box]) -> None:
    box.tells = "md5"
    assert read(store) == ONE
    box.starts = []
    assert read(store) == ONE
    assert box.starts == []


@pytest.mark.parametrize(
    ("thrown", "error"),
    [
        (PermissionError("no"), Forbidden),
        (FileNotFoundError("gone"), NotFound),
        (NotImplementedError("not here"), Unsupported),
        (OSError(5, "bad luck"), Unavailable),
        (RuntimeError("worse"), Unavailable),
    ],
)
def test_what_file_systems_throw(
    store: ArtifactStore, box: type[Box], thrown: Exception, error: type[Exception]
) -> None:
    def throw(_: int) -> None:
        raise thrown

    box.hook = throw
    with pytest.raises(error, match=str(thrown).split()[-1]):
        read(store)


def test_bad_luck_passes(store: ArtifactStore, box: type[Box]) -> None:
    luck = [OSError("reset"), TimeoutError("slow"), ConnectionError("refused")]

    def throw(_: int) -> None:
        if luck:
            raise luck.pop()

    box.hook = throw
    assert read(store) == ONE


@pytest.mark.parametrize("kind", [LocalFileSystem, MemoryFileSystem])
def test_the_servers_own_machine_under_another_name(
    store: ArtifactStore, tmp_path: Path, kind: type[AbstractFileSystem]
) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    fsspec.register_implementation("innocent", kind, clobber=True)
    with pytest.raises(InvalidSpec, match="server's own machine"):
        store.fetch(f"innocent://{tmp_path}/secret")


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """FTP connects when it is opened, before anything is asked for."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(Unavailable, match=f"ftp://127.0.0.1:{port}/iris.onnx"):
        ArtifactStore(tmp_path / "artifacts", patience=QUICK).fetch(f"ftp://127.0.0.1:{port}/iris.onnx")
