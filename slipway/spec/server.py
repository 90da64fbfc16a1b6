"""What `slipway up --config` declares: the server itself, for the person who operates it.

`spec.reading` makes it of YAML, with line and column in what it refuses; options of the command line come on top.
"""

from __future__ import annotations

import msgspec

from slipway.spec.access import CertificateRule, Issuer
from slipway.spec.serve import Tls


class Ports(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """0: any free one; -1: this door stays shut."""

    http: int = 8080
    grpc: int = 8081
    admin: int = 8082


class DoorLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As the options of `slipway serve` of the same names."""

    max_body_mb: float = 256
    max_head_kb: float = 64
    max_connections: int = 10_000
    idle_timeout_s: float = 75
    head_timeout_s: float = 20


class Authentication(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`required` None: closed as soon as a key, a user, an issuer or client certificates are there, or a door listens
    beyond this machine. `jwt`: whose tokens are believed. `certificates`: what each client certificate may do."""

    required: bool | None = None
    jwt: tuple[Issuer, ...] = ()
    certificates: tuple[CertificateRule, ...] = ()


class Logs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    json: bool = False
    level: str = "info"


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`data_dir` '': SLIPWAY_DATA_DIR, or `~/.slipway`. `database` '': SQLite in the data directory; else a URL of
    SQLAlchemy. `artifacts` '': a folder in the data directory; controllers that share a database share this folder."""

    host: str = "127.0.0.1"
    ports: Ports = Ports()
    grpc_door: str = "auto"
    gateways: int = 1
    drain_s: float = 30
    data_dir: str = ""
    database: str = ""
    artifacts: str = ""
    limits: DoorLimits = DoorLimits()
    cors_origins: tuple[str, ...] = ()
    tls: Tls | None = None
    auth: Authentication = Authentication()
    logs: Logs = Logs()
    otlp_endpoint: str = ""
