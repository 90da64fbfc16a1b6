"""The few things that artifacts ask of a disk, each so that a crash at any moment leaves all of it or nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import Cancelled, SlipwayError, StoreUnavailable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_FICLONE = 0x40049409  # ioctl_ficlone(2): share the blocks of another file until one of them is written
_LOCK_POLL_S = 0.1


@dataclass(frozen=True)
class Places:
    """Where things lie below the artifact folder. Only what is complete is in `blobs` and `trees`; both are filled by
    renaming from `incoming`, which is on the same file system."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def trees(self) -> Path:
        return self.root / "trees"

    @property
    def incoming(self) -> Path:
        return self.root / "incoming"

    @property
    def uploads(self) -> Path:
        """Blobs on their way in, `<hex>`, each with its declared size beside it, `<hex>.size`."""
        return self.incoming / "uploads"

    @property
    def declared(self) -> Path:
        """Manifests of artifacts that are not complete."""
        return self.incoming / "declared"

    @property
    def fetches(self) -> Path:
        """A folder for each URL that is being downloaded."""
        return self.incoming / "fetches"

    @property
    def scratch(self) -> Path:
        """Trees in the making, trees on their way out, copies: of no use to anybody after a crash."""
        return self.incoming / "scratch"

    @property
    def known(self) -> Path:
        """What a URL held when it was fetched last."""
        return self.root / "known"

    def make(self) -> None:
        with disk(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for place in (self.blobs, self.trees, self.uploads, self.declared, self.fetches, self.scratch, self.known):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def new_scratch(self) -> Path:
        return self.scratch / secrets.token_hex(12)


@contextmanager
def disk(place: Path) -> Iterator[None]:
    """What the disk refuses in here becomes StoreUnavailable, with what to do about it."""
    try:
        yield
    except SlipwayError:
        raise
    except OSError as error:
        raise StoreUnavailable(_advice(place, error)) from error


def _advice(place: Path, error: OSError) -> str:
    where = f"the artifact folder {str(place)!r}"
    if error.errno in _FULL:
        free = f"{free_bytes(place)} bytes are free" if error.errno == errno.ENOSPC else "the quota is used up"
        return f"the disk of {where} is full ({free}): free some space, or put --data-dir on another disk"
    if error.errno in _CLOSED:
        return f"{where} cannot be written ({error.strerror}): let this user write to it, or use another --data-dir"
    if error.errno == errno.EFBIG:
        return f"a file would be larger than the disk or the limits (ulimit -f) of {where} allow"
    if error.errno == errno.ENOENT:
        return f"{str(error.filename or place)!r} is gone from {where}: was it removed or unmounted under the server?"
    return f"{where} has trouble: {error.strerror or error}"


def free_bytes(place: Path) -> int:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0


def check_space(place: Path, needed_bytes: int) -> None:
    """Raises StoreUnavailable before a byte is written that will not fit."""
    free = shutil.disk_usage(place).free
    if needed_bytes > free:
        raise StoreUnavailable(
            f"the artifact folder {str(place)!r} has {free} bytes free, and {needed_bytes} more are needed: free some "
            "space, or put --data-dir on another disk"
        )


@contextmanager
def locked(
    path: Path, *, exclusive: bool, cancelled: Callable[[], bool] | None = None, wait: bool = True
) -> Iterator[bool]:
    """Hold `path` against other processes and threads (flock); False where it is taken and `wait` is False. With
    `cancelled`, asks it while it waits, and raises Cancelled."""
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _take(opened, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, cancelled, wait=wait)
    finally:
        os.close(opened)


def _take(opened: int, kind: int, cancelled: Callable[[], bool] | None, *, wait: bool) -> bool:
    if wait and cancelled is None:
        fcntl.flock(opened, kind)
        return True
    while True:
        try:
            fcntl.flock(opened, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not wait:
                return False
        if cancelled is not None and cancelled():
            raise Cancelled("stopped while waiting for another fetch of the same model")
        time.sleep(_LOCK_POLL_S)


def is_same_file(opened: int, path: Path) -> bool:
    """Whether `path` still names the open file: somebody may have renamed or removed it before the lock was ours."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(opened)
    return (held.st_dev, held.st_ino) == (now.st_dev, now.st_ino)


def sync_folder(folder: Path) -> None:
    """Until this, a crash of the machine may forget names made or removed in it."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_all(opened: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(opened, view, offset)
        view, offset = view[written:], offset + written


def write_file(path: Path, data: bytes, *, scratch: Path) -> None:
    """All of it under that name or nothing, and on the disk when this returns."""
    opened = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(opened, data, 0)
        os.fsync(opened)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    finally:
        os.close(opened)
    scratch.replace(path)
    sync_folder(path.parent)


def clone(source: int, target: int) -> bool:
    """Make `target` share the blocks of `source`, where the file system can (btrfs, xfs, bcachefs)."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def touch(path: Path) -> None:
    os.utime(path)


def remove_folder(folder: Path) -> int:
    """Delete it with all that is in it, read-only or not; the bytes that this freed (a file with other names frees
    none)."""
    freed = 0
    for place, folders, files in os.walk(folder):
        Path(place).chmod(0o700)
        for name in files:
            freed += _weight(Path(place, name).lstat())
        for name in folders:
            if not Path(place, name).is_symlink():
                Path(place, name).chmod(0o700)
    shutil.rmtree(folder)
    return freed


def remove_file(path: Path) -> int:
    """The bytes that this freed."""
    try:
        freed = _weight(path.lstat())
        path.unlink()
    except FileNotFoundError:
        return 0
    return freed


def _weight(info: os.stat_result) -> int:
    return info.st_size if info.st_nlink == 1 and stat.S_ISREG(info.st_mode) else 0
