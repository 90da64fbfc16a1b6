"""What a caller shows at a door, and how it is read: strictly, bounded, and one credential at a time.

Two readings of one header are how credentials are smuggled past a check, so whatever is repeated, ambiguous or not
plainly well-formed is refused here, before anything is compared.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from slipway.errors import Unauthenticated

MAX_AUTHORIZATION_CHARS = 8 * 1024 + 16
"""A token of 8 KiB with its scheme."""
MAX_USER_CHARS = 64
MAX_PASSWORD_BYTES = 1024

MISSING = (
    "a credential is needed here: an API key (`Authorization: Bearer sw_…` or `X-API-Key: sw_…`), a user's name and "
    "password (`Authorization: Basic …`), a client certificate, or a token of an issuer that this server trusts"
)
REFUSED = "the credential was not accepted: it is wrong, expired, revoked, or not known here"
UNREADABLE = (
    "the credential could not be read: `Authorization` takes `Bearer` with one API key or token, or `Basic` with the "
    "base64 of name:password; `X-API-Key` takes one API key"
)
TWO_AT_ONCE = "more than one credential was sent; send one, in either `Authorization` or `X-API-Key`"

_AUTHORIZATION = re.compile(r"([A-Za-z]{1,16}) {1,8}([A-Za-z0-9._~+/-]+={0,2})", re.ASCII)
_KEY = re.compile(r"sw_(?P<id>[a-z0-9]{8}|owner)_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credentials:
    """As they came: the values of the headers (or of gRPC metadata) `authorization` and `x-api-key`, the common name of
    a client certificate that TLS has verified, and the address of the peer, without its port. '' is none."""

    authorization: str = ""
    api_key: str = ""
    certificate: str = ""
    peer: str = ""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`id`: eight letters and digits, or `owner`."""

    text: str
    id: str


@dataclass(frozen=True, slots=True)
class Password:
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Token:
    """Looks like a JWT; nothing in it is verified."""

    text: str


@dataclass(frozen=True, slots=True)
class Certificate:
    subject: str


Shown = ApiKey | Password | Token | Certificate | None


def collect(
    headers: Iterable[tuple[str | bytes, str | bytes]], *, certificate: str = "", peer: str = ""
) -> Credentials:
    """Credentials of the pairs of an HTTP head or of gRPC metadata, whatever the case of their names.

    Raises Unauthenticated where one of the two headers is there twice: which one counts would be anybody's guess.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        plain = (name.decode("latin-1") if isinstance(name, bytes) else name).lower()
        if plain in ("authorization", "x-api-key"):
            if plain in found:
                raise Unauthenticated(TWO_AT_ONCE)
            found[plain] = value.decode("latin-1") if isinstance(value, bytes) else value
    return Credentials(found.get("authorization", ""), found.get("x-api-key", ""), certificate, peer)


def read(credentials: Credentials) -> Shown:
    """Which kind of credential this is. A header counts before a certificate; None is nothing at all.

    Raises Unauthenticated for what is malformed, too long, or two credentials at once.
    """
    shown: Shown = None
    if credentials.authorization:
        shown = _authorization(credentials.authorization)
    if credentials.api_key:
        key = _api_key(credentials.api_key)
        if shown is not None and shown != key:
            raise Unauthenticated(TWO_AT_ONCE)
        shown = key
    if shown is None and credentials.certificate:
        return Certificate(credentials.certificate)
    return shown


def _authorization(value: str) -> Shown:
    parts = _AUTHORIZATION.fullmatch(value) if len(value) <= MAX_AUTHORIZATION_CHARS else None
    if parts is None:
        raise Unauthenticated(UNREADABLE)
    scheme, text = parts[1].lower(), parts[2]
    if scheme == "basic":
        return _password(text)
    if scheme == "bearer":
        return _api_key(text) if text.startswith("sw_") else Token(text)
    raise Unauthenticated(UNREADABLE)


def _api_key(text: str) -> ApiKey:
    parts = _KEY.fullmatch(text)
    if parts is None:
        raise Unauthenticated(UNREADABLE)
    return ApiKey(text, parts["id"])


def _password(text: str) -> Password:
    """RFC 7617 with UTF-8: no control characters, and a name without a colon."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
        user, colon, password = raw.decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated(UNREADABLE) from None
    fits = colon and 0 < len(user) <= MAX_USER_CHARS and 0 < len(raw) - len(user.encode()) - 1 <= MAX_PASSWORD_BYTES
    if not fits or not user.isprintable() or any(ord(char) < 32 or ord(char) == 127 for char in password):
        raise Unauthenticated(UNREADABLE)
    return Password(user, password)
