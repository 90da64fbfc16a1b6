"""The way to the database: connections, and the two kinds of transaction that the rest of the store is made of.

There is one writer at a time on either database, because each change begins with locking the head's row (SQLite: by
taking its write lock). So numbers are given in the order in which changes commit, nobody who reads by "greater than the
last id" misses one, the audit log cannot fork, and what a change checked first stays true until it commits. A control
plane writes seldom; what it needs is to be right.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from slipway.clock import SystemClock
from slipway.errors import NotLeader, StoreUnavailable
from slipway.spec.resources import AuditEntry
from slipway.store import address
from slipway.store.chain import sealed
from slipway.store.failures import unavailable
from slipway.store.tables import AUDIT, HEAD, clean, from_json, to_json

POOL = 5
STATEMENT_MS = 10_000
IDLE_MS = 5_000  # a writer that stops in the middle (a paused machine) must not keep the next leader waiting
REPLACED = -1
"""The fence after another file came into the place of the one that its holder knew: no epoch is that."""
_WRITES = "slipway_writes"


class Head(NamedTuple):
    holder: str
    expires_at: float
    epoch: int
    audit_seq: int
    audit_hash: str


class Change:
    """One transaction that writes. It holds the head's lock, so nothing else is written until it ends."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.head = head

    def audit(self, *, actor: str, action: str, target: str, details: dict[str, Any], now: float) -> AuditEntry:
        """Append to the audit log; it is there if, and only if, the rest of this change is."""
        entry = sealed(
            AuditEntry(
                seq=self.head.audit_seq + 1,
                at=float(now),
                actor=clean(actor),
                action=clean(action),
                target=clean(target),
                details=from_json(to_json(details)),  # as it will be read
                previous=self.head.audit_hash,
                hash="",
            )
        )
        self.connection.execute(AUDIT.insert().values(**vars(entry)))
        self.write_head(self.head._replace(audit_seq=entry.seq, audit_hash=entry.hash))
        return entry

    def write_head(self, head: Head) -> None:
        self.connection.execute(HEAD.update().values(**head._asdict()))
        self.head = head


