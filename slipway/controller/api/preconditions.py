"""ETag, If-Match and If-None-Match (RFC 9110, section 13): a change that knows what it changes, or is not made.

An ETag is a revision: it says what was declared, or set, and stays when only the state of a deployment moves on.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from starlette.datastructures import Headers

from slipway.controller.api.problems import with_headers
from slipway.errors import InvalidInput, PreconditionFailed

T = TypeVar("T")
REVISION = {"etag": "The revision, in quotes. As If-Match: change what you saw, or nothing."}
"""What operations say of the head of their answers."""

ANY = -1
# A revision without its quotes is understood too: nothing else could be meant.
_ETAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"|([0-9]+)')


class Expected(NamedTuple):
    """`revisions`: one of these, None for whatever there is, empty for none at all; ANY in it: it exists. `absent`: it
    must not exist."""

    revisions: frozenset[int] | None = None
    absent: bool = False


def etag(revision: int) -> str:
    return f'"{revision}"'


def expected(headers: Headers) -> Expected:
    """Raises InvalidInput for what cannot be read, and for what this API has no use for."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if none_match is not None:
        if match is not None:
            raise InvalidInput("If-Match and If-None-Match contradict each other; send one")
        if none_match.strip() != "*":
            raise InvalidInput(f"If-None-Match is {none_match[:60]!r}; it takes *: only if it does not exist yet")
        return Expected(absent=True)
    if match is None:
        return Expected()
    if match.strip() == "*":
        return Expected(frozenset({ANY}))
    parts = [part.strip() for part in match.split(",")]
    found = [_ETAG.fullmatch(part) for part in parts]
    if not all(found):
        raise InvalidInput(f"If-Match is {match[:60]!r}; it takes the ETag of an answer, in quotes, or *")
    # A weak ETag matches nothing here, and neither does one that we never gave.
    strong = [
        one[1] or one[2] or "" for part, one in zip(parts, found, strict=True) if one and not part.startswith("W/")
    ]
    return Expected(frozenset(int(text) for text in strong if re.fullmatch(r"[1-9][0-9]{0,15}", text)))


async def as_expected(
    headers: Headers, what: str, *, present: Callable[[], Awaitable[int]], act: Callable[[int | None], Awaitable[T]]
) -> T:
    """`act` with the revision that it may change, 0 for "must not exist", None for any, as If-Match and If-None-Match
    say. `present`: the revision now, 0 for none. Raises PreconditionFailed, with the present ETag in its head."""
    wanted = expected(headers)
    try:
        if wanted.absent:
            return await act(0)
        if wanted.revisions is None:
            return await act(None)
        if len(wanted.revisions) == 1 and ANY not in wanted.revisions:
            return await act(next(iter(wanted.revisions)))
        now = await present()
        if now and (ANY in wanted.revisions or now in wanted.revisions):
            return await act(now)
        there = f"at revision {now}" if now else "not there"
        raise PreconditionFailed(f"{what} is {there}, which If-Match does not name")
    except PreconditionFailed as error:
        now = await present()
        raise with_headers(error, {"etag": etag(now)} if now else {}) from None
