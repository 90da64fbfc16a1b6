"""What each identity has used up, shared by all gateways of a server, so that a limit holds for all of them together.

A table of fixed size in a file that every gateway maps. An identity's place is found by its hash: one bucket of 16
places, guarded by a lock on one byte of the file. The kernel drops that lock when its holder dies, at whatever
instruction: each place holds two records, the spare one is written whole, and one byte then makes it the valid one, so
whoever comes next sees the state before or after, never between. Nothing is ever swept: a place whose owner has his
whole limit again tells nothing, and the next newcomer takes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import mmap
import os
import struct
import threading
import time
from pathlib import Path

from slipway.errors import RateLimited, SetupError
from slipway.schedule.rate import Standing, Usage, is_idle, take
from slipway.spec.deployment import RequestLimits

FILE_NAME = "usage-1.table"
"""The number is that of the layout: another one is another file."""
BUCKETS = 2048
WAYS = 16
"""32,768 places. Once more than 16 active identities meet in one bucket, the one that has used least is forgotten: by
chance that begins beyond some 10,000 of them."""
_KEY_BYTES = 16
_HEAD_BYTES = 64
_RECORD = struct.Struct("<QQQQ")  # arrival (low, high half), day, rows
_VALID_AT = WAYS * _KEY_BYTES
_RECORDS_AT = _VALID_AT + WAYS
_BUCKET_BYTES = _RECORDS_AT + WAYS * 2 * _RECORD.size + 48
_EMPTY = bytes(_KEY_BYTES)
_LOW = 2**64 - 1
PATIENCE_S = 0.1
"""How long to wait for a gateway that was interrupted in the few microseconds of its turn, or stopped there."""
MAX_PLACES = 65_536


class LimitTable:
    """One for each process and file: the kernel does not keep two of one process apart.

    `path` None: memory of this process alone. Raises SetupError where the file cannot be made or is of something else.
    """

    def __init__(self, path: Path | None, *, buckets: int = BUCKETS) -> None:
        self._buckets = buckets
        self._fd = -1
        self._turn = threading.Lock()
        self._places: dict[tuple[str, str], tuple[int, bytes]] = {}
        size = _HEAD_BYTES + buckets * _BUCKET_BYTES
        if path is None:
            self._map = mmap.mmap(-1, size)
            return
        try:
            self._fd, self._map = _open(path, size)
        except OSError as error:
            raise SetupError(
                f"the table of used limits {path} cannot be made: {error.strerror or error}; limits need a writable "
                f"folder with {size // 1024} KiB of free space"
            ) from None

    def take(
        self,
        identity: str,
        deployment: str,
        limits: RequestLimits,
        *,
        now_ns: int,
        requests: int = 1,
        rows: int = 0,
    ) -> Standing | None:
        """Count it, if it may be; None where nothing is limited. `identity`: a Caller's id; `now_ns`: nanoseconds since
        1970, by the clock that all gateways share."""
        if limits.requests_per_s <= 0 and limits.rows_per_day <= 0:
            return None
        place = self._places.get((identity, deployment)) or self._find_place(identity, deployment)
        bucket, key = place
        with self._turn:
            if not self._lock(bucket):
                return Standing(False, "requests", 0, 0, 1.0, 1.0)
            try:
                return self._take(bucket, key, limits, now_ns=now_ns, requests=requests, rows=rows)
            finally:
                if self._fd >= 0:
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, bucket)

    def close(self) -> None:
        self._map.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(
        self, bucket: int, key: bytes, limits: RequestLimits, *, now_ns: int, requests: int, rows: int
    ) -> Standing | None:
        table = self._map
        way = _way_of(table[bucket : bucket + _VALID_AT], key)
        if way < 0:
            way = self._claim(bucket, key, now_ns)
        valid_at = bucket + _VALID_AT + way
        records = bucket + _RECORDS_AT + way * 2 * _RECORD.size
        valid = table[valid_at] & 1
        usage = self._read(records + valid * _RECORD.size)
        standing, after = take(limits, usage, now_ns=now_ns, requests=requests, rows=rows)
        if after is not usage:
            spare = valid ^ 1
            arrival, day, used = after
            _RECORD.pack_into(table, records + spare * _RECORD.size, arrival & _LOW, arrival >> 64, day, used)
            table[valid_at] = spare
        return standing

    def _read(self, at: int) -> Usage:
        low, high, day, rows = _RECORD.unpack_from(self._map, at)
        return Usage(low | high << 64, day, rows)

    def _claim(self, bucket: int, key: bytes, now_ns: int) -> int:
        """A place for a newcomer: empty, or of somebody who has all of his limit, or else who has used least of it."""
        table = self._map
        best, least = 0, (math.inf, math.inf)
        for way in range(WAYS):
            records = bucket + _RECORDS_AT + way * 2 * _RECORD.size
            at = bucket + way * _KEY_BYTES
            usage = self._read(records + (table[bucket + _VALID_AT + way] & 1) * _RECORD.size)
            if table[at : at + _KEY_BYTES] == _EMPTY or is_idle(usage, now_ns=now_ns):
                best = way
                break
            used = (usage.rows, usage.arrival)
            if used < least:
                best, least = way, used
        at = bucket + best * _KEY_BYTES
        records = bucket + _RECORDS_AT + best * 2 * _RECORD.size
        table[at : at + _KEY_BYTES] = _EMPTY  # in this order: dying here leaves an empty place, not a wrong owner
        table[records : records + 2 * _RECORD.size] = bytes(2 * _RECORD.size)
        table[at : at + _KEY_BYTES] = key
        return best

    def _lock(self, bucket: int) -> bool:
        if self._fd < 0:
            return True
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, bucket)
            return True
        except BlockingIOError:
            pass
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(0)
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, bucket)
                return True
            except BlockingIOError:
                time.sleep(20e-6)
        return False

    def _find_place(self, identity: str, deployment: str) -> tuple[int, bytes]:
        digest = hashlib.blake2b(f"{identity}\n{deployment}".encode("utf-8", "surrogatepass"), digest_size=24).digest()
        bucket = int.from_bytes(digest[_KEY_BYTES:], "little") % self._buckets
        place = (_HEAD_BYTES + bucket * _BUCKET_BYTES, digest[:_KEY_BYTES])
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        self._places[identity, deployment] = place
        return place


def refusal(standing: Standing, limits: RequestLimits, *, deployment: str) -> RateLimited:
    """The error for what was not admitted."""
    if standing.limit == 0:
        return RateLimited("the table of used limits is busy; try again", retry_after_s=standing.retry_after_s)
    if standing.kind == "rows":
        limit = f"{limits.rows_per_day} rows a day (UTC), of which {standing.remaining} are left"
    else:
        limit = f"{limits.requests_per_s:g} requests/s with bursts of {standing.limit}"
    if math.isinf(standing.retry_after_s):
        return RateLimited(f"this is more at once than the limit of {deployment!r} ever allows: {limit}")
    return RateLimited(f"over the limit of {deployment!r} for you: {limit}", retry_after_s=standing.retry_after_s)


def _way_of(keys: bytes, key: bytes) -> int:
    """Which of a bucket's places has this key, or -1."""
    at = keys.find(key)
    while at >= 0 and at % _KEY_BYTES:
        at = keys.find(key, at + 1)
    return at // _KEY_BYTES if at >= 0 else -1


def _open(path: Path, size: int) -> tuple[int, mmap.mmap]:
    """The file, made or joined. Its blocks are reserved: on a full disk a write to a hole would kill the process."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        return fd, mmap.mmap(fd, size)
    except BaseException:
        os.close(fd)
        raise