class Database:
    """Connections to one database. `fence`: the lease's epoch that every change checks first, None for no check."""

    def __init__(self, url: str) -> None:
        self._address = address.parse(url)
        self.shown, self.path = self._address.shown, self._address.path
        self.fence: int | None = None
        self.is_sqlite = self._address.url is None
        self._file: tuple[int, int] | None = None  # device and inode of the file that the connections have open
        self._engine = self._postgres_engine(self._address.url) if self._address.url else self._sqlite_engine()
        reads = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        writes = {_WRITES: True} if self.is_sqlite else {"isolation_level": "READ COMMITTED"}
        self._reads = self._engine.execution_options(**reads)
        self._writes = self._engine.execution_options(**writes)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot: whatever is read within is of one moment. Raises StoreUnavailable."""
        with self._guarded(), self._reads.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, *, fenced: bool = True) -> Iterator[Change]:
        """All of it or nothing; what raises within undoes it. Raises StoreUnavailable, and NotLeader when the lease has
        gone to somebody else."""
        with self.migrating() as connection:
            head = Head(*connection.execute(select(*_HEAD).with_for_update()).one())
            if fenced and self.fence == REPLACED:
                raise StoreUnavailable(f"The store {self.shown} was replaced by another file, which is read first. "
                                       "Nothing was changed; ask again in a moment.", retry_after_s=1.0)  # fmt: skip
            if fenced and self.fence is not None and head.epoch != self.fence:
                whom = f"{head.holder!r} leads" if head.holder else "nobody leads at present"
                raise NotLeader(f"This controller no longer leads: {whom} (epoch {head.epoch}, ours was {self.fence}). "
                                "Nothing was changed; ask again, and the leader will answer.")  # fmt: skip
            yield Change(connection, head)

    @contextlib.contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A transaction that writes without looking at the head, which may not be there yet."""
        with self._guarded(), self._writes.begin() as connection:
            yield connection

    def clock(self, connection: Connection) -> float:
        """Seconds since 1970 by the database's clock, which is the same for all who use it."""
        if self.is_sqlite:  # unixepoch('subsec') came with 3.42 only
            return float(connection.scalar(text("SELECT (julianday('now') - 2440587.5) * 86400.0")) or 0)
        return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0)

    def close(self) -> None:
        self._engine.dispose()

    def make_file(self) -> None:
        """The SQLite file, readable by its owner only; SQLite gives its companions (-wal, -shm) the same mode."""
        if self.path is None:
            return
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except FileNotFoundError:
            raise StoreUnavailable(f"The store {self.shown} cannot be opened: there is no folder {self.path.parent}. "
                                   "Make it, or name another.") from None  # fmt: skip
        except OSError as error:
            raise StoreUnavailable(f"The store {self.shown} cannot be opened: {error.strerror}. The file and its "
                                   "folder must belong to the user that runs Slipway.") from None  # fmt: skip

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        self._look_for_file()
        try:
            yield
        except SQLAlchemyError as error:
            if isinstance(error, StatementError) and not isinstance(error, DBAPIError) and error.orig:
                raise error.orig from None  # no JSON was to be written: the caller's mistake, not the database's
            # A connection may remember what was wrong (SQLite: a file opened read-only, PostgreSQL: the old primary).
            if isinstance(error, DBAPIError) and not (self.is_sqlite and self.path is None):
                self._engine.dispose()
            raise unavailable(error, shown=self.shown, password=self._address.password) from error

    def _look_for_file(self) -> None:
        """SQLite itself would go on writing to a file that was removed, and all of it would be lost."""
        if self.path is None:
            return
        try:
            found = self.path.stat()
        except OSError as error:
            raise StoreUnavailable(
                f"The store {self.shown} is gone ({error.strerror}). Put its file back, or start Slipway again to "
                "begin with an empty one.", retry_after_s=1.0,
            ) from None  # fmt: skip
        if self._file != (found.st_dev, found.st_ino):
            if self._file is not None:
                self._engine.dispose()
                if self.fence is not None:  # what its holder knows is of another file: it has to ask for the lease anew
                    self.fence = REPLACED
            self._file = (found.st_dev, found.st_ino)

    def _sqlite_engine(self) -> Engine:
        path, busy_s = self.path, self._address.busy_s

        def connect() -> sqlite3.Connection:
            if path and not os.access(path, os.W_OK):
                # SQLite would read it, and leave companions (-wal, -shm) that cannot be written either when it can be.
                raise StoreUnavailable(f"The store {self.shown} cannot be written. Its file must be writable by the "
                                       "user that runs Slipway.", retry_after_s=1.0)  # fmt: skip
            # mode=rw: a file that is not there is an error; only make_file() makes one.
            where = f"file:{quote(str(path))}?mode=rw" if path else ":memory:"
            connection = sqlite3.connect(
                where, uri=path is not None, timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare_sqlite(connection, in_memory=path is None, busy_s=busy_s)
            except BaseException:
                connection.close()
                raise
            return connection

        size = POOL if path else 1  # a database in memory is its connection
        engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=size, max_overflow=0,
                               pool_timeout=10, hide_parameters=True)  # fmt: skip

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # The write lock from the start: one taken later could fail in the middle, whatever the busy timeout.
            writes = connection.get_execution_options().get(_WRITES)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def _postgres_engine(self, url: URL) -> Engine:
        options = {key: value for key, value in address.LIBPQ.items() if key not in url.query}
        engine = create_engine(url, connect_args=options, pool_pre_ping=True, pool_size=POOL, max_overflow=0,
                               pool_timeout=10, hide_parameters=True)  # fmt: skip

        @event.listens_for(engine, "connect")
        def connect(connection: Any, _record: Any) -> None:
            connection.execute(f"SET statement_timeout = {STATEMENT_MS}")
            connection.execute(f"SET lock_timeout = {int(self._address.busy_s * 1000)}")
            connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_MS}")
            connection.commit()

        return engine


_HEAD = [HEAD.c[name] for name in Head._fields]


def _prepare_sqlite(connection: sqlite3.Connection, *, in_memory: bool, busy_s: float) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")  # REPLACE must not get round the audit log's triggers
    # FULL: what was answered survives a power failure; with NORMAL and a WAL the last changes would be undone, such as
    # the revocation of a key. It costs one fsync a change, and a control plane changes little.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 16777216")
    clock = SystemClock()
    deadline = clock.now() + busy_s
    while not in_memory:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Two who turn a new file to WAL at once: SQLite tells one of them at once that it is busy, without waiting.
            if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY") or clock.now() >= deadline:
                raise
            clock.sleep(0.01)
