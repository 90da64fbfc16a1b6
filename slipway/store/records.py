"""What the store remembers, one kind for each table. Times are seconds since 1970 in UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DeploymentRecord:
    """`spec`: a DeploymentSpec as plain JSON. `live`, `target`: version numbers, 0 for none; a target that is not live
    is on its way in, unless `hold`: then it waits to be promoted. `revision` grows with each change of what was
    declared, and is what optimistic concurrency compares. `deleting`: no new version, and gone once nothing of it
    runs."""

    name: str
    spec: dict[str, Any]
    revision: int
    live: int
    target: int
    hold: bool
    deleting: bool
    created_at: float
    updated_at: float
    updated_by: str


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """Immutable but for `state`, `error`, `progress`, `digest`, `size_bytes` (known once fetched) and `platform`.

    `settings`: what its replicas run with (the version's half of the spec, as plain JSON). `source`: what the spec
    called the model. `digest`: `sha256:…` of the artifact, '' for code that is imported. `state`: pending, fetching,
    fetched, failed, retired: what cannot be seen in a running process; the rest is observed.
    """

    deployment: str
    number: int
    source: str
    digest: str
    size_bytes: int
    settings: dict[str, Any]
    state: str
    progress: float
    error: str
    platform: str
    created_at: float
    created_by: str


@dataclass(frozen=True, kw_only=True)
class VersionSettings:
    """What a new version is made of; the store gives it the next number where it brings none (0). Fields as in
    VersionRecord."""

    source: str
    settings: dict[str, Any]
    digest: str = ""
    size_bytes: int = 0
    platform: str = ""
    state: str = "pending"
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class RevisionRecord:
    """One entry of a deployment's history. `version`: the target after it. `changes`: fields of the spec, such as
    `replicas.min: 1 → 2`."""

    deployment: str
    revision: int
    at: float
    actor: str
    action: str
    version: int
    spec: dict[str, Any]
    changes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    id: int
    at: float
    kind: str
    deployment: str
    version: int
    message: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """`hash`: SHA-256 of the whole key, hex. `retires_at`: the end of the overlap after a rotation. `revision`: as in a
    deployment, and so in users and secrets; that a key was used is no change."""

    id: str
    name: str
    prefix: str
    hash: str
    scopes: list[str]
    created_at: float
    created_by: str
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None
    retires_at: float | None
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class UserRecord:
    name: str
    hash: str
    scopes: list[str]
    created_at: float
    created_by: str
    last_used_at: float | None
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class SecretRecord:
    """`sealed`: encrypted and authenticated, never plain."""

    name: str
    sealed: bytes
    created_at: float
    updated_at: float
    updated_by: str
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Who leads, until when by the database's clock, and for the how-many-th time the lease changed hands."""

    holder: str
    expires_at: float
    epoch: int


@dataclass(frozen=True, kw_only=True)
class IdempotentAnswer:
    """What a request with this key was answered. `fingerprint`: of the request; another one with the same key is a
    Conflict."""

    key: str
    fingerprint: str
    status: int
    headers: dict[str, str]
    body: bytes
    at: float
