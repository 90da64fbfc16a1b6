"""What a database says when it cannot, put into words that say what to do. One place, so that every part of the store
fails alike, and no password gets into a message."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from slipway.errors import StoreUnavailable

# The beginning of SQLite's result code: what is the matter, what helps.
SQLITE = {
    "SQLITE_FULL": ("is on a full disk", "Free some space and try again; nothing of this change was kept."),
    "SQLITE_READONLY": ("cannot be written", "Its file, the -wal and -shm beside it, and their folder must be writable "
                        "by the user that runs Slipway."),
    "SQLITE_BUSY": ("is locked by another process", "End what holds it (`fuser` on the file tells), and try again."),
    "SQLITE_LOCKED": ("is locked by another process", "End what holds it (`fuser` on the file tells), and try again."),
    "SQLITE_CANTOPEN": ("cannot be opened", "The file and its folder must be there, and belong to the user that runs "
                        "Slipway."),
    "SQLITE_PERM": ("cannot be opened", "The file must belong to the user that runs Slipway."),
    "SQLITE_IOERR": ("cannot be read or written", "Look for a full or failing disk, a file size limit, a lost mount."),
    "SQLITE_CORRUPT": ("is damaged", "Stop Slipway and put a backup in its place."),
    "SQLITE_NOTADB": ("is not a SQLite database", "Name another file, or put a backup in its place."),
    "SQLITE_TOOBIG": ("was given something too large", "Make it smaller."),
}  # fmt: skip

# The beginning of PostgreSQL's SQLSTATE.
POSTGRES = {
    "53100": ("is on a full disk", "Free some space on the database's machine."),
    "53300": ("has no connection left", "Raise max_connections, or end clients that hold theirs."),
    "53": ("is out of resources", "See the database's own log."),
    "28": ("did not let Slipway in", "Check user and password of the URL, and the database's pg_hba.conf."),
    "3D000": ("does not exist", "Make it: createdb -E UTF8 NAME."),
    "42501": ("does not allow this", "Its user must own the database, or be granted CREATE on the schema."),
    "42P01": ("has lost its tables", "Put a backup back, or start Slipway again to make new ones."),
    "25006": ("takes no writes", "It is a standby, or set to read-only; name the primary."),
    "25P03": ("ended a change that took too long", "Try again."),
    "55P03": ("is held up by another writer", "Try again; pg_stat_activity tells who it is."),
    "57014": ("took too long", "Try again; see the load of the database."),
    "57P": ("is shutting down or starting", "Try again in a moment."),
    "22P05": ("cannot hold this text", "Its encoding must be UTF8: createdb -E UTF8 NAME."),
}

# What the PostgreSQL client says where there is no SQLSTATE, because there is no connection.
UNCONNECTED = {
    "authentication failed": POSTGRES["28"],
    "no password supplied": POSTGRES["28"],
    "no pg_hba.conf entry": POSTGRES["28"],
    "too many clients": POSTGRES["53300"],
    "remaining connection slots": POSTGRES["53300"],
    "role ": ("did not let Slipway in", "Make the user: createuser NAME."),
    "database ": POSTGRES["3D000"],
    "starting up": POSTGRES["57P"],
    "shutting down": POSTGRES["57P"],
}
# And where a connection that was there is not any more; older clients keep the SQLSTATE to themselves.
BROKEN = {
    "idle-in-transaction timeout": POSTGRES["25P03"],
    "terminating connection": ("broke the connection off", "Try again."),
    "closed the connection": ("broke the connection off", "Try again."),
}
UNREACHABLE = ("cannot be reached", "Check that it runs and that host and port of the URL are right.")
STRANGE = ("refused", "See the database's own log.")


def unavailable(error: SQLAlchemyError, *, shown: str, password: str) -> StoreUnavailable:
    """`shown`: the URL as it may be seen. `password` is taken out of whatever the database says, should it be there."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    told = getattr(cause, "diag", None)  # PostgreSQL's error in parts; the text has the statement in it too
    words = " ".join(str(getattr(told, "message_primary", None) or cause or error).split())
    if isinstance(error, PoolTimeout):
        what, advice = "has all its connections in use", "Try again in a moment."
    elif isinstance(cause, sqlite3.Error):
        what, advice = _of_sqlite(cause)
    else:
        what, advice = _of_postgres(str(getattr(cause, "sqlstate", None) or ""), words)
    if password:
        words = words.replace(password, "***")
    return StoreUnavailable(f"The store {shown} {what}: {words.rstrip('.')}. {advice}", retry_after_s=1.0)


def _of_sqlite(cause: sqlite3.Error) -> tuple[str, str]:
    name = getattr(cause, "sqlite_errorname", "")
    if "no such table" in str(cause):
        return POSTGRES["42P01"]
    return next((found for start, found in SQLITE.items() if name.startswith(start)), STRANGE)


def _of_postgres(state: str, words: str) -> tuple[str, str]:
    if state:
        return next((found for start, found in POSTGRES.items() if state.startswith(start)), STRANGE)
    fatal = words.partition("FATAL:")[2]
    refused = (found for part, found in UNCONNECTED.items() if part in fatal)
    broken = (found for part, found in BROKEN.items() if part in words)
    return next(refused, None) or next(broken, UNREACHABLE)
