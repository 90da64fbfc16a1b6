"""What a user declares for one deployment: the kinds behind `apiVersion: slipway.dev/v1`.

Only shapes and defaults live here. `spec.reading` makes them of YAML or JSON, with line and column in what it refuses.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

API_VERSION: Final = "slipway.dev/v1"


class Replicas(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`max` 0: as many as `min`. `cpus` 0: the machine's cores divided by the replicas. `memory`: a quantity such as
    `512Mi`, '' for no limit."""

    min: int = 1
    max: int = 0
    device: str = "cpu"
    cpus: float = 0
    memory: str = ""


class BatchingRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`slo_ms` 0: none. `max_delay_ms`: how long a batch may wait to fill while replicas are busy."""

    max_rows: int = 64
    max_delay_ms: float = 0
    slo_ms: float = 0


class QueueRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    rows: int = 4096
    memory: str = "256Mi"


class CacheRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`memory` '': no cache."""

    memory: str = ""
    ttl_s: float = 60


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`startup_s`: a replica loads and warms up within this. `hang_s`: one silent, or in one batch, for longer is
    replaced. `drain_s`: how long a version that is replaced may take to finish what it accepted."""

    startup_s: float = 120
    hang_s: float = 10
    drain_s: float = 30


class Sandbox(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`trust_pickle`: load pickle files whatever code they name."""

    enabled: bool = True
    allow_read: tuple[str, ...] = ()
    allow_write: tuple[str, ...] = ()
    trust_pickle: bool = False


class SecretRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of a secret of this name, read when a replica starts."""

    secret: str


class JwtRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A token passes that has all that is given. `claims`: claim name to the value it must have (or contain)."""

    scope: str = ""
    issuer: str = ""
    subject: str = ""
    claims: dict[str, str] = {}


class AllowRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one is given. `key`, `user`, `certificate`: a pattern of names, `*` is any."""

    key: str | None = None
    user: str | None = None
    certificate: str | None = None
    jwt: JwtRule | None = None


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`public`: anybody may predict. `allow`: the identities that may; empty: every one that holds the scope
    `predict:NAME`."""

    public: bool = False
    allow: tuple[AllowRule, ...] = ()


class RequestLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """For each identity. 0: no limit. `burst` 0: one second's worth. A day is one of UTC."""

    requests_per_s: float = 0
    burst: int = 0
    rows_per_day: int = 0


class AutoscaleMetric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`target`: the average over replicas to hold; `cpu` and `memory` in percent, `request_duration` in seconds."""

    metric: Literal["cpu", "memory", "request_duration", "requests_per_s", "queue_rows"]
    target: float


class DeploymentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename=None):
    """One deployment. `model`: a path, `module:Class`, or a URL of fsspec. `digest`: what the artifact must have,
    `sha256:…`; '' takes what is there. `files`: name to path or URL, put beside the model; replicas find their folder
    in SLIPWAY_FILES. `labels`: free, for people and their tools."""

    name: str
    model: str
    apiVersion: Literal["slipway.dev/v1"] = API_VERSION  # noqa: N815
    digest: str = ""
    description: str = ""
    labels: dict[str, str] = {}
    runtime: str = "auto"
    options: dict[str, str] = {}
    files: dict[str, str] = {}
    replicas: Replicas = Replicas()
    autoscaling: tuple[AutoscaleMetric, ...] = ()
    batching: BatchingRules = BatchingRules()
    queue: QueueRules = QueueRules()
    cache: CacheRules = CacheRules()
    idempotent: bool = True
    env: dict[str, str | SecretRef] = {}
    health: Health = Health()
    sandbox: Sandbox = Sandbox()
    auth: Auth = Auth()
    limits: RequestLimits = RequestLimits()
    enabled: bool = True
