"""The tables as the code sees them now. How a database got there is told by the migrations; a test compares the two.

Every name begins with `slipway_`, so that a database that others use too can be shared. Columns bear the names of the
records' fields, which makes a row a record without a translation.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

SCHEMA = "0002"  # the newest migration: a database that has it needs no look at the others
SCHEMA_TABLE = "slipway_schema"


def clean(text: str) -> str:
    """What both databases can hold: PostgreSQL knows no NUL, and neither knows half a surrogate pair. Such things come
    in with a model's error message or the name in a failed login."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def to_json(value: Any) -> str:
    """Clean in the same way (a NUL is escaped in JSON anyhow). NaN and infinities, which JSON lacks, become null: a
    number that nobody knows must not keep an event from being written."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(text: str) -> Any:
    return msgspec.json.decode(text)


class Words(TypeDecorator[str]):
    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Any) -> str | None:
        return None if value is None else clean(value)


class Json(TypeDecorator[Any]):
    """Text and not the database's own JSON: PostgreSQL's would reorder keys and refuse `\\u0000`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> str:
        return to_json(value)

    def process_result_value(self, value: str | None, _dialect: Any) -> Any:
        return None if value is None else from_json(value)


METADATA = MetaData()

# One row. Whoever writes locks it first, so there is one writer at a time on either database; it holds what each write
# has to look at: who leads, and where the audit log's chain ends.
HEAD = Table(
    "slipway_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", Words, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("audit_seq", BigInteger, nullable=False),
    Column("audit_hash", Text, nullable=False),
)

DEPLOYMENTS = Table(
    "slipway_deployments",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("spec", Json, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("live", Integer, nullable=False),
    Column("target", Integer, nullable=False),
    Column("hold", Boolean, nullable=False),
    Column("deleting", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("updated_by", Words, nullable=False),
)


def _owner() -> Column[str]:
    return Column("deployment", Words, ForeignKey("slipway_deployments.name", ondelete="CASCADE"), primary_key=True)


VERSIONS = Table(
    "slipway_versions",
    METADATA,
    _owner(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("source", Words, nullable=False),
    Column("digest", Words, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("settings", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Double, nullable=False),
    Column("error", Words, nullable=False),
    Column("platform", Words, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Words, nullable=False),
)

REVISIONS = Table(
    "slipway_revisions",
    METADATA,
    _owner(),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor", Words, nullable=False),
    Column("action", Words, nullable=False),
    Column("version", Integer, nullable=False),
    Column("spec", Json, nullable=False),
    Column("changes", Json, nullable=False),
)

# SQLite's INTEGER is its row id; AUTOINCREMENT keeps the id of a pruned event from being given out again.
EVENTS = Table(
    "slipway_events",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("kind", Words, nullable=False),
    Column("deployment", Words, nullable=False),
    Column("version", Integer, nullable=False),
    Column("message", Words, nullable=False),
    Column("data", Json, nullable=False),
    Index("slipway_events_of", "deployment", "id"),
    sqlite_autoincrement=True,
)

AUDIT = Table(
    "slipway_audit",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor", Words, nullable=False),
    Column("action", Words, nullable=False),
    Column("target", Words, nullable=False),
    Column("details", Json, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

KEYS = Table(
    "slipway_keys",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("prefix", Words, nullable=False),
    Column("hash", Text, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Words, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Column("retires_at", Double),
    Column("revision", Integer, nullable=False),
)

USERS = Table(
    "slipway_users",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Words, nullable=False),
    Column("last_used_at", Double),
    Column("revision", Integer, nullable=False),
)

SECRETS = Table(
    "slipway_secrets",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("updated_by", Words, nullable=False),
    Column("revision", Integer, nullable=False),
)

ANSWERS = Table(
    "slipway_answers",
    METADATA,
    Column("key", Words, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", Json, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at", Double, nullable=False),
    Index("slipway_answers_by_age", "at"),
)
