"""API keys: 32 random bytes behind an id that may be shown, remembered as a hash.

A plain SHA-256 is enough: 256 random bits cannot be guessed, so there is nothing that a slow hash would slow down.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string

from slipway.spec.access import KeyHash

ID_CHARS = 8
_ALPHABET = string.ascii_lowercase + string.digits
_NOBODY = "0" * 64


def new_key(name: str, *, scopes: tuple[str, ...], expires_at: float = 0.0) -> tuple[str, KeyHash]:
    """The key's text, `sw_<id>_<secret>`, to be shown once, and what to remember of it. `expires_at`: seconds since
    1970, 0 is never."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARS))
    text = f"{prefix(key_id)}_{secrets.token_urlsafe(32)}"
    return text, KeyHash(key_id, name, hash_key(text), scopes, expires_at)


def new_owner_key() -> str:
    """The credential of the person who owns the data directory."""
    return f"sw_owner_{secrets.token_urlsafe(32)}"


def hash_key(text: str) -> str:
    """SHA-256 of the whole key, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def prefix(key_id: str) -> str:
    """What a key begins with and may be recognised by."""
    return f"sw_{key_id}"


def same_key(text: str, known_hash: str) -> bool:
    """In constant time; `known_hash` '' is of no key, and takes as long."""
    return hmac.compare_digest(hash_key(text), known_hash or _NOBODY) and bool(known_hash)
