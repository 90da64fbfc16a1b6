"""Who may come in at all: what is shown is verified, and what a browser was tricked into sending is refused.

A server that asks for no credential on loopback is protected by nothing but the machine's edge, and a browser on this
machine carries any web site over that edge: by a form that posts to 127.0.0.1 (cross-site request forgery), or by a
name that its owner points to 127.0.0.1 (DNS rebinding). Both show in the head of the request.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from slipway.auth.credentials import MISSING, Credentials, collect
from slipway.auth.verify import Verifier
from slipway.errors import Forbidden, MalformedRequest, StoreUnavailable, Unauthenticated
from slipway.spec.access import Access, Caller
from slipway.spec.hosts import is_loopback

READING = frozenset({"GET", "HEAD", "OPTIONS"})
CERTIFICATE = "slipway.certificate"
"""Where the listening side puts the common name of a verified client certificate, in the scope."""
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/@\s]+)(?::(\d{1,5}))?")
_TRICK = re.compile(rb"%(?:2[fF]|5[cC]|0[0-9a-fA-F]|1[0-9a-fA-F]|7[fF])|\\|[\x00-\x20\x7f]")


class Admission:
    """`access`: who may do what, as of now; `is_whole` False: it cannot be known yet, but for the owner. `own_hosts`:
    names that this door is known by, beside loopback's."""

    def __init__(
        self,
        access: Callable[[], Access],
        *,
        is_whole: Callable[[], bool] = lambda: True,
        own_hosts: Iterable[str] = (),
    ) -> None:
        self._access = access
        self._is_whole = is_whole
        self._known = access()
        self._own_hosts = frozenset(host.lower() for host in own_hosts if host)
        self.verifier = Verifier(self._known)

    async def caller(self, scope: Scope) -> Caller:
        """Raises Unauthenticated, also for nobody where somebody is required; RateLimited; Overloaded; and
        StoreUnavailable where a credential that may be good cannot be looked up yet: 401 would be the last word."""
        credentials = self._credentials(scope)
        if not self._is_whole():
            return await self._owner(credentials)
        caller = await self._verify(credentials)
        if caller.kind == "anonymous" and self._known.required:
            raise Unauthenticated(MISSING)
        return caller

    async def _owner(self, credentials: Credentials) -> Caller:
        self._follow()
        if f"{credentials.authorization} {credentials.api_key}".count("sw_owner_") == 1:
            return self.verifier.verify(credentials, now=time.time())
        raise StoreUnavailable("who may come in is not known yet: the store was not read", retry_after_s=1.0)

    async def _verify(self, credentials: Credentials) -> Caller:
        self._follow()
        now = time.time()
        if self.verifier.needs_time(credentials, now=now):
            return await asyncio.shield(asyncio.wrap_future(self.verifier.submit(credentials, now=now)))
        return self.verifier.verify(credentials, now=now)

    async def still(self, scope: Scope, caller: Caller) -> bool:
        """Whether who began a stream may go on: nothing was revoked, expired or taken away since."""
        try:
            now = await self.caller(scope)
        except Exception:  # whatever it is, he could not come in again either
            return False
        return now.id == caller.id and now.scopes == caller.scopes

    def _follow(self) -> None:
        newest = self._access()
        if newest is not self._known:
            self._known = newest
            self.verifier.update(newest)

    def _credentials(self, scope: Scope) -> Credentials:
        client = scope.get("client")
        return collect(scope["headers"], certificate=scope.get(CERTIFICATE, ""), peer=client[0] if client else "")

    def check_site(self, scope: Scope) -> None:
        """Raises Forbidden for a request that another web site has a browser send."""
        self._follow()
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            raise MalformedRequest("header 'host' is given twice")
        host = hosts[0] if hosts else ""
        if not self._known.required and is_loopback((scope.get("server") or ("", 0))[0]):
            self._check_host(host)
        if scope["method"] not in READING:
            _check_origin(headers, host, scope["scheme"])

    def _check_host(self, host: str) -> None:
        found = _HOST.fullmatch(host)
        name = found[1].strip("[]").lower() if found else ""
        if not (is_loopback(name) or name.endswith(".localhost") or name in self._own_hosts):
            raise Forbidden(
                f"this server needs no credential and is for its own machine; the request was sent to {host[:100]!r}. "
                "Call it as 127.0.0.1 or localhost, or close it: `auth: {required: true}` in the server's configuration"
            )


def check_path(scope: Scope) -> None:
    """Raises MalformedRequest for a path that two readers could read differently."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    if _TRICK.search(raw):
        raise MalformedRequest(
            "the path holds an encoded slash, a backslash or a control character; names have letters, digits, '.', '_' "
            "and '-' only"
        )
    try:
        unquote(raw.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise MalformedRequest("the path is not UTF-8 with percent-encoding") from None
    segments = scope["path"].split("/")
    if any(segment in (".", "..") for segment in segments):
        raise MalformedRequest("the path has a segment '.' or '..', which is not resolved here")


def _check_origin(headers: Headers, host: str, scheme: str) -> None:
    """Every browser says where a request that changes something comes from; whoever is no browser says nothing."""
    site = headers.get("sec-fetch-site", "")
    origin = headers.get("origin")
    if site in ("cross-site", "same-site") or (origin is not None and not _same_origin(origin, host, scheme)):
        raise Forbidden(f"a page of {(origin or 'another site')[:100]!r} may not change anything here")


def _same_origin(origin: str, host: str, scheme: str) -> bool:
    try:
        parts = urlsplit(origin)
        theirs = (parts.hostname or "", parts.port)
        ours = urlsplit(f"{scheme}://{host}")
        mine = (ours.hostname or "", ours.port)
    except ValueError:
        return False
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return bool(theirs[0]) and (theirs[0], theirs[1] or default) == (mine[0], mine[1] or default)
