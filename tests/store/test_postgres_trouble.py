"""A PostgreSQL server that is away, refuses, or goes in the middle: what the store says, and that it goes on after."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from postgres import PASSWORD, Postgres, running_postgres

from slipway.errors import SetupError, SlipwayError, StoreUnavailable
from slipway.store.opening import open_store
from slipway.store.store import Store


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with contextlib.closing(open_store(url)) as store:
        note(store)
        yield store


def note(store: Store) -> None:
    store.note(actor="a", action="b", target="c", details={}, now=1.0)


def client(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def patiently(attempt: Callable[[], None]) -> None:
    """A server that was started accepts connections a moment before it answers."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except StoreUnavailable as error:
            if "shutting down or starting" not in error.message or time.monotonic() > deadline:
                raise


def refusal(url: str) -> str:
    """What opening it says; never the password."""
    with pytest.raises(SlipwayError) as raised:
        open_store(url)
    assert "s3cret" not in str(raised.value) and PASSWORD not in str(raised.value)
    assert isinstance(raised.value, StoreUnavailable | SetupError)
    return raised.value.message


def test_nobody_listens() -> None:
    said = refusal("postgresql://ann:s3cret@127.0.0.1:1/slipway")
    assert "postgresql://ann@127.0.0.1:1/slipway cannot be reached" in said and "Connection refused" in said
    assert "Check that it runs" in said


def test_a_wrong_password_and_other_things_that_a_url_gets_wrong(postgres: Postgres) -> None:
    said = refusal(postgres.url("postgres", password="s3cret"))
    assert "did not let Slipway in" in said and "password authentication failed" in said and "pg_hba.conf" in said
    said = refusal(postgres.url("nowhere"))
    assert "does not exist" in said and "createdb" in said
    said = refusal(f"postgresql://slipway@127.0.0.1:{postgres.port}/postgres?password=s3cret")
    assert "did not let Slipway in" in said and "password=" not in said
    assert "cannot be reached" in refusal("postgresql://ann:s3cret@no.such.host.invalid/db")
    assert "invalid" in refusal("postgresql://ann:s3cret@127.0.0.1/db?colour=red")


def test_an_encoding_that_cannot_hold_every_text(postgres: Postgres) -> None:
    latin = postgres.new_database("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    assert "has the encoding LATIN1" in refusal(latin)


def test_a_user_who_may_not_make_tables(url: str) -> None:
    with client(url) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 's3cret'")
    said = refusal(url.replace(f"slipway:{PASSWORD}", "guest:s3cret"))
    assert "does not allow this" in said and "permission denied" in said


def test_connections_that_the_server_ended_are_made_again(url: str, store: Store) -> None:
    with client(url) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'slipway' "
            "AND datname = current_database()"
        )
        assert (True,) in ended.fetchall()
    note(store)  # without an error: the connection is tried before it is used
    assert len(store.audit()) == 2 and store.verify_audit() is None


def test_a_connection_that_breaks_within_a_change(url: str, store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="terminating connection"), store._database.writing() as change:
        change.audit(actor="a", action="lost", target="", details={}, now=1.0)
        pid = change.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        with client(url) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        change.audit(actor="a", action="lost", target="", details={}, now=1.0)
    note(store)
    assert [entry.action for entry in store.audit()] == ["b", "b"] and store.verify_audit() is None


def test_a_primary_that_becomes_a_standby_and_a_primary_again() -> None:
    with running_postgres() as server, contextlib.closing(open_store(server.new_database())) as store:
        note(store)
        server.stop(clean=True)
        server.start(standby=True)
        with pytest.raises(StoreUnavailable, match=r"takes no writes: cannot execute .*name the primary"):
            patiently(lambda: note(store))
        assert len(store.audit()) == 1  # it reads on
        with client(server.url("postgres")) as connection:
            assert connection.execute("SELECT pg_promote()").fetchall() == [(True,)]
        note(store)
        assert len(store.audit()) == 2 and store.verify_audit() is None


def test_a_database_that_somebody_set_to_read_only(url: str, store: Store) -> None:
    """Hosts do that when a disk runs full; it is not ours to override."""
    name = url.rpartition("/")[2]
    with client(url) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        store.close()
        assert len(store.audit()) == 1
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            note(store)
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    note(store)
    assert len(store.audit()) == 2


def test_a_writer_that_hangs_does_not_hang_the_others(url: str, store: Store) -> None:
    with client(url) as other:
        with other.transaction():
            other.execute("SELECT 1 FROM slipway_head FOR UPDATE")
            with store._database.migrating() as connection:
                connection.exec_driver_sql("SET lock_timeout = 50")  # 5 s are too long for a test
            with pytest.raises(StoreUnavailable, match=r"is held up by another writer.*Try again"):
                note(store)
            assert len(store.audit()) == 1
        note(store)


def test_a_leader_that_stops_in_the_middle_is_thrown_out(url: str, store: Store) -> None:
    """The server ends a transaction whose client says nothing, such as a machine that was paused."""
    with store._database.migrating() as connection:
        found = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
        }
        assert found == {
            "idle_in_transaction_session_timeout": "5s", "lock_timeout": "5s", "statement_timeout": "10s"
        }  # fmt: skip
        connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 50")
    with pytest.raises(StoreUnavailable, match="too long"), store._database.writing() as change:
        change.audit(actor="a", action="lost", target="", details={}, now=1.0)
        paused = contextlib.closing(open_store(url))
        with paused as other:
            note(other)  # waits for the lock until the server has thrown the first out
        change.audit(actor="a", action="lost", target="", details={}, now=1.0)
    assert [entry.action for entry in store.audit()] == ["b", "b"] and store.verify_audit() is None


def test_a_server_that_goes_and_comes_back() -> None:
    with running_postgres() as server, contextlib.closing(open_store(server.new_database())) as store:
        note(store)
        server.stop()
        for attempt in (lambda: note(store), store.deployments, lambda: store.lease(holder="a", ttl_s=1)):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                attempt()
        server.start()
        patiently(lambda: note(store))
        assert len(store.audit()) == 2 and store.verify_audit() is None
