"""Passwords: argon2id (RFC 9106), slow on purpose, and as slow for users that do not exist.

The parameters are those that OWASP's Password Storage Cheat Sheet recommends for interactive use: 19 MiB, two passes,
one lane. A check takes some tens of milliseconds of one core, so it belongs into a thread, a few at once.
"""

from __future__ import annotations

import base64
import secrets

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from slipway.auth.credentials import MAX_PASSWORD_BYTES
from slipway.errors import InvalidSpec

MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
MIN_PASSWORD_CHARS = 8
_HASHER = PasswordHasher(
    time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, hash_len=32, salt_len=16, type=Type.ID
)


def hash_password(password: str) -> str:
    """The PHC string to remember. Raises InvalidSpec for a password that is too short or too long, or that no header
    can carry."""
    if len(password) < MIN_PASSWORD_CHARS:
        raise InvalidSpec(f"a password needs at least {MIN_PASSWORD_CHARS} characters")
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise InvalidSpec(f"a password has at most {MAX_PASSWORD_BYTES} bytes")
    if any(ord(char) < 32 or ord(char) == 127 for char in password):
        raise InvalidSpec("a password has no control characters: no HTTP client could send it")
    return _HASHER.hash(password)


def check_password(password: str, known_hash: str) -> bool:
    """`known_hash` '' is of nobody: False, after the same work."""
    try:
        return _HASHER.verify(known_hash or _nobody(), password) and bool(known_hash)
    except (VerificationError, InvalidHashError):
        return False


def _nobody() -> str:
    """A hash that no password has, as expensive as a real one: its tag is random."""
    salt, tag = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${tag}"
