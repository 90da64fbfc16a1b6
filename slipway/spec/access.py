"""Who may do what, as gateways and controller hear it: hashes and public keys, nothing that opens a door itself."""

from __future__ import annotations

import msgspec

from slipway.spec.deployment import Auth, RequestLimits


class KeyHash(msgspec.Struct, frozen=True):
    """An API key is `sw_<id>_<secret>`; `hash`: SHA-256 of the whole key, hex. `expires_at`: seconds since 1970, 0
    never; a key that was rotated carries the end of its overlap there."""

    id: str
    name: str
    hash: str
    scopes: tuple[str, ...]
    expires_at: float = 0.0


class UserHash(msgspec.Struct, frozen=True):
    """`hash`: argon2id in its PHC string form."""

    name: str
    hash: str
    scopes: tuple[str, ...]


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose JWTs are believed. `jwks`: a key set as JSON text, once it has been fetched; `jwks_source`: where from, a
    URL, a file, or the set itself in the server's configuration. `required`: claims that must be there. `scopes`: given
    to each token of this issuer, beside those in its own `scope` or `scp` claim. Times in seconds."""

    issuer: str
    audience: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ("RS256",)
    jwks: str = ""
    jwks_source: str = ""
    leeway_s: float = 30.0
    required: tuple[str, ...] = ("exp",)
    scopes: tuple[str, ...] = ()


class CertificateRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scopes of clients whose certificate's subject (its common name) fits the pattern."""

    subject: str
    scopes: tuple[str, ...]


class DeploymentAccess(msgspec.Struct, frozen=True):
    name: str
    auth: Auth = Auth()
    limits: RequestLimits = RequestLimits()


class Access(msgspec.Struct, frozen=True, tag="access"):
    """The whole truth; replaces what was before. `required` False: every door is open, and limits hold for all
    together. `epoch` grows with each change, so that what was verified under an earlier one is verified again.
    `owner_hash`: SHA-256 of the credential in the data directory."""

    epoch: int = 0
    required: bool = False
    keys: tuple[KeyHash, ...] = ()
    users: tuple[UserHash, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    certificates: tuple[CertificateRule, ...] = ()
    deployments: tuple[DeploymentAccess, ...] = ()
    owner_hash: str = ""


class Caller(msgspec.Struct, frozen=True):
    """Somebody whose credential was verified. `kind`: owner, key, user, jwt, certificate, anonymous. `id` is unique
    over kinds. `claims`: of a JWT. `expires_at`: seconds since 1970 when it has to be verified again; 0 is never."""

    kind: str
    name: str
    id: str
    scopes: tuple[str, ...] = ()
    issuer: str = ""
    claims: dict[str, object] = {}
    expires_at: float = 0.0


ANONYMOUS = Caller("anonymous", "anonymous", "anonymous")
