"""What the management API says of the world: its resources, for the controller that tells and the client that hears.

Plain dataclasses, so that the API's schema, its JSON and the client's answers come from one definition. Times are
seconds since 1970 in UTC; '' and None mean that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One worker process. `state`: starting, ready, stopping, backing_off, stopped. `load`: the share of the last
    second in which it computed, 0 to 1. `trouble`: why it is not ready; `last_end`: why the process before ended."""

    deployment: str
    version: str
    index: int
    generation: int
    pid: int
    state: str
    stage: str
    device: str
    sandbox: str
    threads: int
    restarts: int
    trouble: str
    last_end: str
    memory_bytes: int
    cpu_s: float
    busy_s: float
    load: float
    batches: int


@dataclass(frozen=True, kw_only=True)
class Version:
    """`state`: pending, fetching, loading, probing, ready, live, draining, stopped, failed. `progress`: 0 to 1 within
    that state. `error`: why it failed, the model's own words. `settings`: what it runs with; never changes."""

    deployment: str
    version: str
    number: int
    state: str
    progress: float
    error: str
    digest: str
    source: str
    size_bytes: int
    platform: str
    settings: dict[str, Any]
    created_at: float
    created_by: str
    replicas: list[Replica] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """`state`: ready, deploying, degraded, failed, stopped, deleting. `revision` counts changes and is the ETag.
    `change`: what the request that this answers did: created, new_version, updated, unchanged."""

    name: str
    state: str
    reason: str
    revision: int
    spec: dict[str, Any]
    live: str
    target: str
    created_at: float
    updated_at: float
    updated_by: str
    change: str = ""
    warnings: list[str] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One entry of a deployment's history. `changes`: fields of the spec, such as `replicas.min: 1 → 2`."""

    revision: int
    at: float
    actor: str
    action: str
    version: str
    changes: list[str]


@dataclass(frozen=True, kw_only=True)
class Event:
    """`id` grows. `kind`: such as `version.ready`; `data`: the numbers that caused it."""

    id: int
    at: float
    kind: str
    deployment: str
    version: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """`hash` is the SHA-256 of the entry with `previous`, the hash of the one before it."""

    seq: int
    at: float
    actor: str
    action: str
    target: str
    details: dict[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class AuditCheck:
    """Of the chain of hashes. `broken_at`: the first entry that is not what was written, None where all are."""

    broken_at: int | None


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key; `secret` is there once, in the answer that created or rotated it. `prefix` begins the key. `revision`
    grows with each change that a person makes, of users and secrets too.
    `expires_at` None: never. `retires_at`: when the key that a rotation replaced stops to work."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: float
    created_by: str
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None
    retires_at: float | None = None
    revision: int = 1
    secret: str = ""


@dataclass(frozen=True, kw_only=True)
class User:
    """Of basic auth. The password is never told."""

    name: str
    scopes: list[str]
    created_at: float
    created_by: str
    last_used_at: float | None
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Its value is never told."""

    name: str
    created_at: float
    updated_at: float
    updated_by: str
    used_by: list[str] = field(default_factory=list)
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class Gateway:
    number: int
    generation: int
    pid: int
    state: str
    restarts: int
    trouble: str
    memory_bytes: int
    cpu_s: float


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """URLs, host and port; '' for a door that is shut."""

    http: str = ""
    grpc: str = ""
    admin: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerStatus:
    """`state`: starting, ready, degraded, draining. `leader`: whether this controller decides, or stands by. `trouble`:
    why nothing can be changed here now, such as a database that cannot be reached; '' where it can."""

    state: str
    version: str
    pid: int
    controller_pid: int
    uptime_s: float
    leader: bool
    database: str
    auth: str
    addresses: Addresses
    gateways: list[Gateway]
    deployments: list[Deployment]
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One row of the live routing table. `model` and `version` as in `/v2/models/…`; `live`: it takes the requests
    that name no version."""

    model: str
    version: str
    live: bool
    replicas: int


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks. `kind`: owner, key, user, jwt, certificate, anonymous."""

    kind: str
    name: str
    scopes: list[str]


@dataclass(frozen=True, kw_only=True)
class UploadFile:
    """A file of an artifact. `path`: relative, with forward slashes. `sha256`: 64 hex digits."""

    path: str
    sha256: str
    size_bytes: int
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """`missing`: the sha256 of files that the server has not got (all of) yet; it is complete when none is."""

    digest: str
    size_bytes: int
    files: list[UploadFile]
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """`next`: the cursor of the next page, '' on the last."""

    items: list[T]
    next: str = ""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error, as RFC 9457 has it. `code` is that of `slipway.errors`; `errors`: the places in the body."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str = ""
    errors: list[str] = field(default_factory=list)
