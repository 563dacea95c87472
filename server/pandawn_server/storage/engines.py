"""Engines by URL: what is agreed with each kind of database about connections, transactions and deadlines."""

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
"""Written into the application_id of SQLite files ("PDWN"), so that no other file is taken for ours."""

STATEMENT_DEADLINE = timedelta(seconds=60)
"""Longest time for one statement: more than the largest submission's takes."""

LOCK_DEADLINE = timedelta(seconds=10)
"""Longest wait for a lock. Nobody of us holds one for as long: an administrator does, or a server that hangs, and
whoever waits would use up the connections."""

SILENCE_DEADLINE = timedelta(seconds=10)
"""Longest silence inside a transaction: that of a server which was frozen is ended, with its locks."""

CHECKOUT_DEADLINE_S = 10
"""Longest wait for a connection of the pool, in seconds."""

# A host that vanished without a word is found out within some ten seconds, whether it owes an answer (keepalives)
# or the receipt of a question (tcp_user_timeout, in milliseconds). The URL may say otherwise.
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


# One message for all that a transaction begins with. What is set holds for this transaction only, so that a pooler
# may give the next one to another backend; it refuses most options at the start of a connection anyway.
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
    """The file of an embedded database; None for all others."""
    prefix, found, path = url.partition(":///")
    return Path(path.partition("?")[0]) if found and prefix.startswith("sqlite") and path else None


def open_engine(url: str, pool_size: int, clock: DatabaseClock) -> Engine:
    """Opens `sqlite:///PATH` or `postgresql+psycopg://...`; connects to nothing yet.

    On PostgreSQL each transaction that begins tells `clock` the database's time. Raises `PreconditionError`
    (BAD_DATABASE_URL) for any other URL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise PreconditionError(
            "BAD_DATABASE_URL", f"the database URL cannot be read: {error}"
        ) from None
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        return _open_sqlite(url, pool_size)
    if parsed.drivername == "postgresql+psycopg":
        return _open_postgres(parsed, pool_size, clock)
    raise PreconditionError(
        "BAD_DATABASE_URL",
        f"the database URL begins with {parsed.drivername!r}; "
        "use sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
    )


def _open_postgres(url: URL, pool_size: int, clock: DatabaseClock) -> Engine:
    defaults = {name: value for name, value in _POSTGRES_DEFAULTS.items() if name not in url.query}
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CHECKOUT_DEADLINE_S,
        # The driver's own BEGIN would be one more message.
        connect_args={**defaults, "autocommit": True},
    )

    @event.listens_for(engine, "connect")
    def _look_for_pooler(connection: psycopg.Connection, _record: object) -> None:
        # A pooler answers with a number of its own. What was prepared on one backend is not there on the next.
        row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
        if row is None or row[0] != connection.info.backend_pid:
            connection.prepare_threshold = None

    def begin(connection: PoolProxiedConnection) -> None:
        cursor = connection.cursor()
        asked = ticks()
        cursor.execute(_BEGIN_POSTGRES)
        answered = ticks()
        cursor.nextset()
        for told, *_ in cursor.fetchall():
            clock.note(told, asked, answered)
        cursor.close()

    # Not the event of this name: what fails there is no error of the database to SQLAlchemy, and a broken
    # connection would go back to the pool.
    engine.dialect.do_begin = begin  # type: ignore[method-assign,assignment]
    return engine


def _open_sqlite(url: str, pool_size: int) -> Engine:
    path = make_url(url).database
    if not path or path == ":memory:":
        raise PreconditionError(
            "BAD_DATABASE_URL",
            "an SQLite database in memory cannot be shared by threads; use sqlite:///PATH",
        )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PreconditionError(
            "BAD_DATABASE_URL",
            f"the directory of {path} cannot be made: {error.strerror}; choose another",
        ) from None
    with contextlib.suppress(OSError):
        # The keys of sessions are in it. What SQLite puts beside it gets the same mode; a file that is
        # there already keeps the one that somebody gave it. An error will be SQLite's to report.
        Path(path).touch(mode=0o600, exist_ok=True)
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=30)

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: sqlite3.Connection, _record: object) -> None:
        _refuse_foreign(dbapi_connection, path)
        # The driver's own transaction handling begins too late for reads and knows no IMMEDIATE.
        dbapi_connection.isolation_level = None
        for pragma in (
            # Longer than the largest submission takes.
            "busy_timeout = 30000",
            "journal_mode = WAL",
            # Each commit reaches the disk: an acknowledged write survives a power cut.
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once; a lock taken in the middle of a transaction
        # can fail without waiting.
        connection.exec_driver_sql(connection.get_execution_options().get("pandawn_begin", "BEGIN"))

    return engine


def _refuse_foreign(connection: sqlite3.Connection, path: str) -> None:
    """Marks an empty file as ours, and raises `PreconditionError` for one that is another program's.

    A mistyped path must not fill somebody's mail or bookmarks with our tables.
    """
    try:
        # In this order: another process may be filling the same new file, which it marks before.
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
