"""A model on this machine's disk as the files of an artifact: walked and hashed by one set of rules.

The client does it before it uploads, the server when it takes in a path of its own; were there two ways to look at a
folder, the same model would have two digests.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import Cancelled, Conflict, Forbidden, InvalidSpec, NotFound
from slipway.spec.manifest import MAX_FILES, check_files, check_path
from slipway.spec.resources import UploadFile

CHUNK_BYTES = 2**20  # hashlib lets other threads run while it works on this much
LEFT_OUT = frozenset({"__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store", "Thumbs.db"})
"""Never part of a model, and never the same twice."""

# Not to hang on a pipe, nor to follow a link, that took the file's place.
_READ_PLAINLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """`path`: in the artifact. `where`: on this machine, without symbolic links. `changed_ns`: its time of change."""

    path: str
    where: Path
    size_bytes: int
    executable: bool
    changed_ns: int


def find_files(source: Path) -> list[LocalFile]:
    """The one file that `source` is, or all files below the folder that it is, by path.

    Symbolic links are followed as long as they stay within the folder. Raises NotFound, Forbidden where it may not be
    read, and InvalidSpec for links that lead out or nowhere, devices, pipes and sockets, no file at all, or too many.
    """
    try:
        root = source.resolve(strict=True)
        if not root.is_dir():
            return [_local_file(source.name, root)]
        found = sorted(_walk(root, root, "", (root,)), key=lambda file: file.path)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {error.filename!r}") from None
    except PermissionError as error:
        raise Forbidden(f"{error.filename!r} may not be read by the user that this runs as") from None
    except OSError as error:
        raise InvalidSpec(f"{str(source)!r} cannot be read: {error.strerror or error}") from None
    if not found:
        raise InvalidSpec(f"{str(source)!r} is a folder without files")
    return found


def hash_files(
    files: list[LocalFile], *, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> list[UploadFile]:
    """As the manifest has them. `progress`: (bytes done, bytes in all). Raises Cancelled, and Conflict for a file that
    changed meanwhile."""
    total, done, hashed = sum(file.size_bytes for file in files), 0, []
    for file in files:
        digest = hashlib.sha256()
        for chunk in read_chunks(file):
            if cancelled():
                raise Cancelled(f"stopped while hashing {file.path!r}")
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
        hashed.append(
            UploadFile(
                path=file.path, sha256=digest.hexdigest(), size_bytes=file.size_bytes, executable=file.executable
            )
        )
    return check_files(hashed)


def read_chunks(file: LocalFile, *, start: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[memoryview]:
    """Its bytes from `start`; each view is good until the next. Raises Conflict where it is no longer the file that was
    found, before the last chunk is handed out."""
    buffer = memoryview(bytearray(chunk_bytes))
    left = file.size_bytes - start
    try:
        with open(os.open(file.where, _READ_PLAINLY), "rb", buffering=0) as opened:  # noqa: PTH123
            opened.seek(start)
            while True:
                got = opened.readinto(buffer[: min(chunk_bytes, left)]) if left else 0
                left -= got
                if left == 0 or not got:
                    _check_unchanged(file, os.fstat(opened.fileno()), left)
                if got:
                    yield buffer[:got]
                if left == 0 or not got:
                    return
    except FileNotFoundError:
        raise _changed(file) from None
    except PermissionError:
        raise Forbidden(f"{str(file.where)!r} may not be read by the user that this runs as") from None
    except OSError as error:
        raise Conflict(f"{str(file.where)!r} cannot be read: {error.strerror or error}") from None


def _walk(root: Path, folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[LocalFile]:
    seen = 0
    for entry in os.scandir(folder):
        if entry.name in LEFT_OUT:
            continue
        path = f"{prefix}{entry.name}"
        if problem := check_path(path):
            raise InvalidSpec(f"{path[:120]!a} in {str(root)!r}: {problem}")
        where = _resolved(root, Path(entry.path)) if entry.is_symlink() else Path(entry.path)
        if not where.is_dir():
            found: Iterator[LocalFile] = iter((_local_file(path, where),))
        elif where in above:
            raise InvalidSpec(f"{path!r} in {str(root)!r} is a link to a folder around it, which has no end")
        else:
            found = _walk(root, where, f"{path}/", (*above, where))
        for file in found:
            seen += 1
            if seen > MAX_FILES:
                raise InvalidSpec(f"{str(root)!r} holds more than {MAX_FILES} files; is it the model's folder?")
            yield file


def _resolved(root: Path, link: Path) -> Path:
    try:
        target = link.resolve(strict=True)
    except (FileNotFoundError, RuntimeError):
        raise InvalidSpec(f"{str(link)!r} is a link to nothing; remove it, or make what it names") from None
    if not target.is_relative_to(root):
        raise InvalidSpec(
            f"{str(link)!r} is a link out of the model's folder, to {str(target)!r}; copy what it names in its place "
            "(cp -rL copies a folder so)"
        )
    return target


def _local_file(path: str, where: Path) -> LocalFile:
    if problem := check_path(path):
        raise InvalidSpec(f"{path[:120]!a}: {problem}")
    info = where.lstat()
    if not stat.S_ISREG(info.st_mode):
        raise InvalidSpec(f"{str(where)!r} is neither a file nor a folder; devices, pipes and sockets hold no model")
    executable = bool(info.st_mode & stat.S_IXUSR)
    return LocalFile(
        path=path, where=where, size_bytes=info.st_size, executable=executable, changed_ns=info.st_mtime_ns
    )


def _check_unchanged(file: LocalFile, info: os.stat_result, left: int) -> None:
    if left or info.st_size != file.size_bytes or info.st_mtime_ns != file.changed_ns or not stat.S_ISREG(info.st_mode):
        raise _changed(file)


def _changed(file: LocalFile) -> Conflict:
    return Conflict(f"{str(file.where)!r} changed while it was read; try again when nothing writes to it")


def read_piece(file: LocalFile, offset: int, size_bytes: int) -> bytes:
    """`size_bytes` from `offset`, fewer at the end. Raises Conflict where it is no longer the file that was found."""
    try:
        opened = os.open(file.where, _READ_PLAINLY)
    except OSError:
        raise _changed(file) from None
    try:
        _check_unchanged(file, os.fstat(opened), 0)
        piece = bytearray()
        while len(piece) < size_bytes and (got := os.pread(opened, size_bytes - len(piece), offset + len(piece))):
            piece += got
        return bytes(piece)
    except OSError as error:
        raise Conflict(f"{str(file.where)!r} cannot be read: {error.strerror or error}") from None
    finally:
        os.close(opened)
