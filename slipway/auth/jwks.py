"""Key sets (RFC 7517), read strictly: which keys may verify tokens, and with which algorithms alone.

A key's type decides what it can be used for, so that a public key never serves as the secret of an HMAC. Whatever a
set holds that is not for us (keys of other types, for encryption, too weak) is left out and said.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from slipway.errors import InvalidSpec

MAX_SET_BYTES = 256 * 1024
MAX_KEYS = 100
MAX_KID_CHARS = 256
RSA_BITS = (2048, 8192)
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518, section 3.2: a secret as long as the hash, at least."""
ALGORITHMS = frozenset((*RSA_ALGORITHMS, *CURVES.values(), *HMAC_BYTES, "EdDSA"))


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """`algorithms`: all that this key may verify."""

    kid: str
    algorithms: tuple[str, ...]
    material: Any


@dataclass(frozen=True, slots=True)
class KeySet:
    """`left_out`: a line for each key that cannot be used, and why."""

    keys: tuple[VerifyingKey, ...]
    left_out: tuple[str, ...] = ()

    def fitting(self, algorithm: str, kid: str | None) -> list[VerifyingKey]:
        """Keys that may verify with `algorithm`; with a `kid` only those of that name."""
        return [key for key in self.keys if algorithm in key.algorithms and (kid is None or key.kid == kid)]


class _LeftOutError(Exception):
    """Why one key of a set is not used."""


def parse_key_set(text: str, *, secrets: bool) -> KeySet:
    """`secrets`: whether the set may hold symmetric keys; one from a URL may not.

    Raises InvalidSpec where it is no key set, is too large, or nothing in it can be used.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_SET_BYTES:
        raise InvalidSpec(f"a key set has at most {MAX_SET_BYTES // 1024} KiB")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidSpec(f'a key set is JSON such as {{"keys": […]}}; this is not: {str(error)[:200]}') from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise InvalidSpec('a key set is an object with a list "keys" (RFC 7517, section 5)')
    if len(entries) > MAX_KEYS:
        raise InvalidSpec(f"a key set has at most {MAX_KEYS} keys, this one has {len(entries)}")
    keys: list[VerifyingKey] = []
    left_out: list[str] = []
    for place, entry in enumerate(entries):
        try:
            keys.append(_parse_key(entry, secrets=secrets))
        except _LeftOutError as error:
            left_out.append(f"keys[{place}]: {error}")
    if not keys:
        why = "; ".join(left_out[:5]) or "it is empty"
        raise InvalidSpec(f"no key of the set can verify a token: {why}")
    return KeySet(tuple(keys), tuple(left_out))


def _parse_key(entry: object, *, secrets: bool) -> VerifyingKey:
    if not isinstance(entry, dict):
        raise _LeftOutError("not an object")
    kid = entry.get("kid", "")
    if not isinstance(kid, str) or len(kid) > MAX_KID_CHARS:
        raise _LeftOutError(f"its kid is not a text of at most {MAX_KID_CHARS} characters")
    kind = entry.get("kty")
    if kind != "oct" and "d" in entry:
        raise _LeftOutError("it is a private key; a server that only verifies must not have it")
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise _LeftOutError("it is not for verifying signatures (use, key_ops)")
    try:
        material, algorithms = _material(kind, entry, secrets=secrets)
    except (PyJWTError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise _LeftOutError(
            f"its {kind if isinstance(kind, str) else 'key'} could not be read: {error!r:.120}"
        ) from None
    declared = entry.get("alg")
    if declared is not None:
        if declared not in algorithms:
            raise _LeftOutError(f"its alg {str(declared)[:32]!r} does not fit; it can verify {', '.join(algorithms)}")
        algorithms = (declared,)
    return VerifyingKey(kid, algorithms, material)


def _material(kind: object, entry: dict[str, Any], *, secrets: bool) -> tuple[Any, tuple[str, ...]]:
    if kind == "RSA":
        rsa = RSAAlgorithm.from_jwk(entry)
        if not isinstance(rsa, RSAPublicKey) or not RSA_BITS[0] <= rsa.key_size <= RSA_BITS[1]:
            raise _LeftOutError(f"an RSA key has {RSA_BITS[0]} to {RSA_BITS[1]} bits")
        return rsa, RSA_ALGORITHMS
    if kind == "EC":
        ec = ECAlgorithm.from_jwk(entry)
        if not isinstance(ec, EllipticCurvePublicKey) or ec.curve.name not in CURVES:
            raise _LeftOutError("its curve is none of P-256, P-384, P-521")
        return ec, (CURVES[ec.curve.name],)
    if kind == "OKP":
        okp = OKPAlgorithm.from_jwk(entry)
        if not isinstance(okp, Ed25519PublicKey | Ed448PublicKey):
            raise _LeftOutError("its curve is neither Ed25519 nor Ed448")
        return okp, ("EdDSA",)
    if kind == "oct":
        if not secrets:
            raise _LeftOutError("it is a secret (oct), which has no place at a URL")
        secret = HMACAlgorithm.from_jwk(entry)
        fitting = tuple(name for name, size in HMAC_BYTES.items() if len(secret) >= size)
        if not fitting:
            raise _LeftOutError(f"a secret has at least 32 bytes, this one {len(secret)}")
        return secret, fitting
    raise _LeftOutError(f"its kty {str(kind)[:32]!r} is none of RSA, EC, OKP, oct")
