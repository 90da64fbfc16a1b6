"""Files by their SHA-256, each stored once. What is here was verified; what is not verified waits in `incoming`.

Two clients, or two controllers, may send the same file at once: a partial upload is locked while it grows, and says
how far it is, so they take turns instead of writing over each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from slipway.errors import Cancelled, Conflict, DigestMismatch, NotFound, PayloadTooLarge
from slipway.spec.local_files import CHUNK_BYTES, LocalFile, read_chunks
from slipway.spec.manifest import EMPTY_SHA256, check_sha256
from slipway.spec.resources import UploadFile
from slipway.store.artifacts.disk import (
    Places,
    check_space,
    clone,
    disk,
    is_same_file,
    sync_folder,
    write_all,
    write_file,
)

READ_ONLY = 0o444


class _Part(NamedTuple):
    """A partial upload, open and locked."""

    opened: int
    path: Path
    size_bytes: int


class Blobs:
    def __init__(self, places: Places) -> None:
        self._places = places

    def path(self, sha256: str) -> Path:
        return self._places.blobs / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    # --- uploads, piece by piece ------------------------------------------------------------------------------------

    def expect(self, file: UploadFile) -> None:
        """From now on `append` takes this file. Where another size was declared before, the last word counts."""
        size = self._size_file(file.sha256)
        told = str(file.size_bytes).encode()
        known = size.read_bytes() if size.exists() else b""
        if known != told:
            if known:
                (self._places.uploads / file.sha256).unlink(missing_ok=True)
            write_file(size, told, scratch=self._places.new_scratch())
        (self._places.uploads / file.sha256).touch(mode=0o600)
        if file.sha256 == EMPTY_SHA256:
            self.finish(file.sha256)  # nobody sends nothing

    def received(self, sha256: str) -> int:
        """Bytes so far; all of them once it is verified. Raises NotFound for what nobody declared."""
        check_sha256(sha256)
        with disk(self._places.root):
            for path in (self.path(sha256), self._places.uploads / sha256, self.path(sha256)):
                try:
                    return path.stat().st_size
                except FileNotFoundError:
                    continue  # the third look: it may have moved between the first two
        raise _undeclared(sha256)

    def append(self, sha256: str, offset: int, chunk: bytes | memoryview) -> int:
        """Bytes received after it. Raises Conflict where `offset` is not what `received` says."""
        with disk(self._places.root), self._part(sha256) as part:
            if part is None:
                return self.path(sha256).stat().st_size
            have = os.fstat(part.opened).st_size
            if offset != have:
                raise Conflict(f"{have} bytes of {sha256} are here: go on from there, not from {offset}")
            if have + len(chunk) > part.size_bytes:
                raise PayloadTooLarge(
                    f"{sha256} was declared with {part.size_bytes} bytes; {len(chunk)} more at {offset} are too many"
                )
            try:
                write_all(part.opened, chunk, have)
            except OSError:
                os.ftruncate(part.opened, have)  # what did not fit whole is as if it had never come
                raise
            return have + len(chunk)

    def finish(self, sha256: str) -> None:
        """Verify and keep. Raises Conflict while bytes are missing, and DigestMismatch, after which it begins anew."""
        with disk(self._places.root), self._part(sha256) as part:
            if part is None:
                return
            have = os.fstat(part.opened).st_size
            if have != part.size_bytes:
                raise Conflict(f"{have} of the {part.size_bytes} bytes of {sha256} are here: send the rest first")
            found = _hash_of(part.opened)
            if found != sha256:
                os.ftruncate(part.opened, 0)
                raise DigestMismatch(
                    f"the {have} bytes that were sent as {sha256} have the SHA-256 {found}; they were dropped, "
                    "send the file again"
                )
            self.keep(part.opened, part.path, sha256)
            self._size_file(sha256).unlink(missing_ok=True)

    # --- whole files ------------------------------------------------------------------------------------------------

    def take(self, file: LocalFile, sha256: str, *, step: Callable[[int], None], cancelled: Callable[[], bool]) -> None:
        """Copy a file of this machine, sharing its blocks where the file system can. `step`: told of bytes done."""
        if self.has(sha256):
            step(file.size_bytes)
            return
        check_space(self._places.root, file.size_bytes)
        scratch = self._places.new_scratch()
        opened = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            found = self._copy(file, opened, step=step, cancelled=cancelled)
            if found != sha256:
                raise Conflict(f"{str(file.where)!r} changed while it was read; try again when nothing writes to it")
            self.keep(opened, scratch, sha256)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        finally:
            os.close(opened)

    def adopt(self, path: Path, sha256: str) -> None:
        """A file on the same disk whose hash the caller took while it wrote it."""
        if self.has(sha256):
            return
        opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.keep(opened, path, sha256)
        finally:
            os.close(opened)

    def keep(self, opened: int, path: Path, sha256: str) -> None:
        """`path`, open and verified, becomes the blob."""
        target = self.path(sha256)
        if not target.parent.exists():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            sync_folder(target.parent.parent)
        os.fchmod(opened, READ_ONLY)
        os.fsync(opened)
        path.replace(target)
        sync_folder(target.parent)

    def is_sound(self, sha256: str, size_bytes: int) -> bool:
        """Read it all and see whether it still is what it was."""
        return hash_path(self.path(sha256), size_bytes) == sha256

    # --- inside -----------------------------------------------------------------------------------------------------

    def _copy(self, file: LocalFile, opened: int, *, step: Callable[[int], None], cancelled: Callable[[], bool]) -> str:
        digest, offset = hashlib.sha256(), 0
        source = os.open(file.where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            is_shared = clone(source, opened)
        finally:
            os.close(source)
        if is_shared:
            step(file.size_bytes)
            return _hash_of(opened)
        for chunk in read_chunks(file):
            if cancelled():
                raise Cancelled(f"stopped while copying {file.path!r}")
            write_all(opened, chunk, offset)
            digest.update(chunk)
            offset += len(chunk)
            step(len(chunk))
        return digest.hexdigest()

    @contextmanager
    def _part(self, sha256: str) -> Iterator[_Part | None]:
        """None where it is complete. Raises NotFound where nobody declared it."""
        path = self._places.uploads / check_sha256(sha256)
        while True:
            if self.has(sha256):
                yield None
                return
            try:
                opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                if self.has(sha256):
                    continue
                raise _undeclared(sha256) from None
            try:
                fcntl.flock(opened, fcntl.LOCK_EX)
                if not is_same_file(opened, path):
                    continue  # finished or removed while we waited
                yield _Part(opened, path, self._declared_size(sha256))
                return
            finally:
                os.close(opened)

    def _size_file(self, sha256: str) -> Path:
        return self._places.uploads / f"{sha256}.size"

    def _declared_size(self, sha256: str) -> int:
        try:
            return int(self._size_file(sha256).read_bytes())
        except (FileNotFoundError, ValueError):
            raise _undeclared(sha256) from None


def hash_path(path: Path, size_bytes: int) -> str:
    """Of a plain file with that size; '' where it is not there, is something else, or cannot be read."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return _hash_of(opened) if os.fstat(opened).st_size == size_bytes else ""
    except OSError:  # a bad block
        return ""
    finally:
        os.close(opened)


def _hash_of(opened: int) -> str:
    digest, offset = hashlib.sha256(), 0
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while got := os.preadv(opened, [buffer], offset):
        digest.update(buffer[:got])
        offset += got
    return digest.hexdigest()


def _undeclared(sha256: str) -> NotFound:
    return NotFound(f"no artifact with the file {sha256} was declared, or not for a day: declare it before sending it")
