"""Who a client says it is: an API key or token, a user's name and password, or a certificate."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from pathlib import Path

from slipway.errors import SetupError


def identified(headers: Mapping[str, str] | None, *, key: str, user: tuple[str, str] | None) -> dict[str, str]:
    """`headers` with the credential beside them. Raises SetupError for two, and for one that no header can carry."""
    found = dict(headers or {})
    given = [name for name in found if name.lower() in ("authorization", "x-api-key")]
    if len(given) + bool(key) + bool(user) > 1:
        raise SetupError("one credential at a time: key, user, or an authorization header")
    if key:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise SetupError("the key holds a space, a line break or another character that no key has; copy it again")
        found["authorization"] = f"Bearer {key}"
    elif user:
        name, password = user
        if not name or ":" in name or not name.isprintable():
            raise SetupError(f"{name!r} is no user's name: it has no colon and no control characters (RFC 7617)")
        found["authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    return found


def show_certificate(context: ssl.SSLContext | None, certificate: tuple[str, str] | None) -> ssl.SSLContext | None:
    """`context` that shows this certificate: paths of PEM files, the chain and its key. Raises SetupError."""
    if certificate is None:
        return context
    if context is None:
        raise SetupError("a certificate is shown over https:// and grpcs:// only")
    try:
        context.load_cert_chain(*certificate)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise _unusable(certificate, error) from None
    return context


def read_certificate(certificate: tuple[str, str] | None, *, encrypted: bool) -> tuple[bytes | None, bytes | None]:
    """(key, chain) as gRPC takes them. Raises SetupError."""
    if certificate is None:
        return None, None
    if not encrypted:
        raise SetupError("a certificate is shown over https:// and grpcs:// only")
    try:
        chain, key = (Path(path).read_bytes() for path in certificate)
    except OSError as error:
        raise _unusable(certificate, error) from None
    return key, chain


def _unusable(certificate: tuple[str, str], error: Exception) -> SetupError:
    words = getattr(error, "strerror", None) or error
    return SetupError(f"certificate {certificate[0]} with key {certificate[1]} cannot be used: {words}")
