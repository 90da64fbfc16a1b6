"""The central queue of one version: who goes next, what shares a batch, what is refused and what is dropped.

Pure: `now` (seconds, monotonic) is an argument and nothing here waits. Limits count rows and bytes, not requests.

Order is by *virtual time*: the moment an entry came plus `patience_s` for each level of priority below the top. So an
urgent entry overtakes, but only those that came less than `patience_s` per level before it: nobody starves. Entries
with equal virtual time go in the order in which they came. Only entries with equal keys share a batch.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

from slipway.errors import Overloaded

LEVELS = 4
DEFAULT_PATIENCE_S = 1.0
MIN_COMPACT = 1024


class Entry:
    """Something that waits. Subclass it to carry more; only the queue writes these fields.

    `taken`: rows that left for a replica already (a large entry leaves in parts). `queued`: still counted.
    """

    __slots__ = ("arrived", "deadline", "key", "nbytes", "number", "queued", "rows", "taken", "virtual")

    rows: int
    nbytes: int
    key: object
    arrived: float
    deadline: float
    virtual: float
    number: int
    taken: int
    queued: bool


E = TypeVar("E", bound=Entry)


class Slice(NamedTuple, Generic[E]):
    """Rows start..stop of an entry, as a part of a batch."""

    entry: E
    start: int
    stop: int


class Queue(Generic[E]):
    def __init__(self, *, max_rows: int, max_bytes: int, patience_s: float = DEFAULT_PATIENCE_S) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._patience_s = patience_s
        self._lines: dict[tuple[object, int], deque[E]] = {}
        self._count = 0
        self._gone = 0  # entries that left by `remove` and still stand in a line
        self._compact_at = MIN_COMPACT
        self.rows = 0
        self.nbytes = 0

    def offer(
        self, entry: E, *, now: float, rows: int, nbytes: int, key: object, deadline: float, priority: int
    ) -> None:
        """Let an entry of at least one row in, or raise Overloaded at once; then nothing has changed.

        An entry that is larger than the whole queue is let in when the queue is empty: otherwise it could never be
        served.
        """
        if self.rows and (self.rows + rows > self.max_rows or self.nbytes + nbytes > self.max_bytes):
            raise Overloaded(
                f"the queue is full: {self.rows} of {self.max_rows} rows and {self.nbytes} of {self.max_bytes} bytes "
                f"wait already, and this request brings {rows} rows and {nbytes} bytes; try again shortly",
                retry_after_s=1.0,
            )
        level = 0 if priority < 0 else LEVELS - 1 if priority >= LEVELS else priority
        entry.rows = rows
        entry.nbytes = nbytes
        entry.key = key
        entry.arrived = now
        entry.deadline = deadline
        entry.virtual = now + level * self._patience_s
        self._count = entry.number = self._count + 1
        entry.taken = 0
        entry.queued = True
        line = self._lines.get((key, level))
        if line is None:
            line = self._lines[key, level] = deque()
        line.append(entry)
        self.rows += rows
        self.nbytes += nbytes

    def remove(self, entry: E) -> bool:
        """Forget an entry that waits (cancelled); False when it does not wait any more."""
        if not entry.queued:
            return False
        self._leave(entry)
        self._gone += 1
        if self._gone >= self._compact_at:
            self._compact()
        return True

    def _compact(self) -> None:
        """Clients that come and go while nothing is taken must not pile up in the lines."""
        for at, line in tuple(self._lines.items()):
            kept = deque(entry for entry in line if entry.queued)
            if kept:
                self._lines[at] = kept
            else:
                del self._lines[at]
        self._gone = 0
        self._compact_at = max(MIN_COMPACT, sum(map(len, self._lines.values())))

    def take(self, *, now: float, max_rows: int, compute_s: float = 0.0) -> tuple[list[Slice[E]], list[E]]:
        """The next batch of at most `max_rows` rows, and the entries dropped on the way.

        Dropped is what would come too late: a batch begun now is done `compute_s` later. The batch is empty when
        nothing waits. An entry larger than `max_rows` leaves in parts over several calls, in order.
        """
        dropped: list[E] = []
        batch: list[Slice[E]] = []
        first = self._next_line(None, now + compute_s, dropped)
        if first is None:
            return batch, dropped
        key = first[0].key
        room = max_rows
        line: deque[E] | None = first
        while line:
            entry = line[0]
            left = entry.rows - entry.taken
            if left > room:
                if entry.rows > max_rows and (left == entry.rows or not batch):
                    # Larger than any batch: fill this one with a part of it, and leave the rest in front.
                    batch.append(Slice(entry, entry.taken, entry.taken + room))
                    entry.taken += room
                    self.rows -= room
                break
            batch.append(Slice(entry, entry.taken, entry.rows))
            self._leave(entry)
            entry.taken = entry.rows
            line.popleft()
            room -= left
            if not room:
                break
            if not line or not self._only_line(line, now + compute_s):
                line = self._next_line(key, now + compute_s, dropped)
        return batch, dropped

    def head(self) -> E | None:
        """The entry that goes next, or None."""
        line = self._next_line(None, float("-inf"), [])
        return line[0] if line else None

    def drop_all(self) -> list[E]:
        """Everything that waits leaves, in no particular order."""
        left = [entry for line in self._lines.values() for entry in line if entry.queued]
        for entry in left:
            self._leave(entry)
        self._lines.clear()
        self._gone = 0
        return left

    def _leave(self, entry: E) -> None:
        entry.queued = False
        self.rows -= entry.rows - entry.taken
        self.nbytes -= entry.nbytes

    def _only_line(self, line: deque[E], latest: float) -> bool:
        """Cheap test for the common case: nobody else waits, and the head may go."""
        head = line[0]
        return len(self._lines) == 1 and head.queued and head.deadline >= latest

    def _next_line(self, key: object, latest: float, dropped: list[E]) -> deque[E] | None:
        """The line (of `key`, unless None) whose head goes first; heads that are gone or too late leave."""
        best: deque[E] | None = None
        empty: list[tuple[object, int]] = []
        for at, line in self._lines.items():
            if key is not None and at[0] != key:
                continue
            while line:
                head = line[0]
                if head.queued and head.deadline >= latest:
                    break
                line.popleft()
                if head.queued:
                    self._leave(head)
                    dropped.append(head)
                else:
                    self._gone -= 1
            if not line:
                empty.append(at)
            elif best is None or (line[0].virtual, line[0].number) < (best[0].virtual, best[0].number):
                best = line
        for at in empty:
            del self._lines[at]
        return best
