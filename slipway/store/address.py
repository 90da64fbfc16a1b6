"""A database's URL: which are understood, what is added to them, and how they look without their password."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from slipway.errors import MissingExtra, SetupError

FORMS = "sqlite:////folder/slipway.db or postgresql://user:password@host:5432/database"
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


def parse(text: str) -> URL:
    """Raises SetupError for a URL that names no database Slipway can use, and MissingExtra where its driver is not
    installed."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SetupError(f"The database's URL is not one (it is not repeated here, as it may hold a password); right "
                         f"would be {FORMS}.") from None  # fmt: skip
    kind, _, driver = url.drivername.partition("+")
    if kind == "sqlite" and driver in ("", "pysqlite"):
        return _sqlite(url)
    if kind in ("postgresql", "postgres") and driver in ("", "psycopg"):
        if find_spec("psycopg") is None:
            raise MissingExtra("PostgreSQL needs a driver: pip install 'slipway[postgres]'.")
        return url.set(drivername="postgresql+psycopg")
    raise SetupError(f"Slipway keeps no store in {url.drivername!r}; right would be {FORMS}.")


def _sqlite(url: URL) -> URL:
    if url.host or url.username:
        raise SetupError(f"A SQLite URL has three slashes before a relative path and four before an absolute one, not "
                         f"a host: {FORMS}.")  # fmt: skip
    unknown = sorted(set(url.query) - {"timeout"})
    if unknown:
        raise SetupError(f"A SQLite URL takes the option 'timeout' (seconds) only, not {', '.join(unknown)}.")
    try:
        float(str(url.query.get("timeout", "0")))
    except ValueError:
        raise SetupError(f"timeout={url.query['timeout']!r} in the SQLite URL is not a number of seconds.") from None
    if url.database in (None, "", ":memory:"):
        return url._replace(database=None)
    return url.set(drivername="sqlite", database=str(Path(str(url.database)).absolute()))


def shown(url: URL) -> str:
    query = {key: value for key, value in url.query.items() if key not in SECRET_OPTIONS}
    return url.set(drivername=url.get_backend_name(), query=query)._replace(password=None).render_as_string()


def password(url: URL) -> str:
    return str(url.password or url.query.get("password") or "")
