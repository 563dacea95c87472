"""Engines by URL: the settings of each kind of database for connections, transactions and deadlines."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import PoolProxiedConnection

from pandawn_server.domain.errors import PreconditionError
from pandawn_server.storage.clock import DatabaseClock, ticks

SQLITE_APPLICATION_ID = 0x5044574E
"""The application_id of our SQLite files ("PDWN"), to recognise files of other programs."""

STATEMENT_DEADLINE = timedelta(seconds=60)
"""The longest time for one statement: more than that of the largest submission."""

LOCK_DEADLINE = timedelta(seconds=10)
"""The longest wait for a lock. We never hold one for so long; an administrator or a hanging server may, and calls
that wait for it would use up all connections."""

SILENCE_DEADLINE = timedelta(seconds=10)
"""The longest idle time inside a transaction: that of a frozen server is ended, and its locks are released."""

CHECKOUT_DEADLINE_S = 10
"""The longest wait for a connection from the pool, in seconds."""

# Detects a vanished host within about ten seconds: keepalives while we wait for an answer, tcp_user_timeout (in
# milliseconds) while we send. The URL can override them.
_POSTGRES_DEFAULTS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "pandawn-server",
}


def _set_local(name: str, value: str) -> str:
    return f"set_config('{name}', '{value}', true)"


def _milliseconds(span: timedelta) -> str:
    return str(span // timedelta(milliseconds=1))


# One message for the start of a transaction. The settings hold for this transaction only, so that a pooler can send
# the next one to another backend; poolers also refuse most options at the start of a connection.
_BEGIN_POSTGRES = "BEGIN; SELECT " + ", ".join(
    (
        "clock_timestamp()",
        _set_local("TimeZone", "UTC"),
        _set_local("statement_timeout", _milliseconds(STATEMENT_DEADLINE)),
        _set_local("lock_timeout", _milliseconds(LOCK_DEADLINE)),
        _set_local("idle_in_transaction_session_timeout", _milliseconds(SILENCE_DEADLINE)),
    )
)


def embedded_path(url: str) -> Path | None:
    """The file of an embedded database; None for other databases."""
    prefix, found, path = url.partition(":///")
    return Path(path.partition("?")[0]) if found and prefix.startswith("sqlite") and path else None


def open_engine(url: str, pool_size: int, clock: DatabaseClock) -> Engine:
    """Opens `sqlite:///PATH` or `postgresql+psycopg://...`; makes no connection yet.

    On PostgreSQL each transaction measures the database's time for `clock` when it begins. Raises
    `PreconditionError` (BAD_DATABASE_URL) for other URLs.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise PreconditionError(
            "BAD_DATABASE_URL", f"the database URL cannot be parsed: {error}"
        ) from None
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        return _open_sqlite(url, pool_size)
    if parsed.drivername == "postgresql+psycopg":
        return _open_postgres(parsed, pool_size, clock)
    raise PreconditionError(
        "BAD_DATABASE_URL",
        f"the database URL starts with {parsed.drivername!r}; "
        "use sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
    )


def _open_postgres(url: URL, pool_size: int, clock: DatabaseClock) -> Engine:
    defaults = {name: value for name, value in _POSTGRES_DEFAULTS.items() if name not in url.query}
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CHECKOUT_DEADLINE_S,
        # The driver's own BEGIN would cost one more message.
        connect_args={**defaults, "autocommit": True},
    )

    @event.listens_for(engine, "connect")
    def _detect_pooler(connection: psycopg.Connection, _record: object) -> None:
        # A pooler reports another PID than its backend. A statement prepared on one backend is missing on the next.
        row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
        if row is None or row[0] != connection.info.backend_pid:
            connection.prepare_threshold = None

    def begin(connection: PoolProxiedConnection) -> None:
        cursor = connection.cursor()
        sent = ticks()
        cursor.execute(_BEGIN_POSTGRES)
        received = ticks()
        cursor.nextset()
        for time, *_ in cursor.fetchall():
            clock.measure(time, sent, received)
        cursor.close()

    # Not the event "begin": SQLAlchemy does not treat failures there as database errors, and would return a
    # broken connection to the pool.
    engine.dialect.do_begin = begin  # type: ignore[method-assign,assignment]
    return engine


def _open_sqlite(url: str, pool_size: int) -> Engine:
    path = make_url(url).database
    if not path or path == ":memory:":
        raise PreconditionError(
            "BAD_DATABASE_URL",
            "threads cannot share an SQLite database in memory; use sqlite:///PATH",
        )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PreconditionError(
            "BAD_DATABASE_URL",
            f"the directory of {path} cannot be created: {error.strerror}; choose another",
        ) from None
    with contextlib.suppress(OSError):
        # The file contains the session keys. SQLite gives its other files the same mode; an existing file keeps
        # its mode. SQLite itself will report an error.
        Path(path).touch(mode=0o600, exist_ok=True)
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=30)

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: sqlite3.Connection, _record: object) -> None:
        _refuse_foreign(dbapi_connection, path)
        # The driver's own transactions start too late for reads, and do not support IMMEDIATE.
        dbapi_connection.isolation_level = None
        for pragma in (
            # Longer than the largest submission.
            "busy_timeout = 30000",
            "journal_mode = WAL",
            # Each commit reaches the disk: an acknowledged write survives a power cut.
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once; to take it in the middle of a transaction can fail
        # without waiting.
        connection.exec_driver_sql(connection.get_execution_options().get("pandawn_begin", "BEGIN"))

    return engine


def _refuse_foreign(connection: sqlite3.Connection, path: str) -> None:
    """Marks an empty file as ours; raises `PreconditionError` for a file of another program.

    A mistyped path must not write our tables into another program's data.
    """
    try:
        # In this order: another process may be creating the same file, and sets the mark before the tables.
        has_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,)
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        has_tables, mark = True, 0
    if mark == SQLITE_APPLICATION_ID:
        return
    if mark or has_tables:
        connection.close()
        raise PreconditionError(
            "BAD_DATABASE_URL", f"{path} belongs to another program; choose another file"
        )
    connection.execute(f"PRAGMA application_id = {SQLITE_APPLICATION_ID}")
