"""Who knocks at the doors in the tests: keys, a user, tokens and certificates, and the Access that knows them."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import jwt
import msgspec

from slipway.auth.keys import hash_key, new_key, new_owner_key
from slipway.auth.passwords import hash_password
from slipway.spec.access import Access, CertificateRule, Issuer, KeyHash, UserHash

NOW = 1_800_000_000.0
ISSUER = "https://issuer.test"
_SECRET = b"0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse battery staple"

AFFINE, AFFINE_HASH = new_key("affine-only", scopes=("predict:affine",))
GHOST, GHOST_HASH = new_key("of-no-model", scopes=("predict:ghost",))
ALL, ALL_HASH = new_key("every-model", scopes=("predict:*",))
DEPLOY, DEPLOY_HASH = new_key("deployer", scopes=("deploy:affine",))
ADMIN, ADMIN_HASH = new_key("administrator", scopes=("admin",))
NOTHING, NOTHING_HASH = new_key("no-scopes", scopes=())
OLD, OLD_HASH = new_key("expired", scopes=("admin",), expires_at=NOW - 1)
SOON, SOON_HASH = new_key("expires-soon", scopes=("predict:affine",), expires_at=NOW + 60)
STRANGER, _ = new_key("of-another-server", scopes=("admin",))
OWNER = new_owner_key()
KEYS: tuple[KeyHash, ...] = (
    AFFINE_HASH,
    GHOST_HASH,
    ALL_HASH,
    DEPLOY_HASH,
    ADMIN_HASH,
    NOTHING_HASH,
    OLD_HASH,
    SOON_HASH,
)


@cache
def bob() -> UserHash:
    return UserHash("bob", hash_password(PASSWORD), ("predict:affine",))


def access(**changes: Any) -> Access:
    """A closed server that knows all of the above; `changes` are fields of Access."""
    jwks = {"keys": [{"kty": "oct", "kid": "1", "k": base64.urlsafe_b64encode(_SECRET).decode().rstrip("=")}]}
    usual = Access(
        epoch=1,
        required=True,
        keys=KEYS,
        users=(bob(),),
        issuers=(Issuer(ISSUER, audience=("slipway",), algorithms=("HS256",), jwks=json.dumps(jwks)),),
        certificates=(CertificateRule("edge-*", ("predict:affine",)),),
        owner_hash=hash_key(OWNER),
    )
    return msgspec.structs.replace(usual, **changes)


def without(*gone: KeyHash, **changes: Any) -> Access:
    """The same after these keys were revoked."""
    return access(epoch=2, keys=tuple(key for key in KEYS if key not in gone), **changes)


def bearer(text: str) -> str:
    return f"Bearer {text}"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def token(*, now: float = NOW, secret: bytes = _SECRET, **claims: Any) -> str:
    usual = {"iss": ISSUER, "aud": "slipway", "sub": "robot", "scope": "predict:affine", "exp": now + 300}
    return jwt.encode(usual | claims, secret, algorithm="HS256", headers={"kid": "1"})
