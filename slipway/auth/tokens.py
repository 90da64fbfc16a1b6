"""JSON Web Tokens (RFC 7519), verified as RFC 8725 advises: the issuer's configuration decides, never the token.

The unverified issuer of a token does nothing but choose the configuration under which it is then verified. Algorithms
and keys come from that configuration; `jku`, `x5u`, `jwk` and their like are not read at all. Times are compared with
the `now` that is given, so nothing here reads a clock.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NamedTuple
from urllib.parse import quote

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from slipway.auth.jwks import ALGORITHMS, MAX_KID_CHARS, KeySet, parse_key_set
from slipway.errors import InvalidSpec
from slipway.spec.access import Caller, Issuer

MAX_TOKEN_CHARS = 8 * 1024
MAX_SUBJECT_CHARS = 255
MAX_SCOPES = 256
MAX_SCOPE_CHARS = 256
MAX_TRIES = 4
"""Keys tried for a token that names none; more would be work for nothing."""
TYPES = ("jwt", "at+jwt", "application/at+jwt", "application/jwt")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class TokenRefused(Exception):
    """`kind`: why, for the operator's audit and not for the caller. `issuer`: one that is configured, or ''."""

    def __init__(self, kind: str, issuer: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.issuer = issuer


class Verified(NamedTuple):
    """`until`: seconds since 1970 up to which the answer stays the same, leeway included."""

    caller: Caller
    until: float
    issuer: Issuer


class _Parts(NamedTuple):
    header: dict[str, Any]
    claims: dict[str, Any]
    text: str


class TokenIssuers:
    """`problems`: a line for each issuer whose keys cannot be used; its tokens are refused meanwhile."""

    def __init__(self, issuers: tuple[Issuer, ...]) -> None:
        self._trusted: dict[str, list[tuple[Issuer, KeySet]]] = {}
        self.problems: list[str] = []
        for issuer in issuers:
            try:
                keys = parse_key_set(issuer.jwks, secrets=may_hold_secrets(issuer)) if issuer.jwks else KeySet(())
            except InvalidSpec as error:
                self.problems.append(f"issuer {issuer.issuer!r}: {error.message}")
                keys = KeySet(())
            self._trusted.setdefault(issuer.issuer, []).append((issuer, keys))
        self._jws = PyJWS(algorithms=sorted(ALGORITHMS))

    def verify(self, text: str, *, now: float) -> Verified:
        """Raises TokenRefused. Where several entries have the token's issuer, the first that it fits counts."""
        parts = _split(text)
        named = parts.claims.get("iss")
        trusted = self._trusted.get(named, []) if isinstance(named, str) else []
        refused = TokenRefused("unknown_issuer")
        for issuer, keys in trusted:
            try:
                self._check_signature(parts, issuer, keys)
                return _judge(parts.claims, issuer, now=now)
            except TokenRefused as error:
                refused = error
        raise refused

    def _check_signature(self, parts: _Parts, issuer: Issuer, keys: KeySet) -> None:
        algorithm = parts.header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms or algorithm not in ALGORITHMS:
            raise TokenRefused("refused_algorithm", issuer.issuer)
        kid = parts.header.get("kid")
        if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_KID_CHARS):
            raise TokenRefused("malformed_token", issuer.issuer)
        fitting = keys.fitting(algorithm, kid)
        if not fitting or len(fitting) > MAX_TRIES:
            raise TokenRefused("unknown_kid", issuer.issuer)
        for key in fitting:
            try:
                self._jws.decode_complete(parts.text, key=key.material, algorithms=[algorithm])
                return
            except (PyJWTError, ValueError, TypeError):
                continue
        raise TokenRefused("bad_signature", issuer.issuer)


def may_hold_secrets(issuer: Issuer) -> bool:
    """Symmetric keys come from the configuration or a file, never over the network."""
    return not issuer.jwks_source.lower().startswith(("http://", "https://"))


def _split(text: str) -> _Parts:
    """Header and claims of a token in its one canonical form: no padding, no stray bits, no name twice."""
    if len(text) > MAX_TOKEN_CHARS:
        raise TokenRefused("oversized_token")
    segments = text.split(".")
    if len(segments) != 3:
        raise TokenRefused("malformed_token")
    header, claims = (_object(_decode(segment)) for segment in segments[:2])
    _decode(segments[2])
    if any(name in header for name in ("crit", "b64", "zip", "enc")):
        raise TokenRefused("malformed_token")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise TokenRefused("malformed_token")
    return _Parts(header, claims, text)


def _decode(segment: str) -> bytes:
    if not _SEGMENT.fullmatch(segment):
        raise TokenRefused("malformed_token")
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise TokenRefused("malformed_token") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != segment.encode():
        raise TokenRefused("malformed_token")
    return raw


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_no_name_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise TokenRefused("malformed_token") from None
    if not isinstance(found, dict):
        raise TokenRefused("malformed_token")
    return found


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _judge(claims: dict[str, Any], issuer: Issuer, *, now: float) -> Verified:
    """The claims of a token whose signature holds."""
    name = issuer.issuer
    if any(claims.get(required) is None for required in issuer.required):
        raise TokenRefused("missing_claim", name)
    expires_at, starts_at, issued_at = (_time(claims, claim, name) for claim in ("exp", "nbf", "iat"))
    if expires_at is not None and now >= expires_at + issuer.leeway_s:
        raise TokenRefused("expired_token", name)
    if max(starts_at or 0.0, issued_at or 0.0) > now + issuer.leeway_s:
        raise TokenRefused("early_token", name)
    audience = claims.get("aud")
    given = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    if (audience is not None or issuer.audience) and not any(one in issuer.audience for one in given):
        raise TokenRefused("wrong_audience", name)  # RFC 7519, 4.1.3: an audience that we are not refuses the token
    subject = claims.get("sub", "")
    if not isinstance(subject, str) or len(subject) > MAX_SUBJECT_CHARS or not subject.isprintable():
        raise TokenRefused("malformed_token", name)
    caller = Caller(
        kind="jwt",
        name=subject or name,
        id=f"jwt:{quote(name, safe=':/')} {subject}",
        scopes=_scopes(claims, issuer),
        issuer=name,
        claims=claims,
        expires_at=expires_at or 0.0,
    )
    return Verified(caller, float("inf") if expires_at is None else expires_at + issuer.leeway_s, issuer)


def _time(claims: dict[str, Any], claim: str, issuer: str) -> float | None:
    value = claims.get(claim)
    if value is None and claim not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise TokenRefused("malformed_token", issuer)
    return float(value)


def _scopes(claims: dict[str, Any], issuer: Issuer) -> tuple[str, ...]:
    """Those of the issuer, of `scope` (RFC 8693) and of `scp`, as a list or with spaces between."""
    found = dict.fromkeys(issuer.scopes)
    for claim in ("scope", "scp"):
        value = claims.get(claim)
        items = value.split(" ") if isinstance(value, str) else value if isinstance(value, list) else []
        found |= dict.fromkeys(item for item in items if isinstance(item, str) and 0 < len(item) <= MAX_SCOPE_CHARS)
    if len(found) > MAX_SCOPES:
        raise TokenRefused("malformed_token", issuer.issuer)
    return tuple(found)
