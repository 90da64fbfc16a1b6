"""Opening a store: the database is found or made, and brought to the tables of this code, by one opener at a time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from slipway.errors import SetupError
from slipway.store.database import Database
from slipway.store.store import Store
from slipway.store.tables import SCHEMA, SCHEMA_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x511B_AA17  # any number that is ours; PostgreSQL's advisory locks are named by numbers


def open_store(url: str, *, migrate: bool = True) -> Store:
    """`url`: `sqlite:////folder/slipway.db`, `sqlite://` for one in memory that is forgotten, or
    `postgresql://user:password@host/database`. `migrate`: bring older tables up to date; without it they are refused.

    Raises StoreUnavailable with the database's words, and SetupError for a URL that names none, for a database in
    another encoding than UTF-8, and for one that a newer Slipway has written, which is not touched.
    """
    database = Database(url)
    try:
        database.make_file()
        with database.reading() as connection:
            _check_encoding(connection, database)
            found = _schema(connection)
        if found != SCHEMA:
            _check_known(found, database, migrate=migrate)
            with database.migrating() as connection:
                _migrate(connection, database)
    except BaseException:
        database.close()
        raise
    return Store(database)


def alembic_config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _migrate(connection: Connection, database: Database) -> None:
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # seven lines of no interest
    from alembic import command

    if not database.is_sqlite:  # SQLite's write lock does it there
        connection.execute(text("SET LOCAL lock_timeout = '120s'"))
        connection.execute(text("SET LOCAL statement_timeout = '600s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    found = _schema(connection)  # again, as somebody may have been quicker
    if found != SCHEMA:
        _check_known(found, database, migrate=True)
        command.upgrade(alembic_config(connection), "head")


def _schema(connection: Connection) -> str:
    """The migration that the database is at, '' for none."""
    if not inspect(connection).has_table(SCHEMA_TABLE):
        return ""
    return str(connection.scalar(text(f"SELECT version_num FROM {SCHEMA_TABLE}")) or "")


def _check_known(found: str, database: Database, *, migrate: bool) -> None:
    known = sorted(path.stem[1:5] for path in (MIGRATIONS / "versions").glob("v*.py"))
    if found and found not in known:
        raise SetupError(f"The store {database.shown} was written by a newer Slipway: its tables are at {found}, and "
                         f"this one knows them up to {SCHEMA}. Install the newer Slipway again, or open a backup from "
                         "before. Nothing was changed.")  # fmt: skip
    if not migrate:
        state = f"at {found}" if found else "not there"
        raise SetupError(f"The store {database.shown} has to be brought up to date: its tables are {state}, and this "
                         f"Slipway needs {SCHEMA}. Open it with migrate=True.")  # fmt: skip


def _check_encoding(connection: Connection, database: Database) -> None:
    if database.is_sqlite:
        return
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding not in ("UTF8", "SQL_ASCII"):
        raise SetupError(f"The store {database.shown} has the encoding {encoding}, which cannot hold every text. Make "
                         "a database in UTF-8: createdb -T template0 -E UTF8 NAME.")  # fmt: skip
