"""The database itself refuses to change the audit log: entries can be added at its end and nothing else."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

REFUSAL = "the audit log is append-only"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgres()


def _sqlite() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER slipway_audit_no_{verb.lower()} BEFORE {verb} ON slipway_audit "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        )
    # An INSERT OR REPLACE would remove an entry without a DELETE that a trigger sees.
    op.execute(
        "CREATE TRIGGER slipway_audit_at_end BEFORE INSERT ON slipway_audit "
        "WHEN EXISTS (SELECT 1 FROM slipway_audit WHERE seq >= NEW.seq) "
        f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
    )


def _postgres() -> None:
    op.execute(
        "CREATE FUNCTION slipway_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER slipway_audit_no_change BEFORE UPDATE OR DELETE ON slipway_audit "
        "FOR EACH ROW EXECUTE FUNCTION slipway_audit_refuse()"
    )
    op.execute(
        "CREATE TRIGGER slipway_audit_no_truncate BEFORE TRUNCATE ON slipway_audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION slipway_audit_refuse()"
    )
