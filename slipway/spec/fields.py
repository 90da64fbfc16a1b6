"""What each field of a deployment's spec means and may hold, beyond its type: one table, from which come the reader's
refusals, the JSON Schema that editors complete from, and the comments that `slipway init` writes."""

from __future__ import annotations

from typing import Any, NamedTuple

MOST_NUMBER = 10**15


class Field(NamedTuple):
    """`about`: for a person who completes the field. `least`, `most`: of numbers. `form`, `keys`: in `spec.forms`, of
    the text (or each text of a list or mapping), and of a mapping's keys. `choices`: the only texts there are. `one`: a
    list of one may be written without brackets. `secret`: its value is never repeated. `jwks`: holds a key set, a path
    or a URL. `hidden`: not for people to write."""

    about: str
    least: float = 0
    most: float = MOST_NUMBER
    form: str = "line or nothing"
    keys: str = "line"
    choices: tuple[str, ...] = ()
    one: bool = False
    secret: bool = False
    jwks: bool = False
    hidden: bool = False
    examples: tuple[Any, ...] = ()


DEPLOYMENT: dict[str, Field] = {
    "DeploymentSpec.apiVersion": Field("The version of this format.", form="api version"),
    "DeploymentSpec.name": Field(
        "What the deployment is called, and the NAME in /v2/models/NAME.", form="name", examples=("iris",)
    ),
    "DeploymentSpec.model": Field(
        "The model: a path (relative to this file), module:Class, or a URL: http, https, s3, gs, az, and whatever "
        "else fsspec opens.",
        form="line",
        examples=("./iris.onnx", "my_models:Ranker", "s3://models/iris.onnx"),
    ),
    "DeploymentSpec.digest": Field("What the artifact must have; without it, what is there is taken.", form="digest"),
    "DeploymentSpec.description": Field("For people.", form="text"),
    "DeploymentSpec.labels": Field(
        "For people and their tools, such as `slipway list --label team=fruit`.",
        keys="label",
        examples=({"team": "fruit"},),
    ),
    "DeploymentSpec.runtime": Field(
        "Which adapter loads the model; auto recognises it from the content.",
        form="runtime",
        examples=("auto", "onnx", "sklearn", "python"),
    ),
    "DeploymentSpec.options": Field("Settings of the runtime, as it documents them.", form="text"),
    "DeploymentSpec.files": Field(
        "What the model needs beside it: a name, and the path or URL it is copied from. Replicas find the folder in "
        "SLIPWAY_FILES.",
        form="line",
        keys="file name",
        examples=({"labels.txt": "https://example.org/labels.txt"},),
    ),
    "DeploymentSpec.replicas": Field("How many worker processes, and what each may use."),
    "DeploymentSpec.autoscaling": Field(
        "What keeps the number of replicas between replicas.min and replicas.max; the metric that wishes most wins. "
        "Kept and not followed yet: replicas.min run."
    ),
    "DeploymentSpec.batching": Field("How requests are put together."),
    "DeploymentSpec.queue": Field("How much may wait; more is refused at once with 429."),
    "DeploymentSpec.cache": Field("Predictions that may be given again for the same input."),
    "DeploymentSpec.idempotent": Field(
        "Whether a request may be computed again when its replica died with it. False: never."
    ),
    "DeploymentSpec.env": Field(
        "Environment of the replicas: text, or {secret: NAME} for a secret that `slipway secrets set NAME` wrote.",
        form="text",
        keys="variable",
        secret=True,
        examples=({"MODE": "fast", "TOKEN": {"secret": "iris-token"}},),
    ),
    "DeploymentSpec.health": Field("When a replica counts as lost."),
    "DeploymentSpec.sandbox": Field("What the model's code may touch."),
    "DeploymentSpec.auth": Field("Who may predict."),
    "DeploymentSpec.limits": Field("How much each identity may ask for."),
    "DeploymentSpec.enabled": Field("False stops the deployment and keeps it."),
    "Replicas.min": Field("Replicas that always run.", least=1, most=1024),
    "Replicas.max": Field("Replicas at most, when autoscaling; 0 is as many as min.", most=1024),
    "Replicas.device": Field("cpu, or cuda:N.", form="device", examples=("cpu", "cuda:0")),
    "Replicas.cpus": Field(
        "Cores of each replica, rounded up to threads; 0 is the machine's cores divided by the replicas.", most=4096
    ),
    "Replicas.memory": Field(
        "A replica that uses more is replaced; without it there is no limit.",
        form="size or nothing",
        examples=("512Mi", "1.5Gi"),
    ),
    "AutoscaleMetric.metric": Field("What is measured: its average over the replicas."),
    "AutoscaleMetric.target": Field(
        "The value to hold: percent for cpu and memory, seconds for request_duration, else a number.", least=0.001
    ),
    "BatchingRules.max_rows": Field("Rows of a batch at most.", least=1, most=1_000_000),
    "BatchingRules.max_delay_ms": Field(
        "How long a batch may wait to fill while replicas are busy; 0 sends at once.", most=60_000
    ),
    "BatchingRules.slo_ms": Field(
        "Answer within this: batches adapt, and what would come too late is refused before it is computed; 0 is none.",
        most=3_600_000,
    ),
    "QueueRules.rows": Field("Rows that may wait.", least=1, most=10**9),
    "QueueRules.memory": Field("Inputs that may wait, in bytes.", form="size"),
    "CacheRules.memory": Field("Room for predictions; without it there is no cache.", form="size or nothing"),
    "CacheRules.ttl_s": Field("How long a prediction may be given again.", most=31_536_000),
    "Health.startup_s": Field("A replica has to load and warm up within this.", least=0.1, most=86_400),
    "Health.hang_s": Field("A replica silent, or in one batch, for longer is replaced.", least=0.1, most=86_400),
    "Health.drain_s": Field("How long a version that is replaced may take for what it accepted.", most=86_400),
    "Sandbox.enabled": Field("Replicas see their model and a scratch folder only."),
    "Sandbox.allow_read": Field("Folders and files that replicas may read as well.", form="line"),
    "Sandbox.allow_write": Field("Folders and files that replicas may write as well.", form="line"),
    "Sandbox.trust_pickle": Field("Load pickle files whatever code they name. They can run anything."),
    "SecretRef.secret": Field("Name of a secret.", form="name", examples=("iris-token",)),
    "Auth.public": Field("Anybody may predict, without a credential."),
    "Auth.allow": Field(
        "The identities that may predict, each named in one way; without any, all that hold the scope predict:NAME."
    ),
    "AllowRule.key": Field("Name of an API key; * is any.", form="line", examples=("*", "shop-*")),
    "AllowRule.user": Field("Name of a user of basic auth; * is any.", form="line", examples=("ada",)),
    "AllowRule.certificate": Field("Subject of a client certificate; * is any.", form="line", examples=("edge-*",)),
    "AllowRule.jwt": Field("A token of an issuer that the server believes, with all that is given here."),
    "JwtRule.scope": Field("A scope the token must hold.", examples=("predict:iris",)),
    "JwtRule.issuer": Field("Who must have issued it."),
    "JwtRule.subject": Field("Whom it must be about."),
    "JwtRule.claims": Field("Claims, and the value that each must be or contain.", examples=({"team": "fruit"},)),
    "RequestLimits.requests_per_s": Field("Requests in a second, for each identity; 0 is no limit.", most=10**9),
    "RequestLimits.burst": Field("Requests at once; 0 is one second's worth.", most=10**9),
    "RequestLimits.rows_per_day": Field("Rows in a day of UTC, for each identity; 0 is no limit."),
}

ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)

