"""What replicas wrote: the files under `logs/DEPLOYMENT/`, their last lines first, and then as they grow."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from slipway.errors import NotFound

FOLLOW_S = 0.25
CHUNK_BYTES = 64 * 1024
LONGEST_LINE_BYTES = 256 * 1024
MOST_TAIL_BYTES = 16 * 2**20
_FILE = re.compile(r"(v[0-9]+)-([0-9]+)\.log\Z")


async def read_logs(folder: Path, *, name: str, version: str, tail: int, follow: bool) -> AsyncIterator[bytes]:
    """Whole lines. With several replicas each line says whose it is. The file that a rotation put aside comes first."""
    files = await asyncio.to_thread(find_logs, folder, version)
    if not files and not follow:
        wanted = f" of {version}" if version else ""
        raise NotFound(f"{name!r} has no log{wanted}: none of its replicas has started on this server yet")
    several = len(files) > 1
    places: dict[Path, _Place] = {}
    for path in files:
        lines, places[path] = await asyncio.to_thread(last_lines, path, tail)
        if lines:
            yield b"".join(_marked(path, line, several) for line in lines)
    while follow:
        await asyncio.sleep(FOLLOW_S)
        for path in await asyncio.to_thread(find_logs, folder, version):
            place = places.setdefault(path, _Place())
            lines = await asyncio.to_thread(place.more, path)
            if lines:
                yield b"".join(_marked(path, line, several or len(places) > 1) for line in lines)


def find_logs(folder: Path, version: str) -> list[Path]:
    """By version and replica."""
    try:
        found = [(match, entry) for entry in folder.iterdir() if (match := _FILE.match(entry.name))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [(match, entry) for match, entry in found if version in ("", match[1])]
    return [entry for _, entry in sorted(found, key=lambda each: (int(each[0][1][1:]), int(each[0][2])))]


def last_lines(path: Path, count: int) -> tuple[list[bytes], _Place]:
    """The last `count` whole lines, and where the file goes on from there."""
    place = _Place()
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            lines, whole = _tail(file.fileno(), size, count)
            place.offset = whole
    except OSError:
        return [], place
    missing = count - len(lines)
    if missing > 0:
        try:
            with path.with_name(path.name + ".1").open("rb") as file:
                earlier, _ = _tail(file.fileno(), file.seek(0, os.SEEK_END), missing)
                lines = earlier + lines
        except OSError:
            pass  # never rotated
    return lines, place


class _Place:
    """How far a file was read. It was cut (copytruncate) where it is shorter than that."""

    def __init__(self) -> None:
        self.offset = 0

    def more(self, path: Path) -> list[bytes]:
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size < self.offset:
                    self.offset = 0
                data = os.pread(file.fileno(), min(size - self.offset, LONGEST_LINE_BYTES), self.offset)
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        if not end and len(data) == LONGEST_LINE_BYTES:
            end = len(data)  # nobody waits for the end of such a line
        self.offset += end
        return data[:end].splitlines(keepends=True)


def _tail(opened: int, size: int, count: int) -> tuple[list[bytes], int]:
    """The last lines, and where the last whole one ends."""
    data, start = b"", size
    while start > 0 and data.count(b"\n") <= count and len(data) < MOST_TAIL_BYTES:
        step = min(CHUNK_BYTES, start)
        start -= step
        data = os.pread(opened, step, start) + data
    end = data.rfind(b"\n") + 1
    lines = data[:end].splitlines(keepends=True)
    if start > 0:
        lines = lines[1:]  # its beginning is further up
    return (lines[-count:] if count > 0 else []), start + end


def _marked(path: Path, line: bytes, several: bool) -> bytes:
    return b"%s | %s" % (path.name.removesuffix(".log").encode(), line) if several else line
