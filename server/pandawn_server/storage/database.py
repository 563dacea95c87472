"""The database: engines by URL, transactions, migrations, and how its errors look to callers."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pandawn_server.domain.errors import PandawnError, PreconditionError, UnavailableError
from pandawn_server.domain.events import Event

Transaction = Connection
"""What use cases pass to the functions of this package."""

RETRY_AFTER = timedelta(seconds=1)
"""When to come back while the database does not answer: a restart of PostgreSQL takes about as long."""

CONFLICT_RETRY_AFTER = timedelta(milliseconds=50)
"""When to come back after a lost race with another transaction."""

EVENTS = "pandawn_events"
"""Where a transaction gathers the events that it writes, in its connection's `info`."""

MIGRATIONS = Path(__file__).parent / "migrations"

# Written into the application_id of SQLite files ("PDWN"), so that no other file is taken for ours.
_SQLITE_APPLICATION_ID = 0x5044574E


class Database:
    """One database with a pool of connections. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # Gets the events that a transaction wrote, once it is committed.
        self.after_commit: Callable[[Sequence[Event]], None] = lambda _: None
        self.is_embedded = engine.dialect.name == "sqlite"
        # For messages: SQLAlchemy hides the password.
        self.shown_url = engine.url.render_as_string(hide_password=True)

    @classmethod
    def open(cls, url: str, pool_size: int = 5) -> Database:
        """Opens `sqlite:///PATH` or `postgresql+psycopg://...`; connects to nothing yet.

        Raises `PreconditionError` (BAD_DATABASE_URL) for anything else.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise PreconditionError(
                "BAD_DATABASE_URL", f"the database URL cannot be read: {error}"
            ) from None
        if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
            return cls(_open_sqlite(url, pool_size))
        if parsed.drivername == "postgresql+psycopg":
            engine = create_engine(
                url,
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=10,
                connect_args={"connect_timeout": 5, "options": "-c timezone=UTC"},
            )
            return cls(engine)
        raise PreconditionError(
            "BAD_DATABASE_URL",
            f"the database URL begins with {parsed.drivername!r}; "
            "use sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
        )

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may write: commits at the end of the block, rolls back on any error.

        Raises `UnavailableError` when the database does not answer or a concurrent transaction won.
        """
        with self._errors_for_callers(), self.engine.connect() as connection:
            if self.is_embedded:
                connection.execution_options(pandawn_begin="BEGIN IMMEDIATE")
            told: list[Event] = []
            connection.info[EVENTS] = told
            with connection.begin():
                yield connection
        if told:
            self.after_commit(told)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that only reads. Raises as `write`."""
        with self._errors_for_callers(), self.engine.connect() as connection, connection.begin():
            yield connection

    def migrate(self) -> None:
        """Brings the schema to the newest version; one process at a time does the work.

        Raises `UnavailableError` when the database does not answer.
        """
        with self._errors_for_callers(), self.engine.connect() as connection:
            if self.is_embedded:
                connection.execution_options(pandawn_begin="BEGIN IMMEDIATE")
            with connection.begin():
                if not self.is_embedded:
                    # Two servers that start together: the second waits and finds nothing to do.
                    connection.execute(
                        text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SQLITE_APPLICATION_ID}
                    )
                config = Config()
                config.set_main_option("script_location", str(MIGRATIONS))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def check(self) -> None:
        """Asks whether the database answers and has the schema of this version.

        Raises `UnavailableError` if it does not answer, `PreconditionError` (SCHEMA_OUTDATED) if
        its schema is another.
        """
        with self.read() as tx:
            current = MigrationContext.configure(tx).get_current_revision()
        head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        if current != head:
            raise PreconditionError(
                "SCHEMA_OUTDATED",
                f"the schema of {self.shown_url} is at version {current or 'none'}, this server needs {head}; "
                "run `pandawn-server migrate` with the same --database",
            )

    def dispose(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    @contextmanager
    def _errors_for_callers(self) -> Iterator[None]:
        try:
            yield
        except PandawnError:
            raise
        except PoolTimeoutError as error:
            raise UnavailableError(
                "DATABASE_BUSY",
                f"all connections to {self.shown_url} are in use; repeat the call",
                retry_after=RETRY_AFTER,
            ) from error
        except DBAPIError as error:
            if _is_lost_race(error):
                raise UnavailableError(
                    "DATABASE_CONFLICT",
                    "another transaction wrote the same thing first; repeat the call",
                    retry_after=CONFLICT_RETRY_AFTER,
                ) from error
            if not _is_outage(error):
                raise
            raise UnavailableError(
                "DATABASE_UNAVAILABLE",
                f"the database {self.shown_url} does not answer: {str(error.orig).strip()}",
                retry_after=RETRY_AFTER,
            ) from error


def _is_lost_race(error: DBAPIError) -> bool:
    """Whether another transaction was faster, so that the same one may succeed when it is repeated."""
    if isinstance(error.orig, sqlite3.IntegrityError):
        return error.orig.sqlite_errorcode in {
            sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
            sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        }
    # 23505: a unique key is taken. Every one that a race can hit guards a repeated request: the
    # repeat of the loser finds what the winner wrote. 40: deadlock, serialization.
    state = str(getattr(error.orig, "sqlstate", None))
    return state == "23505" or state.startswith("40")


def _is_outage(error: DBAPIError) -> bool:
    """Whether an error of the driver means that the database is away or busy, not that we are wrong."""
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.OperationalError):
        # SQLite says OperationalError for wrong SQL too.
        return error.orig.sqlite_errorcode & 0xFF in {
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_READONLY,
        }
    state = getattr(error.orig, "sqlstate", None)
    # None: no connection was made. 08: connection; 53: out of resources; 57: the
    # administrator stops it.
    name = type(error.orig).__name__
    if state is None:
        return name in {"OperationalError", "ConnectionTimeout", "InterfaceError"}
    return str(state)[:2] in {"08", "53", "57"}


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
            "BAD_DATABASE_URL", f"the directory of {path} cannot be made: {error}; choose another"
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
    if mark == _SQLITE_APPLICATION_ID:
        return
    if mark or has_tables:
        connection.close()
        raise PreconditionError(
            "BAD_DATABASE_URL", f"{path} belongs to another program; choose another file"
        )
    connection.execute(f"PRAGMA application_id = {_SQLITE_APPLICATION_ID}")
