"""Lists in pages. A cursor is the key of the last item that was told, so what is inserted or removed between two pages
neither repeats nor hides another item."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Query

from slipway.errors import InvalidInput
from slipway.spec.resources import Page

T = TypeVar("T")

MOST_ITEMS = 1000
Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="Items of a page, at most.")]
Cursor = Annotated[
    str,
    Query(
        max_length=2048,
        description="`next` of the page before; without it, the first page.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]*$"},
    ),
]


def page_of(
    items: Iterable[T], *, key: Callable[[T], tuple[str | float, ...]], kind: str, limit: int, cursor: str
) -> Page[T]:
    """`limit` items after the cursor, in the order of `key`, which differs for each. `kind`: whose cursors."""
    ordered = sorted(items, key=key)
    if cursor:
        after = read_cursor(kind, cursor)
        try:
            ordered = [item for item in ordered if key(item) > after]
        except TypeError:
            raise _foreign(cursor) from None
    shown = ordered[:limit]
    more = len(ordered) > limit
    return Page(items=shown, next=write_cursor(kind, key(shown[-1])) if more else "")


def write_cursor(kind: str, after: tuple[str | float, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([kind, *after])).decode().rstrip("=")


def read_cursor(kind: str, cursor: str) -> tuple[Any, ...]:
    """Raises InvalidInput for one that is not of this list."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        found = msgspec.json.decode(raw, type=list[str | float | int])
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise _foreign(cursor) from None
    if not found or found[0] != kind:
        raise _foreign(cursor)
    return tuple(found[1:])


def read_number(kind: str, cursor: str) -> int:
    """Of a cursor that is one number."""
    found = read_cursor(kind, cursor)
    if len(found) != 1 or not isinstance(found[0], int) or not 0 < found[0] < 2**53:
        raise _foreign(cursor)
    return found[0]


def _foreign(cursor: str) -> InvalidInput:
    return InvalidInput(f"query parameter 'cursor' is {cursor[:60]!r}: give it as `next` of the page before had it")
