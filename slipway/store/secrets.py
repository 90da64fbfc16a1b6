"""Sealing of secrets: AES-256-GCM (NIST SP 800-38D) with the secret's name as associated data, so that a sealed value
can neither be read nor changed in the database, nor moved to another name.

A sealed value: one byte of format (1), 8 bytes that tell which key it needs, a nonce of 12, ciphertext and tag.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from slipway.errors import SetupError

KEY_BYTES = 32
FORMAT = b"\x01"
ID_BYTES = 8
NONCE_BYTES = 12


def key_id(key: bytes) -> str:
    """Names a key without telling it, 16 hex digits."""
    return hashlib.sha256(b"slipway secret key\0" + key).digest()[:ID_BYTES].hex()


def sealed_by(sealed: bytes) -> str:
    """The id of the key that a sealed value needs: what is left to do while a key is being replaced."""
    return sealed[1 : 1 + ID_BYTES].hex()


def seal(key: bytes, name: str, value: str) -> bytes:
    """A random nonce of 96 bits is safe for 2^32 values under one key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    _check(key)
    nonce = os.urandom(NONCE_BYTES)
    return FORMAT + bytes.fromhex(key_id(key)) + nonce + AESGCM(key).encrypt(nonce, value.encode(), name.encode())


def unseal(keys: bytes | Sequence[bytes], name: str, sealed: bytes) -> str:
    """`keys`: one, or several of which the right one is found. Raises SetupError when none is, and for a value that was
    changed or belongs to another name."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    found = {key_id(key): key for key in ([keys] if isinstance(keys, bytes) else keys)}
    head = 1 + ID_BYTES
    if sealed[:1] != FORMAT or len(sealed) < head + NONCE_BYTES + 16:
        raise SetupError(f"The secret {name!r} is not in the form this Slipway seals; set it again.")
    key = found.get(sealed_by(sealed))
    if key is None:
        raise SetupError(
            f"The secret {name!r} was sealed with the key {sealed_by(sealed)}, and this server has "
            f"{', '.join(found) or 'none'}. Put back the secret.key of this database, or set the secret again."
        )
    _check(key)
    nonce, text = sealed[head : head + NONCE_BYTES], sealed[head + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, text, name.encode()).decode()
    except InvalidTag:
        raise SetupError(f"The secret {name!r} was changed in the database, or moved there from another name. Set it "
                         "again, and find out who did it.") from None  # fmt: skip


def secret_key(path: Path) -> bytes:
    """The key in a file of mode 0600; made on the first call, by one of several who call at once. Raises SetupError for
    a file that others can read, or that holds no key."""
    if not path.exists():
        _make(path)
    try:
        found, key = path.stat(), path.read_bytes()
    except OSError as error:
        raise SetupError(f"The key of the secrets, {path}, cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        raise SetupError(
            f"{path} is no file of yours, so somebody else may know what is in it. Put back the right one."
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise SetupError(f"{path} seals the secrets, and others than its owner can read it: chmod 600 {path}")
    if len(key) != KEY_BYTES:
        raise SetupError(f"{path} has {len(key)} bytes; a key has {KEY_BYTES}. Put back the right file. Without it, "
                         "remove this one and set every secret again.")  # fmt: skip
    return key


def _make(path: Path) -> None:
    """Whole or not at all, and the first one wins: written beside it and linked into its place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
    except OSError as error:
        raise SetupError(f"The key of the secrets, {path}, cannot be made: {error.strerror}.") from None
    finally:
        beside.unlink(missing_ok=True)


def _check(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise SetupError(f"A key for secrets has {KEY_BYTES} bytes, not {len(key)}.")
