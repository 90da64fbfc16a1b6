"""All tables of the first release, and the head's one row."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _words(name: str, *, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=False)


def _number(name: str, *, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, primary_key=key, autoincrement=False, nullable=False)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _time(name: str, *, may_lack: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double, nullable=may_lack)


def _bytes(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _deployment() -> sa.Column[Any]:
    owner = sa.ForeignKey("slipway_deployments.name", ondelete="CASCADE")
    return sa.Column("deployment", sa.Text, owner, primary_key=True, nullable=False)


def upgrade() -> None:
    _head()
    _deployments()
    _journal()
    _credentials()


def _head() -> None:
    head = op.create_table(
        "slipway_head",
        _number("id", key=True),
        _words("holder"),
        _time("expires_at"),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("audit_seq", sa.BigInteger, nullable=False),
        _words("audit_hash"),
    )
    op.bulk_insert(
        head, [{"id": 1, "holder": "", "expires_at": 0.0, "epoch": 0, "audit_seq": 0, "audit_hash": "0" * 64}]
    )


def _deployments() -> None:
    op.create_table(
        "slipway_deployments",
        _words("name", key=True),
        _words("spec"),
        *(_number(name) for name in ("revision", "live", "target")),
        *(_flag(name) for name in ("hold", "deleting")),
        *(_time(name) for name in ("created_at", "updated_at")),
        _words("updated_by"),
    )
    op.create_table(
        "slipway_versions",
        _deployment(),
        _number("number", key=True),
        *(_words(name) for name in ("source", "digest")),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        *(_words(name) for name in ("settings", "state")),
        _time("progress"),
        *(_words(name) for name in ("error", "platform")),
        _time("created_at"),
        _words("created_by"),
    )
    op.create_table(
        "slipway_revisions",
        _deployment(),
        _number("revision", key=True),
        _time("at"),
        *(_words(name) for name in ("actor", "action")),
        _number("version"),
        *(_words(name) for name in ("spec", "changes")),
    )


def _journal() -> None:
    op.create_table(
        "slipway_events",
        sa.Column("id", COUNTER, primary_key=True, autoincrement=True),
        _time("at"),
        *(_words(name) for name in ("kind", "deployment")),
        _number("version"),
        *(_words(name) for name in ("message", "data")),
        sqlite_autoincrement=True,
    )
    op.create_index("slipway_events_of", "slipway_events", ["deployment", "id"])
    op.create_table(
        "slipway_audit",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=False),
        _time("at"),
        *(_words(name) for name in ("actor", "action", "target", "details", "previous", "hash")),
    )
    op.create_table(
        "slipway_answers",
        *(_words("key", key=True), _words("fingerprint"), _number("status"), _words("headers")),
        _bytes("body"),
        _time("at"),
    )
    op.create_index("slipway_answers_by_age", "slipway_answers", ["at"])


def _credentials() -> None:
    op.create_table(
        "slipway_keys",
        _words("id", key=True),
        *(_words(name) for name in ("name", "prefix", "hash", "scopes")),
        *(_time("created_at"), _words("created_by")),
        *(_time(name, may_lack=True) for name in ("expires_at", "last_used_at", "revoked_at", "retires_at")),
        _number("revision"),
    )
    op.create_table(
        "slipway_users",
        _words("name", key=True),
        *(_words(name) for name in ("hash", "scopes")),
        *(_time("created_at"), _words("created_by"), _time("last_used_at", may_lack=True)),
        _number("revision"),
    )
    op.create_table(
        "slipway_secrets",
        *(_words("name", key=True), _bytes("sealed"), _time("created_at"), _time("updated_at")),
        *(_words("updated_by"), _number("revision")),
    )
