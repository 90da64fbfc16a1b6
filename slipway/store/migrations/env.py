"""What Alembic runs for a migration. The connection comes from `slipway.store.opening`, with its transaction and its
lock; without one (the `alembic` command) there is nothing to do here."""

from __future__ import annotations

from alembic import context

from slipway.store.tables import METADATA, SCHEMA_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=SCHEMA_TABLE
)
context.run_migrations()
