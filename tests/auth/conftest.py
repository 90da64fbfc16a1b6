"""Issuers that sign real tokens, for the tests that attack the door."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from slipway.spec.access import Issuer

NOW = 1_800_000_000.0
ISSUER = "https://idp.example"


@dataclass(frozen=True)
class Signer:
    """A private key, and its public half as a JWK."""

    private: Any
    jwk: dict[str, Any]

    def sign(self, algorithm: str, claims: dict[str, Any] | None = None, *, now: float = NOW, **header: Any) -> str:
        whole = {"iss": ISSUER, "sub": "robot", "aud": "slipway", "exp": now + 300, **(claims or {})}
        whole = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(whole, self.private, algorithm=algorithm, headers={"kid": self.jwk["kid"], **header})


def _signer(private: Any, as_jwk: Callable[..., Any], kid: str) -> Signer:
    return Signer(private, {**json.loads(as_jwk(private.public_key())), "kid": kid})


_RSA = _signer(rsa.generate_private_key(65537, 2048), RSAAlgorithm.to_jwk, "rsa")
_SECRET = secrets.token_bytes(64)
SIGNERS = {
    "rsa": _RSA,
    "other": _signer(rsa.generate_private_key(65537, 2048), RSAAlgorithm.to_jwk, "rsa"),
    "p256": _signer(ec.generate_private_key(ec.SECP256R1()), ECAlgorithm.to_jwk, "p256"),
    "p384": _signer(ec.generate_private_key(ec.SECP384R1()), ECAlgorithm.to_jwk, "p384"),
    "p521": _signer(ec.generate_private_key(ec.SECP521R1()), ECAlgorithm.to_jwk, "p521"),
    "ed": _signer(ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm.to_jwk, "ed"),
    "oct": Signer(_SECRET, {"kty": "oct", "k": base64.urlsafe_b64encode(_SECRET).decode().rstrip("="), "kid": "oct"}),
}


@pytest.fixture(scope="session")
def signers() -> dict[str, Signer]:
    return SIGNERS


@pytest.fixture
def trust() -> Callable[..., Issuer]:
    """An issuer's configuration with the keys of the named signers."""

    def make(*names: str, **fields: Any) -> Issuer:
        keys = json.dumps({"keys": [SIGNERS[name].jwk for name in names]})
        return Issuer(
            **{"issuer": ISSUER, "audience": ("slipway",), "jwks": keys, "jwks_source": "keys.json", **fields}
        )

    return make
