"""How a database gets from the tables of one release to those of the next: one file in `versions/` for each step, never
changed once it was released. Run by `slipway.store.opening` through Alembic."""