SERVER: dict[str, Field] = {
    "ServerConfig.host": Field("Address that all doors listen on; 0.0.0.0 for every one.", form="line"),
    "ServerConfig.ports": Field("Where the doors are."),
    "ServerConfig.grpc_door": Field(
        "Which implementation of gRPC; auto is native where it is installed.", choices=("auto", "native", "grpcio")
    ),
    "ServerConfig.gateways": Field("Gateway processes that share the ports.", least=1, most=1024),
    "ServerConfig.drain_s": Field("At the end, wait this long for accepted requests.", most=86_400),
    "ServerConfig.data_dir": Field("Where the server keeps its state; without it SLIPWAY_DATA_DIR, or ~/.slipway."),
    "ServerConfig.database": Field(
        "URL of a PostgreSQL or SQLite database; without it SQLite in the data directory.",
        form="url or nothing",
        secret=True,
        examples=("postgresql://slipway@db.example.org/slipway",),
    ),
    "ServerConfig.artifacts": Field("Folder of the artifacts; without it one in the data directory."),
    "ServerConfig.limits": Field("What the doors refuse."),
    "ServerConfig.cors_origins": Field("Browsers from there may call; * for all.", form="origin"),
    "ServerConfig.tls": Field("Certificates of the doors; without it they speak plain HTTP and gRPC."),
    "ServerConfig.auth": Field("Who is believed."),
    "ServerConfig.logs": Field("How the server logs."),
    "ServerConfig.otlp_endpoint": Field("Send spans to this OpenTelemetry collector.", form="url or nothing"),
    "Ports.http": Field("HTTP; 0 is any free port, -1 none.", least=-1, most=65_535),
    "Ports.grpc": Field("gRPC; 0 is any free port, -1 none.", least=-1, most=65_535),
    "Ports.admin": Field("Management API and metrics; 0 is any free port, -1 none.", least=-1, most=65_535),
    "DoorLimits.max_body_mb": Field("Largest request body, in MiB.", least=0.001, most=1_048_576),
    "DoorLimits.max_head_kb": Field("Largest head of a request, in KiB.", least=1, most=1_048_576),
    "DoorLimits.max_connections": Field("Open connections of each gateway.", least=1, most=10_000_000),
    "DoorLimits.idle_timeout_s": Field("Close a connection that is idle for longer.", least=0.1, most=86_400),
    "DoorLimits.head_timeout_s": Field("Give up on a request head that takes longer.", least=0.1, most=86_400),
    "Authentication.required": Field(
        "True closes every door but liveness and readiness, false opens all. Without it they are closed once a key, a "
        "user, an issuer or client certificates are there, or a door listens beyond this machine."
    ),
    "Authentication.jwt": Field("Whose tokens are believed."),
    "Authentication.certificates": Field("What clients may do by the subject of their certificate; see tls.client_ca."),
    "Issuer.issuer": Field("The claim iss of its tokens.", form="line", examples=("https://login.example.org",)),
    "Issuer.audience": Field("Tokens must be for one of these (their claim aud).", form="line", one=True),
    "Issuer.algorithms": Field("Signatures that are believed.", choices=ALGORITHMS, one=True),
    "Issuer.jwks": Field(
        "Its keys (RFC 7517): a URL, a file, or the key set itself.",
        form="line",
        secret=True,
        jwks=True,
        examples=("https://login.example.org/.well-known/jwks.json",),
    ),
    "Issuer.jwks_source": Field("Where the keys come from.", hidden=True),
    "Issuer.leeway_s": Field("How far clocks may differ.", most=86_400),
    "Issuer.required": Field("Claims that a token must have.", form="line"),
    "Issuer.scopes": Field("Scopes that every token of this issuer has.", form="scope"),
    "CertificateRule.subject": Field("Common name of the certificate; * stands for anything.", form="line"),
    "CertificateRule.scopes": Field("What such a client may do.", form="scope"),
    "Tls.certificate": Field(
        "PEM file with the certificate and those above it; read again when it changes.", form="line"
    ),
    "Tls.key": Field("PEM file with its private key.", form="line"),
    "Tls.client_ca": Field("PEM file with the authorities whose client certificates are believed."),
    "Tls.client": Field("Whether clients show a certificate.", choices=("none", "optional", "required")),
    "Logs.json": Field("One JSON object a line."),
    "Logs.level": Field("What is logged.", choices=("debug", "info", "warning", "error", "critical")),
}

FIELDS = DEPLOYMENT | SERVER
