"""Opening: URLs, migrations from each earlier state, and a database that is newer than the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres import Database

from slipway.errors import MissingExtra, SetupError, SlipwayError
from slipway.store import address, opening
from slipway.store.database import Database as Way
from slipway.store.opening import alembic_config, open_store
from slipway.store.tables import METADATA, SCHEMA, SCHEMA_TABLE


def test_the_migrations_end_where_the_code_is(database: Database) -> None:
    store = database.open()
    with store._database.reading() as connection:
        script = ScriptDirectory.from_config(alembic_config(connection))
        assert script.get_heads() == [SCHEMA]
        context = MigrationContext.configure(
            connection, opts={"version_table": SCHEMA_TABLE, "compare_type": True, "target_metadata": METADATA}
        )
        assert compare_metadata(context, METADATA) == []
    assert database.sql(f"SELECT version_num FROM {SCHEMA_TABLE}") == [(SCHEMA,)]


def test_an_older_database_is_brought_up_to_date(database: Database) -> None:
    """One that is at the first migration and has data."""
    way = Way(database.url)
    way.make_file()
    with way.migrating() as connection:
        command.upgrade(alembic_config(connection), "0001")
    way.close()
    database.sql("INSERT INTO slipway_secrets VALUES ('kept', 'x', 1.0, 1.0, 'ann', 1)")
    with pytest.raises(SetupError, match=rf"tables are at 0001, and this Slipway needs {SCHEMA}.*migrate=True"):
        database.open(migrate=False)
    store = database.open()
    assert [secret.name for secret in store.secrets()] == ["kept"]
    store.note(actor="a", action="b", target="c", details={}, now=1.0)
    with pytest.raises(Exception, match="append-only"):
        database.sql("DELETE FROM slipway_audit")
    assert database.open(migrate=False).verify_audit() is None


def test_a_new_database_that_nobody_allowed_to_fill(database: Database) -> None:
    with pytest.raises(SetupError, match="tables are not there"):
        database.open(migrate=False)


def test_a_newer_database_is_left_alone(database: Database) -> None:
    database.open().close()
    database.sql(f"UPDATE {SCHEMA_TABLE} SET version_num = '9001'")
    before = database.sql("SELECT * FROM slipway_head")
    for migrate in (True, False):
        with pytest.raises(SetupError, match=r"newer Slipway: its tables are at 9001.*Nothing was changed"):
            database.open(migrate=migrate)
    assert database.sql(f"SELECT version_num FROM {SCHEMA_TABLE}") == [("9001",)]
    assert database.sql("SELECT * FROM slipway_head") == before


def test_a_migration_that_fails_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def upgrade_and_fall(*arguments: object) -> None:
        command_upgrade(*arguments)
        raise KeyboardInterrupt

    command_upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", upgrade_and_fall)
    with pytest.raises(KeyboardInterrupt):
        database.open()
    monkeypatch.undo()
    tables = "sqlite_master" if database.kind == "sqlite" else "pg_tables WHERE schemaname = 'public'"
    assert database.sql(f"SELECT count(*) FROM {tables}") == [(0,)]
    assert database.open().deployments() == []


def test_a_database_shared_with_others(database: Database) -> None:
    database.sql("CREATE TABLE alembic_version (version_num TEXT)")
    database.sql("INSERT INTO alembic_version VALUES ('theirs')")
    database.sql("CREATE TABLE users (name TEXT)")
    assert database.open().users() == []
    assert database.sql("SELECT * FROM alembic_version") == [("theirs",)]


@pytest.mark.parametrize("url", [
    "", "nonsense", "sqlite", "mysql://ann:s3cret@host/db", "postgresql+psycopg2://ann:s3cret@host/db",
    "sqlite://slipway.db", "sqlite://ann:s3cret@host/x.db", "sqlite:///x.db?timeout=s3cret1", "sqlite:///x.db?mode=ro",
    "postgresql://ann:s3cret@host:port/db",
])  # fmt: skip
def test_a_url_that_names_no_database(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError) as raised:
        open_store(url)
    assert ":s3cret" not in raised.value.message
    assert "sqlite:////" in raised.value.message or "timeout" in raised.value.message
    assert list(tmp_path.iterdir()) == []


def test_postgresql_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'slipway\[postgres\]'"):
        open_store("postgresql://host/db")


@pytest.mark.parametrize(("given", "shown"), [
    ("postgres://ann:s3cret@host:5433/db", "postgresql://ann@host:5433/db"),
    ("postgresql+psycopg://ann:s%40cret@host/db?password=x&sslmode=require", "postgresql://ann@host/db?sslmode=require"),
    ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=%2Frun%2Fpostgresql"),
    ("sqlite://", "sqlite://"), ("sqlite:///:memory:", "sqlite://"),
    ("sqlite:////a b%20/c.db?timeout=2", "sqlite:////a b%20/c.db"),
])  # fmt: skip
def test_how_a_url_is_shown(given: str, shown: str) -> None:
    assert address.parse(given).shown == shown


def test_a_relative_path_stays_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///here.db")
    monkeypatch.chdir("/")
    assert store.deployments() == [] and store.url_shown == f"sqlite:///{tmp_path}/here.db"
    store.close()


def test_the_migrations_are_shipped() -> None:
    """Each is a module of a package, which is what gets into a wheel."""
    folder = opening.MIGRATIONS
    assert {path.name for path in folder.glob("*.py")} == {"__init__.py", "env.py"}
    assert (folder / "versions/__init__.py").exists() and len(list((folder / "versions").glob("v*.py"))) == int(SCHEMA)


def test_errors_are_of_the_tree() -> None:
    assert issubclass(MissingExtra, SetupError) and issubclass(SetupError, SlipwayError)
