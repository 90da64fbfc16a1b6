"""Downloading so that nothing is lost and nothing is mixed: retries, going on where it stopped, progress, cancelling.

What has come lies in a folder of its URL with, for each file, whose bytes these are (the source's identity of them) and
how many are safely on the disk. A next try, also of the next process, goes on from there if the source says that it
still is the same, and begins anew if not, or if the source cannot say.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from slipway.errors import Cancelled, PayloadTooLarge, SlipwayError, Unavailable
from slipway.spec.manifest import MAX_BYTES, check_files, check_paths
from slipway.spec.resources import UploadFile
from slipway.store.artifacts.disk import check_space, disk, sync_folder, write_all, write_file
from slipway.store.artifacts.sources import CHUNK_BYTES, Opened, RemoteFile, Source, Transient, protocol_of

T = TypeVar("T")

PARALLEL = 4
"""Files of one folder at a time: small ones are mostly waiting."""
CHECKPOINT_BYTES = 64 * 2**20
"""So much is downloaded again at most after the process was killed, or the machine lost its power."""
WORTH_BYTES = 2**20
"""Less than this is not worth a place to go on from: the disk would take longer than the network."""
_NAP_S = 0.1


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """With a remote side. `attempts`: in a row without one more byte than ever before. Waits grow from `first_wait_s`,
    with full jitter, to `longest_wait_s`. `silence_s`: the longest that a connection may say nothing."""

    attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    connect_s: float = 10.0
    silence_s: float = 30.0

    def wait_s(self, failures: int, *, draw: float, retry_after_s: float) -> float:
        """Before the next try after `failures` in a row, from 1. `draw`: chance, uniform in [0, 1)."""
        return retry_after_s + draw * min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 32))


def open_source(url: str, *, known: str, storage: Mapping[str, Mapping[str, Any]], patience: Patience) -> Source:
    """`known`: the identity of what is here already. Raises InvalidSpec for protocols that are unknown or refused,
    MissingExtra, and Unavailable where a protocol connects at once (as FTP does) and cannot."""
    protocol = protocol_of(url)
    if protocol in ("http", "https"):
        from slipway.store.artifacts.http_source import HttpSource

        return HttpSource(url, known=known, connect_s=patience.connect_s, read_s=patience.silence_s)
    from slipway.store.artifacts.fsspec_source import FsspecSource

    try:
        return FsspecSource(url, protocol=protocol, settings=storage.get(protocol, {}))
    except Transient as error:
        raise Unavailable(str(error)) from error


class Downloaded(NamedTuple):
    """`parts`: where each of `files` lies, in their order. `identity`: by which the source can tell of all of them that
    they are still the same."""

    files: list[UploadFile]
    parts: list[Path]
    identity: str


class Download:
    """One fetch into `folder`, which the caller holds against others. `root`: the artifact folder, for messages."""

    def __init__(
        self,
        source: Source,
        folder: Path,
        *,
        root: Path,
        patience: Patience,
        progress: Callable[[int, int | None], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._source = source
        self._folder = folder
        self._root = root
        self._patience = patience
        self._progress = progress
        self._cancelled = cancelled
        self._stopped = threading.Event()  # one file failed, so the others need not go on
        self._counting = threading.Lock()
        self._have: dict[str, int] = {}
        self._sizes: dict[str, int | None] = {}

    def look(self) -> list[RemoteFile]:
        """What there is, before a byte of it is read. Raises InvalidSpec for names that no artifact can have."""
        listing = self._patiently(self._source.files)
        check_paths([file.path for file in listing])
        return listing

    def run(self, listing: list[RemoteFile]) -> Downloaded:
        """Raises what sources raise, Unavailable when patience ends, Cancelled, StoreUnavailable."""
        for _ in range(self._patience.attempts):
            parts = self._all(listing)
            again = self._patiently(self._source.files)
            if again == listing:
                return _downloaded(parts, listing)
            listing = again  # somebody writes to the folder: only what changed is read again
        raise Unavailable("the model's folder changes faster than it can be read; fetch it when nothing writes to it")

    def drop(self) -> None:
        """What was downloaded is in its place, or of no use."""
        for path in self._folder.iterdir():
            if path.suffix in (".part", ".json", ".new"):
                path.unlink(missing_ok=True)

    def _all(self, listing: list[RemoteFile]) -> list[_Part]:
        self._sizes = {file.path: file.size_bytes for file in listing}
        self._have = {}
        parts = [_Part(self._folder, file, self._root) for file in listing]
        if len(parts) == 1:
            self._one(parts[0])
            return parts
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch") as pool:
            tasks = [pool.submit(self._one, part) for part in parts]
            try:
                ended, _ = wait(tasks, return_when=FIRST_EXCEPTION)
            finally:
                self._stopped.set()
            for task in ended:
                task.result()
        self._stopped.clear()
        return parts

    def _one(self, part: _Part) -> None:
        part.load(self._check)
        self._count(part, part.file.size_bytes)
        best = [part.size]

        def grown() -> bool:
            was, best[0] = best[0], max(best[0], part.size)
            return best[0] > was

        if not part.is_complete():
            self._patiently(lambda: self._read(part), grown)

    def _read(self, part: _Part) -> None:
        try:
            with self._source.open(part.file, start=part.size, identity=part.identity) as opened:
                part.begin(opened)
                self._count(part, opened.size_bytes)
                for chunk in opened.chunks:
                    self._check()
                    part.write(chunk)
                    self._count(part, opened.size_bytes)
            if opened.size_bytes is not None and part.size != opened.size_bytes:
                size, part.identity = part.size, part.identity if part.size < opened.size_bytes else ""
                raise Transient(f"{part.file.path!r} ended after {size} of {opened.size_bytes} bytes")
        finally:
            part.save()

    def _count(self, part: _Part, size_bytes: int | None) -> None:
        with self._counting:
            self._have[part.file.path] = part.size
            self._sizes[part.file.path] = size_bytes
            sizes = list(self._sizes.values())
            total = None if None in sizes else sum(size for size in sizes if size is not None)
            self._progress(sum(self._have.values()), total)

    def _check(self) -> None:
        if self._stopped.is_set() or self._cancelled():
            raise Cancelled("the fetch was stopped; what has come is kept for the next one")

    def _patiently(self, work: Callable[[], T], grown: Callable[[], bool] = lambda: False) -> T:
        """Do it until it works, or fails for good, or has failed too often without getting further."""
        failures = 0
        while True:
            self._check()
            try:
                return work()
            except Transient as error:
                failures = 1 if grown() else failures + 1
                if failures >= self._patience.attempts:
                    raise Unavailable(f"{error} (the last of {failures} tries in a row)") from error
                self._wait(self._patience.wait_s(failures, draw=random.random(), retry_after_s=error.retry_after_s))

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, _NAP_S))


class _State(msgspec.Struct):
    """Beside a part. `size_bytes`: so many are on the disk. `name`: what the source calls the file."""

    identity: str
    size_bytes: int
    name: str = ""


class _Part:
    """A file on its way in."""

    def __init__(self, folder: Path, file: RemoteFile, root: Path) -> None:
        self.file = file
        self._root = root
        self.path = folder / f"{hashlib.sha256(file.path.encode()).hexdigest()}.part"
        self.size = 0
        self.identity = ""
        self.name = ""
        self.digest = hashlib.sha256()
        self._saved = 0

    @property
    def _state_path(self) -> Path:
        return self.path.with_suffix(".json")

    def load(self, check: Callable[[], None]) -> None:
        """What an earlier try left, if it can be trusted: hashed again, since a hash cannot be kept on disk."""
        try:
            state = msgspec.json.decode(self._state_path.read_bytes(), type=_State)
            opened = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, msgspec.DecodeError):
            return
        try:
            if state.identity and os.fstat(opened).st_size >= state.size_bytes:
                while self.size < state.size_bytes:
                    check()
                    chunk = os.pread(opened, min(CHUNK_BYTES, state.size_bytes - self.size), self.size)
                    self.digest.update(chunk)
                    self.size += len(chunk)
                self.identity, self.name, self._saved = state.identity, state.name, self.size
        finally:
            os.close(opened)

    def is_complete(self) -> bool:
        """Nothing needs to be asked: all of what the listing names is here."""
        return bool(self.identity) and (self.identity, self.size) == (self.file.identity, self.file.size_bytes)

    def begin(self, opened: Opened) -> None:
        if opened.start != self.size or opened.start == 0:
            self._forget()
        self.identity = opened.identity or self.identity  # the rest need not say again whose it is
        self.name = opened.name or self.name
        if opened.size_bytes is not None:
            if opened.size_bytes > MAX_BYTES:
                raise PayloadTooLarge(f"{self.file.path!r} has {opened.size_bytes} bytes; {MAX_BYTES} are allowed")
            with disk(self._root):
                check_space(self._root, opened.size_bytes - self.size)
        with disk(self._root):
            self._cut()

    def write(self, chunk: bytes) -> None:
        """Where the disk is full, what has come is given back: others need the space to go on."""
        if self.size + len(chunk) > MAX_BYTES:
            raise PayloadTooLarge(f"{self.file.path!r} has more than {MAX_BYTES} bytes and does not end")
        try:
            with disk(self._root):
                opened = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    write_all(opened, chunk, self.size)
                finally:
                    os.close(opened)
        except SlipwayError:
            self.drop()
            raise
        self.digest.update(chunk)
        self.size += len(chunk)
        if self.size - self._saved >= CHECKPOINT_BYTES:
            self.save()

    def save(self) -> None:
        """From now on a next try begins here, even after a crash of the machine."""
        if self.size - self._saved < WORTH_BYTES:
            return
        with disk(self._root):
            opened = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
            state = _State(self.identity, self.size, self.name)
            write_file(self._state_path, msgspec.json.encode(state), scratch=self.path.with_suffix(".new"))
            self._saved = self.size

    def drop(self) -> None:
        self._forget()
        self.path.unlink(missing_ok=True)

    def _forget(self) -> None:
        """Before the first byte of another content: a crash must not find it under the identity of the one before."""
        self.size, self._saved, self.identity, self.digest = 0, 0, "", hashlib.sha256()
        if self._state_path.exists():
            self._state_path.unlink()
            sync_folder(self._state_path.parent)

    def upload_file(self) -> UploadFile:
        return UploadFile(path=self.name or self.file.path, sha256=self.digest.hexdigest(), size_bytes=self.size)

    def _cut(self) -> None:
        opened = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(opened, self.size)
        finally:
            os.close(opened)


def _downloaded(parts: Sequence[_Part], listing: Sequence[RemoteFile]) -> Downloaded:
    by_path = {part.name or part.file.path: part for part in parts}
    files = check_files([part.upload_file() for part in parts])
    identity = folder_identity(listing) or (parts[0].identity if len(parts) == 1 else "")
    return Downloaded(files, [by_path[file.path].path for file in files], identity)


def folder_identity(listing: Sequence[RemoteFile]) -> str:
    """Of a whole listing; '' where it does not tell every file's, or only a time."""
    if not all(file.identity.startswith("strong ") for file in listing):
        return ""
    told = json.dumps([[file.path, file.identity] for file in listing]).encode()
    return f"strong {hashlib.sha256(told).hexdigest()}"
