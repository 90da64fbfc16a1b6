"""Slipway behind a lock: every request carries a token that the gateway verifies. What does that cost?"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from benchmarks.contender import ROOT, Codec, Command, Model, Peer, Request, Start
from benchmarks.payloads import V2_BINARY, V2_GRPC, V2_JSON

SECRET = b"the bench's own secret, which opens nothing else"
ISSUER = "bench"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token() -> str:
    """A JSON Web Token (RFC 7519) for whoever asks for a prediction, good until the year 2100."""
    claims = {"iss": ISSUER, "sub": "load", "scope": "predict:*", "exp": 4102444800}
    signed = f"{_part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{_part(json.dumps(claims).encode())}"
    return f"{signed}.{_part(hmac.digest(SECRET, signed.encode(), hashlib.sha256))}"


def start(start: Start) -> Command:
    ports = start.ports
    key = {"kty": "oct", "alg": "HS256", "k": _part(SECRET)}
    issuer = {"issuer": ISSUER, "algorithms": ["HS256"], "jwks": {"keys": [key]}}
    config = start.scratch / "server.json"
    config.write_text(json.dumps({"auth": {"jwt": [issuer]}}))
    batching, replicas = {"max_rows": start.model.batch_rows}, {"cpus": 1}
    spec = {"apiVersion": "slipway.dev/v1", "name": start.model.key, "model": str(start.model.path)}
    (start.scratch / "spec.json").write_text(json.dumps({**spec, "batching": batching, "replicas": replicas}))
    return Command(
        argv=(
            *(str(start.python), str(ROOT / "benchmarks/peers/closed/deployed.py"), str(start.scratch)),
            *(start.script("slipway"), "up", "--config", str(config), "--data-dir", str(start.scratch / "data")),
            *("--port", str(ports.http), "--grpc-port", str(ports.grpc), "--admin-port", str(ports.admin)),
        ),
        env={"PYTHONPATH": ""},  # the folder `slipway` beside this one would pass for the package
    )


def locked(codec: Codec) -> Codec:
    def encode(model: Model) -> Request:
        plain = codec.encode(model)
        return Request(
            path=plain.path, headers=(*plain.headers, ("authorization", f"Bearer {token()}")), body=plain.body
        )

    return Codec(encode=encode, decode=codec.decode)


PEER = Peer(
    name="closed",
    title="Slipway, closed",
    how="slipway up and a deployment of the same settings as Slipway's; every request carries a JSON Web Token with "
    "the scope to predict",
    packages=("slipway", "onnxruntime", "numpy"),
    start=start,
    codecs={"json": locked(V2_JSON), "binary": locked(V2_BINARY), "grpc": locked(V2_GRPC)},
    ready_path=None,
)
