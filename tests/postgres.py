"""A real PostgreSQL server for the tests, private to one run of them, and both databases under one face.

`postgres` starts a server in a temporary folder when the first test asks for it. `database` runs a test twice: with a
SQLite file and with a database of that server.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from slipway.store.opening import open_store
from slipway.store.store import Store

SCRIPT = Path(__file__).parents[1] / "scripts/postgres"
USER, PASSWORD = "slipway", "only-for-the-tests"
QUICK = ["fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60"]


class Postgres:
    """The server. `stop` and `start` are for tests of an outage."""

    def __init__(self, programs: Path, folder: Path, run_as: dict[str, Any]) -> None:
        self._programs, self._folder, self._run_as = programs, folder, run_as
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self.port = 0

    def initialise(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [self._programs / "initdb", "-D", self._folder / "data", *options],
            capture_output=True, text=True, check=False, cwd="/", **self._run_as,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr

    def start(self, *, standby: bool = False) -> None:
        """On the port of the first time, which is one the system gave. `standby`: of a primary that is not there."""
        deadline = time.monotonic() + 60
        if standby:
            (self._folder / "data/standby.signal").touch()
        while True:
            self.port = self.port or _free_port()
            settings = [*QUICK, "listen_addresses=127.0.0.1", f"port={self.port}",
                        f"unix_socket_directories={self._folder}"]  # fmt: skip
            log = (self._folder / "log").open("ab")
            with log:
                self._process = subprocess.Popen(
                    [self._programs / "postgres", "-D", self._folder / "data",
                     *(part for setting in settings for part in ("-c", setting))],
                    stdout=log, stderr=log, cwd="/", preexec_fn=_die_with_parent, **self._run_as,
                )  # fmt: skip
            if self._answers(deadline):
                return
            text = (self._folder / "log").read_text(errors="replace")
            assert "could not bind" in text and time.monotonic() < deadline, text
            self.port = 0  # somebody was quicker to take it

    def _answers(self, deadline: float) -> bool:
        assert self._process is not None
        while self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url("postgres", driver="")):
                return True
            assert time.monotonic() < deadline, (self._folder / "log").read_text(errors="replace")
            time.sleep(0.02)
        return False

    def stop(self, *, clean: bool = False) -> None:
        """At once, as on a machine that fails, or `clean`ly."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if clean else signal.SIGQUIT)
            self._process.wait(30)

    def url(self, name: str, *, password: str = PASSWORD, driver: str = "+psycopg") -> str:
        return f"postgresql{driver}://{USER}:{password}@127.0.0.1:{self.port}/{name}"

    def new_database(self, options: str = "") -> str:
        """A URL for Slipway. `options`: of CREATE DATABASE."""
        self._count += 1
        name = f"test_{self._count}"
        with psycopg.connect(self.url("postgres", driver=""), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(options)))
        return self.url(name)


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    found = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    run_as: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="slipway-pg-", dir="/tmp"))  # a socket's path has to be short
    if os.getuid() == 0:  # initdb refuses to be root
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = Postgres(Path(found.stdout.strip()), folder, run_as)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@dataclass
class Database:
    """`kind`: sqlite or postgres. `sql` goes past Slipway: what somebody with a database client could do or see."""

    kind: str
    url: str
    opened: list[Store] = field(default_factory=list)

    def open(self, **options: Any) -> Store:
        store = open_store(self.url, **options)
        self.opened.append(store)
        return store

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        connection: Any
        if self.kind == "sqlite":
            with contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
                return connection.execute(statement).fetchall()
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            cursor = connection.execute(statement.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty one, once of each kind."""
    if request.param == "sqlite":
        found = Database("sqlite", f"sqlite:///{tmp_path}/slipway.db")
    else:
        found = Database("postgres", request.getfixturevalue("postgres").new_database())
    yield found
    for store in found.opened:
        store.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _die_with_parent() -> None:
    """Should the tests be killed, the server goes too. After a change of user, which would clear it."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
