"""A database's URL: which are understood, what is added to them, and how they look without their password."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from slipway.errors import MissingExtra, SetupError

FORMS = "sqlite:////folder/slipway.db or postgresql://user:password@host:5432/database"
BUSY_S = 5.0
SECRET_OPTIONS = ("password", "sslpassword")

# libpq's options, unless the URL has others. Together they notice a machine that is gone within ten seconds: silence
# is asked after for 5 s and then twice, 2 s apart, and what was sent is given up after 8 s.
LIBPQ: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 8000,
    "application_name": "slipway",
    "client_encoding": "utf8",
}


@dataclass(frozen=True, kw_only=True)
class Address:
    """`path`: of a SQLite file, None for a database in memory and for PostgreSQL. `url`: of PostgreSQL, else None.
    `busy_s`: how long a change waits for another writer. `shown`: the URL without its password."""

    shown: str
    path: Path | None = None
    url: URL | None = None
    busy_s: float = BUSY_S

    @property
    def password(self) -> str:
        return str(self.url.password or self.url.query.get("password") or "") if self.url else ""


def parse(text: str) -> Address:
    """Raises SetupError for a URL that names no database Slipway can use, and MissingExtra where its driver is not
    installed."""
    kind, slashes, rest = text.partition("://")
    if not slashes:
        raise SetupError(f"The database's URL is not one (it is not repeated here, as it may hold a password); right "
                         f"would be {FORMS}.")  # fmt: skip
    if kind in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(rest)
    if kind in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgres(text)
    raise SetupError(f"Slipway keeps no store in {kind!r}; right would be {FORMS}.")


def _sqlite(rest: str) -> Address:
    """The path is taken as it stands, not unquoted: mostly it comes from a data directory's name."""
    place, _, options = rest.partition("?")
    if place and not place.startswith("/"):
        raise SetupError(f"A SQLite URL has three slashes before a relative path and four before an absolute one, not "
                         f"a host: {FORMS}.")  # fmt: skip
    given = dict(parse_qsl(options, keep_blank_values=True))
    unknown = sorted(set(given) - {"timeout"})
    if unknown:
        raise SetupError(f"A SQLite URL takes the option 'timeout' (seconds) only, not {', '.join(unknown)}.")
    try:
        busy_s = float(given.get("timeout", BUSY_S))
    except ValueError:
        raise SetupError(f"timeout={given['timeout']!r} in the SQLite URL is not a number of seconds.") from None
    if place in ("", "/", "/:memory:"):
        return Address(shown="sqlite://", busy_s=busy_s)
    path = Path(place[1:]).absolute()
    return Address(shown=f"sqlite:///{path}", path=path, busy_s=busy_s)


def _postgres(text: str) -> Address:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SetupError(f"The PostgreSQL URL cannot be read (it is not repeated here, as it may hold a password); "
                         f"right would be {FORMS}, special characters in the password as %40.") from None  # fmt: skip
    if find_spec("psycopg") is None:
        raise MissingExtra("PostgreSQL needs a driver: pip install 'slipway[postgres]'.")
    query = {key: value for key, value in url.query.items() if key not in SECRET_OPTIONS}
    shown = url.set(drivername="postgresql", query=query)._replace(password=None).render_as_string()
    return Address(shown=shown, url=url.set(drivername="postgresql+psycopg"))
