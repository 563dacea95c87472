"""Connections to PostgreSQL: what is agreed on each, and what ends one without a call's noticing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import Connection, text

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.storage.claims import claim
from pandawn_server.storage.database import Database
from pandawn_server.storage.monitor import events
from tests.fixtures.clock import NOON
from tests.fixtures.database import open_fast
from tests.fixtures.interleave import at_once
from tests.fixtures.pgbouncer import PoolDatabase

MINUTE = timedelta(minutes=1)


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def note(database: Database) -> None:
    with database.write() as tx:
        events.insert_events(tx, [Event(NOON, EventKind.PILOT_LOST, "")])


def note_after(database: Database, statement: str) -> None:
    with database.write() as tx:
        tx.execute(text(statement))
        events.insert_events(tx, [Event(NOON, EventKind.PILOT_LOST, "")])


def is_there(database: Database, pid: int) -> bool:
    with database.read() as tx:
        found = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        return bool(tx.execute(found, {"pid": pid}).scalar_one())


def setting(tx: Connection, name: str) -> str:
    return str(tx.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar_one())


def connection_of(tx: Connection) -> psycopg.Connection:
    found = tx.connection.driver_connection
    assert isinstance(found, psycopg.Connection)
    return found


@pytest.fixture
def one_connection(own_postgres_database: Database) -> Iterator[Database]:
    """A database through a single connection, so that a test knows which one is used."""
    database = open_fast(url_of(own_postgres_database), pool_size=1)
    yield database
    database.dispose()


def test_a_host_that_vanishes_is_found_out_within_seconds(postgres_database: Database) -> None:
    with postgres_database.read() as tx:
        agreed = connection_of(tx).info.get_parameters()
    assert {
        name: agreed[name]
        for name in (
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "tcp_user_timeout",
        )
    } == {
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "tcp_user_timeout": "10000",
    }


def test_what_the_url_says_of_keepalives_counts(postgres_database: Database) -> None:
    database = open_fast(url_of(postgres_database) + "?keepalives_idle=77&tcp_user_timeout=5000")
    with database.read() as tx:
        agreed = connection_of(tx).info.get_parameters()
    database.dispose()
    assert (agreed["keepalives_idle"], agreed["tcp_user_timeout"]) == ("77", "5000")


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_each_transaction_has_its_deadlines_and_leaves_none_behind(
    own_postgres_database: Database, pool_database: PoolDatabase, pooled: bool
) -> None:
    url = url_of(own_postgres_database)
    database = open_fast(pool_database(url) if pooled else url, pool_size=1)
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone"]
    with database.read() as tx:
        assert [setting(tx, name) for name in names] == ["1min", "10s", "10s", "UTC"]
    with database.engine.connect() as connection, connection.begin():
        connection_of(connection).execute("COMMIT")
        assert connection_of(connection).execute("SHOW lock_timeout").fetchone() == ("0",)
    database.dispose()


def test_the_clock_is_the_databases(postgres_database: Database) -> None:
    with postgres_database.read() as tx:
        before = postgres_database.clock()
        told = tx.execute(text("SELECT clock_timestamp()")).scalar_one()
        after = postgres_database.clock()
    assert before <= told + timedelta(milliseconds=1)
    assert told <= after + timedelta(milliseconds=1)


def test_a_connection_that_broke_while_nobody_used_it_fails_no_call(
    one_connection: Database, own_postgres_database: Database
) -> None:
    note(one_connection)
    with one_connection.read() as tx:
        (pid,) = tx.execute(text("SELECT pg_backend_pid()")).one()
    with own_postgres_database.write() as tx:
        tx.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    note(one_connection)


def test_a_lock_that_is_not_had_in_time_is_a_busy_database(
    own_postgres_database: Database, one_connection: Database
) -> None:
    with own_postgres_database.write() as locker:
        locker.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(UnavailableError) as caught:
            note_after(one_connection, "SET LOCAL lock_timeout = '20ms'")
    assert caught.value.reason == "DATABASE_BUSY"
    note(one_connection)


def test_a_transaction_that_is_silent_for_too_long_is_ended_and_the_next_call_works(
    own_postgres_database: Database, one_connection: Database
) -> None:
    def be_silent() -> None:
        with one_connection.write() as tx:
            events.insert_events(tx, [Event(NOON, EventKind.PILOT_ENDED, "")])
            (pid,) = tx.execute(text("SELECT pg_backend_pid()")).one()
            tx.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
            while is_there(own_postgres_database, pid):
                pass

    with pytest.raises(UnavailableError) as caught:
        be_silent()
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    note(one_connection)


def test_after_a_failover_the_connections_to_the_standby_are_dropped(
    own_postgres_database: Database,
) -> None:
    database = open_fast(url_of(own_postgres_database))
    name = own_postgres_database.engine.url.database
    change = f"ALTER DATABASE {name} SET default_transaction_read_only = "
    with own_postgres_database.write() as tx:
        tx.execute(text(change + "on"))
    # Three connections, each made while the database was a standby.
    at_once(*[database.check] * 3)
    with psycopg.connect(url_of(own_postgres_database).replace("+psycopg", "")) as admin:
        admin.execute("SET TRANSACTION READ WRITE")
        admin.execute(change.encode() + b"off")
    with pytest.raises(UnavailableError) as caught:
        note(database)
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    assert "read-only" in caught.value.message
    assert caught.value.retry_after
    for _ in range(3):
        note(database)
    database.dispose()


def test_behind_a_pooler_statements_are_not_prepared(
    own_postgres_database: Database, pool_database: PoolDatabase
) -> None:
    database = open_fast(pool_database(url_of(own_postgres_database)))

    def work() -> None:
        for _ in range(12):
            note(database)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    with database.read() as tx:
        assert len(events.read_events(tx, 0, 1000)) == 48
    database.dispose()


def test_a_claim_that_a_frozen_server_is_making_is_not_waited_for(
    postgres_database: Database,
) -> None:
    other = open_fast(url_of(postgres_database))
    with postgres_database.write() as tx:
        assert claim(tx, "reaper", "one", NOON, MINUTE) == (True, None)
    with postgres_database.write() as frozen:
        assert claim(frozen, "reaper", "one", NOON + MINUTE, MINUTE) == (True, NOON)
        with other.write() as tx:
            assert claim(tx, "reaper", "two", NOON + 2 * MINUTE, MINUTE) == (False, None)
    with other.write() as tx:
        assert claim(tx, "reaper", "two", NOON + 3 * MINUTE, MINUTE) == (True, NOON + MINUTE)
    other.dispose()


def test_a_claim_of_before_the_databases_clock_was_set_back_holds_nobody_up(
    database: Database,
) -> None:
    with database.write() as tx:
        claim(tx, "reaper", "one", NOON + timedelta(hours=1), MINUTE)
        assert claim(tx, "reaper", "two", NOON, MINUTE)[0]
