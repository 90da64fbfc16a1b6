"""What a web page has a browser send: not let in, unless the page is of this door, or of a site that was let in.

A browser carries any site over the edge of the machine that it runs on: by a request to 127.0.0.1 that it sends without
asking (cross-site request forgery, https://fetch.spec.whatwg.org/#cors-safelisted-method), or by a name that its owner
points to 127.0.0.1 (DNS rebinding). Both show in the head. A request with a key or token of its own is no such thing: a
page cannot make a browser add one without asking first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from slipway.errors import Forbidden

READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PRIVATE = (".localhost", ".local", ".internal")


def is_public_name(host: str) -> bool:
    """Whether `host`, of a head, is a name that anybody could own and point anywhere: no address, no name of this
    machine or of a private network."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").rstrip(".").lower()
    if "." not in name or name.endswith(_PRIVATE):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def check_name(host: str) -> None:
    """For a server that asks nobody who he is, on loopback. Raises Forbidden."""
    if is_public_name(host):
        raise Forbidden(
            f"this server needs no credential and is for its own machine; the request was sent to {host[:100]!r}. Call "
            "it as 127.0.0.1 or localhost (a proxy before it sets this Host), or close it: auth.required: true"
        )


def check_origin(method: str, headers: Mapping[str, str], *, let_in: Collection[str]) -> None:
    """`let_in`: origins that may call from a browser, `*` for all. Raises Forbidden."""
    origin = headers.get("origin")
    if method in READING or "*" in let_in or origin in let_in:
        return
    if "x-api-key" in headers or headers.get("authorization", "")[:7].lower() == "bearer ":
        return
    site = headers.get("sec-fetch-site", "")
    if site in ("same-origin", "none"):  # the browser's own word, which no page can set
        return
    if site in ("cross-site", "same-site") or (origin is not None and not _is_of(origin, headers.get("host", ""))):
        raise Forbidden(
            f"a page of {(origin or 'another site')[:100]!r} may not call here; the server's cors_origins would let it"
        )


def _is_of(origin: str, host: str) -> bool:
    """Whether a page of this origin came from this door. Only a proxy knows which scheme it was called by."""
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        default = {"http": 80, "https": 443}.get(theirs.scheme)
        return bool(theirs.hostname) and (theirs.hostname, theirs.port or default) == (
            ours.hostname,
            ours.port or default,
        )
    except ValueError:
        return False
