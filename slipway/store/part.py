"""What the parts of a Store share: its database, rows as records, and the two errors that most of them raise."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

from sqlalchemy import Connection, Select

from slipway.errors import NotFound, PreconditionFailed
from slipway.store.database import Database

R = TypeVar("R")

LARGEST = 2**31 - 1  # of the databases' INTEGER; a number beyond it names nothing that exists


class Part:
    def __init__(self, database: Database) -> None:
        self._database = database


def read(kind: type[R], connection: Connection, query: Select[Any]) -> list[R]:
    """The rows of a query as records, whose fields its columns name."""
    result = connection.execute(query)
    names = tuple(result.keys())
    return [kind(**dict(zip(names, row, strict=True))) for row in result]


def read_one(kind: type[R], connection: Connection, query: Select[Any]) -> R | None:
    found = read(kind, connection, query.limit(1))
    return found[0] if found else None


def no_such(kind: str, name: str, known: Iterable[str]) -> NotFound:
    names = list(known)
    near = get_close_matches(name, names, n=1)
    if near:
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = f"there are {', '.join(map(repr, sorted(names)[:5]))}." if names else f"there is no {kind} yet."
    return NotFound(f"There is no {kind} {name!r}; {hint}")


def check_revision(kind: str, name: str, *, found: int, expected: int | None) -> None:
    """`found` 0: there is none; so `expected` 0 says that there must be none. Raises PreconditionFailed."""
    if expected is None or expected == found:
        return
    if expected == 0:
        raise PreconditionFailed(f"There is a {kind} {name!r} already, at revision {found}.")
    state = f"is at revision {found}" if found else "does not exist (any more)"
    raise PreconditionFailed(
        f"The {kind} {name!r} {state}, and this change was made for revision {expected}: somebody else was first. Read "
        "it again and decide anew."
    )


def bounded(number: int) -> int:
    """A cursor as the databases can compare it; nothing has a larger one."""
    return max(-(2**63), min(number, 2**63 - 1))


def page(limit: int) -> int:
    return max(0, min(limit, LARGEST))
