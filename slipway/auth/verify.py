"""Who is it? From what a caller shows to a Caller, under the newest Access; a door asks this first.

A verdict is remembered under a keyed hash of what was shown, so the next request costs one look-up, and no credential
stays in memory. A new Access keeps only verdicts whose ground (that key, that user, that issuer) it still holds
unchanged: what was revoked is out at once, and nobody else pays for it. Failures are counted by peer and by name, and
slow down guesses; a key or token that is good always gets in, whatever others behind the same address do.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from slipway.auth.certificates import certificate_caller, is_subject
from slipway.auth.credentials import REFUSED, UNREADABLE, ApiKey, Certificate, Credentials, Password, Token, read
from slipway.auth.guesses import Guesses
from slipway.auth.keys import prefix, same_key
from slipway.errors import Overloaded, RateLimited, Unauthenticated
from slipway.spec.access import ANONYMOUS, Access, Caller, Issuer, KeyHash, UserHash

if TYPE_CHECKING:
    from slipway.auth.tokens import TokenIssuers

OWNER = Caller("owner", "owner", "owner", ("admin",))
OPEN = Caller("anonymous", "anonymous", "anonymous", ("admin",))
"""Everybody, on a server that requires no credential."""
MAX_VERDICTS = 16_384
PASSWORDS_AT_ONCE = 2
"""19 MiB and a core each."""
PASSWORDS_WAITING = 32
_FOREVER = float("inf")


class _Verdict(NamedTuple):
    """`ground`: what in the Access it rests on."""

    caller: Caller
    until: float
    ground: Hashable


class _Known:
    """One Access, indexed, with the verdicts under it. A check that was begun under an older one ends under it, and
    what it finds is not remembered in the newer one.

    `lasting` holds verdicts on keys and users, whose number is bounded by those that exist; `passing` those on tokens,
    of which an issuer may sign any number, so that they never push out a password that took a core to check.
    """

    def __init__(self, access: Access, before: _Known | None = None) -> None:
        self.access = access
        self.nobody = ANONYMOUS if access.required else OPEN
        self.keys = {key.id: key for key in access.keys}
        self.users = {user.name: user for user in access.users}
        self.lasting: OrderedDict[bytes, _Verdict] = OrderedDict()
        self.passing: OrderedDict[bytes, _Verdict] = OrderedDict()
        self.certificates: OrderedDict[str, Caller] = OrderedDict()
        self._tokens: TokenIssuers | None = None
        if before is not None:
            self._carry_over(before)

    def _carry_over(self, before: _Known) -> None:
        old, new = before.access, self.access
        if old.issuers == new.issuers:
            self._tokens = before._tokens
        if old.certificates == new.certificates and old.required == new.required:
            self.certificates = before.certificates
        if _ground(old) == _ground(new):  # most often only a deployment changed
            self.lasting, self.passing = before.lasting, before.passing
        elif old.required == new.required:
            kept: set[Hashable] = {*new.keys, *new.users, *new.issuers, new.owner_hash}
            for ours, theirs in ((self.lasting, before.lasting), (self.passing, before.passing)):
                ours.update((digest, verdict) for digest, verdict in list(theirs.items()) if verdict.ground in kept)

    @property
    def tokens(self) -> TokenIssuers:
        if self._tokens is None:
            from slipway.auth.tokens import TokenIssuers  # cryptography costs 20 MB, and few servers trust an issuer

            self._tokens = TokenIssuers(self.access.issuers)
        return self._tokens


def _ground(access: Access) -> Hashable:
    return access.required, access.owner_hash, access.keys, access.users, access.issuers


def _put(verdicts: OrderedDict[Any, Any], key: object, verdict: object) -> None:
    verdicts[key] = verdict
    if len(verdicts) > MAX_VERDICTS:
        verdicts.popitem(last=False)


class Verifier:
    """Give it each new Access by `update`. `verify` may run in a thread; everything else belongs to one thread."""

    def __init__(self, access: Access) -> None:
        self._known = _Known(access)
        self._keyed = hashlib.blake2b(digest_size=16, key=secrets.token_bytes(32))
        self._used: dict[str, float] = {}
        self.guesses = Guesses()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pending: dict[tuple[bytes, str], Future[Caller]] = {}

    @property
    def required(self) -> bool:
        """False: every door is open, and whoever shows nothing may do everything."""
        return self._known.access.required

    @property
    def access(self) -> Access:
        return self._known.access

    def update(self, access: Access) -> None:
        """The whole new truth, from this moment on."""
        self._known = _Known(access, self._known)

    def cached(self, authorization: str, api_key: str = "", certificate: str = "", *, now: float) -> Caller | None:
        """The caller, if this was verified before and still holds, or nothing is shown at all. None: ask `verify`."""
        known = self._known
        if authorization or api_key:
            digest = self._digest(authorization, api_key)
            verdict = known.lasting.get(digest) or known.passing.get(digest)
            if verdict is None or verdict.until <= now:
                return None
            caller = verdict.caller
        elif certificate:
            known_by_certificate = known.certificates.get(certificate)
            if known_by_certificate is None:
                return None
            caller = known_by_certificate
        else:
            return known.nobody
        self._used[caller.id] = now
        return caller

    def needs_time(self, credentials: Credentials, *, now: float) -> bool:
        """True for a password that was not verified yet: `verify` would hold up an event loop for tens of
        milliseconds; use `submit`."""
        return (
            credentials.authorization[:6].lower() == "basic "
            and self.required
            and self.cached(credentials.authorization, credentials.api_key, now=now) is None
        )

    def verify(self, credentials: Credentials, *, now: float) -> Caller:
        """ANONYMOUS where nothing is shown; whether that is enough is for scopes and policy to say. `now`: seconds
        since 1970. Raises Unauthenticated (which part was wrong is not said), or RateLimited after too many failures.
        """
        caller = self.cached(credentials.authorization, credentials.api_key, credentials.certificate, now=now)
        if caller is not None:
            return caller
        known = self._known
        try:
            shown = read(credentials)
        except Unauthenticated as error:
            if not known.access.required:
                return OPEN
            raise self._refuse("malformed", "", credentials.peer, now=now, message=error.message) from None
        if not known.access.required:
            return self._open(known, shown)
        if isinstance(shown, Certificate):
            return self._by_certificate(known, shown, credentials.peer, now=now)
        if isinstance(shown, Password):
            verdict = self._by_password(known, shown, credentials.peer, now=now)
        elif isinstance(shown, ApiKey):
            verdict = self._by_key(known, shown, credentials.peer, now=now)
        elif isinstance(shown, Token):
            verdict = self._by_token(known, shown, credentials.peer, now=now)
        else:
            return ANONYMOUS
        with self._lock:
            digest = self._digest(credentials.authorization, credentials.api_key)
            _put(known.passing if isinstance(shown, Token) else known.lasting, digest, verdict)
            self._note_use(verdict.caller, now)
        return verdict.caller

    def submit(self, credentials: Credentials, *, now: float) -> Future[Caller]:
        """`verify` in a thread, a few at once; the same credential is checked once for all who wait for it. The future
        holds what `verify` returns or raises. Raises Overloaded where too many passwords wait already."""
        same = (self._digest(credentials.authorization, credentials.api_key), credentials.peer)
        pending = self._pending.get(same)
        if pending is not None:
            return pending
        if len(self._pending) >= PASSWORDS_WAITING:
            raise Overloaded("too many passwords are being checked already", retry_after_s=1.0)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(PASSWORDS_AT_ONCE, thread_name_prefix="password")
        future: Future[Caller] = Future()
        future.set_running_or_notify_cancel()  # one who gives up must not cancel it for the others
        self._pending[same] = future
        self._pool.submit(self._verify_for, future, credentials, now, same)
        return future

    def _verify_for(
        self, future: Future[Caller], credentials: Credentials, now: float, same: tuple[bytes, str]
    ) -> None:
        try:
            caller = self.verify(credentials, now=now)
        except BaseException as error:
            self._pending.pop(same, None)
            future.set_exception(error)
        else:
            self._pending.pop(same, None)
            future.set_result(caller)

    def drain(self) -> tuple[dict[str, float], list[tuple[str, str, str, int]]]:
        """(used, refused) since the last time, as AccessSeen has them."""
        with self._lock:
            used, self._used = self._used, {}
            return used, self.guesses.drain()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    # --- one kind each --------------------------------------------------------------------------------------------

    def _open(self, known: _Known, shown: object) -> Caller:
        """An open server believes nobody, and refuses nobody; only its owner it knows, for the audit log."""
        if isinstance(shown, ApiKey) and shown.id == "owner" and same_key(shown.text, known.access.owner_hash):
            return OWNER
        return OPEN

    def _by_key(self, known: _Known, shown: ApiKey, peer: str, *, now: float) -> _Verdict:
        if shown.id == "owner":
            if same_key(shown.text, known.access.owner_hash):
                return _Verdict(OWNER, _FOREVER, known.access.owner_hash)
            raise self._refuse("wrong_key", prefix(shown.id), peer, now=now)
        key: KeyHash | None = known.keys.get(shown.id)
        if not same_key(shown.text, key.hash if key else "") or key is None:
            raise self._refuse("wrong_key" if key else "unknown_key", prefix(shown.id), peer, now=now)
        if key.expires_at and key.expires_at <= now:
            raise self._refuse("expired_key", prefix(shown.id), peer, now=now)
        caller = Caller("key", key.name, f"key:{key.id}", key.scopes, expires_at=key.expires_at)
        return _Verdict(caller, key.expires_at or _FOREVER, key)

    def _by_password(self, known: _Known, shown: Password, peer: str, *, now: float) -> _Verdict:
        from slipway.auth.passwords import check_password

        with self._lock:
            wait_s = self.guesses.wait_s(peer=peer, user=shown.user, now=now)
        if wait_s > 0:
            raise RateLimited(_TOO_OFTEN, retry_after_s=wait_s)
        user: UserHash | None = known.users.get(shown.user)
        if not check_password(shown.password, user.hash if user else "") or user is None:
            kind = "wrong_password" if user else "unknown_user"
            raise self._refuse(kind, shown.user if user else "", peer, now=now, user=shown.user)
        with self._lock:
            self.guesses.succeeded(peer=peer, user=shown.user)
        return _Verdict(Caller("user", user.name, f"user:{user.name}", user.scopes), _FOREVER, user)

    def _by_token(self, known: _Known, shown: Token, peer: str, *, now: float) -> _Verdict:
        if not known.access.issuers:
            raise self._refuse("unknown_issuer", "", peer, now=now)
        from slipway.auth.tokens import TokenRefused

        try:
            verified = known.tokens.verify(shown.text, now=now)
        except TokenRefused as refused:
            raise self._refuse(refused.kind, refused.issuer, peer, now=now) from None
        ground: Issuer = verified.issuer
        return _Verdict(verified.caller, verified.until, ground)

    def _by_certificate(self, known: _Known, shown: Certificate, peer: str, *, now: float) -> Caller:
        """TLS has done the work."""
        if not is_subject(shown.subject):
            raise self._refuse("malformed", "", peer, now=now, message=UNREADABLE)
        caller = certificate_caller(shown.subject, known.access.certificates)
        with self._lock:
            _put(known.certificates, shown.subject, caller)
            self._note_use(caller, now)
        return caller

    def _note_use(self, caller: Caller, now: float) -> None:
        if len(self._used) >= 2 * MAX_VERDICTS:  # nobody drains it
            self._used.clear()
        self._used[caller.id] = now

    def _refuse(
        self, kind: str, who: str, peer: str, *, now: float, user: str = "", message: str = REFUSED
    ) -> Unauthenticated | RateLimited:
        with self._lock:
            wait_s = self.guesses.failed(kind, who, peer=peer, user=user, now=now)
        return RateLimited(_TOO_OFTEN, retry_after_s=wait_s) if wait_s > 0 else Unauthenticated(message)

    def _digest(self, authorization: str, api_key: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(f"{authorization}\n{api_key}".encode("utf-8", "surrogatepass"))
        return keyed.digest()


_TOO_OFTEN = "too many credentials from here were wrong; wait before the next one"
