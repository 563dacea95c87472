"""The database: transactions, migrations, and the errors that callers see."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pandawn_server.domain.errors import OutcomeUnknownError, PandawnError, PreconditionError
from pandawn_server.domain.monitor.events import Event
from pandawn_server.storage.clock import DatabaseClock
from pandawn_server.storage.engines import SQLITE_APPLICATION_ID, open_engine
from pandawn_server.storage.troubles import RETRY_AFTER, Trouble, error_for, trouble_of

Transaction = Connection
"""The transaction that use cases pass to the functions of this package."""


@dataclass(slots=True)
class Effects:
    """The effects of a transaction that others must see after its commit.

    `events` are those that it wrote; `runnable` are the queues in which it made jobs runnable.
    """

    events: list[Event] = field(default_factory=list)
    runnable: set[str] = field(default_factory=set)


def effects_of(tx: Transaction) -> Effects:
    """The effects of a transaction so far; functions of this package add to them."""
    found: Effects = tx.info[_EFFECTS]
    return found


_EFFECTS = "pandawn_effects"

MIGRATIONS = Path(__file__).parent / "migrations"

LOG_INTERVAL_S = 5.0
"""Time between two log lines about the same trouble: while the database is unavailable every call fails."""

_log = logging.getLogger(__name__)


class Database:
    """One database with a pool of connections. Safe to share between threads."""

    def __init__(self, engine: Engine, clock: DatabaseClock) -> None:
        self.engine = engine
        # The database's time, which leases and claims use.
        self.clock = clock
        # Called with the effects of each transaction after its commit, in the thread that ran it.
        self.after_commit: Callable[[Effects], object] = lambda _: None
        self.is_embedded = engine.dialect.name == "sqlite"
        # For messages, without the password.
        self.shown_url = engine.url.render_as_string(hide_password=True)
        self._logged: dict[Trouble, float] = {}

    @classmethod
    def open(cls, url: str, pool_size: int = 5) -> Database:
        """Opens `sqlite:///PATH` or `postgresql+psycopg://...`; makes no connection yet.

        Raises `PreconditionError` (BAD_DATABASE_URL) for other URLs.
        """
        # SQLite has only the machine's clock, so it is never measured.
        clock = DatabaseClock()
        return cls(open_engine(url, pool_size, clock), clock)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may write: commits at the end of the block, rolls back on any error.

        Raises `UnavailableError` if the database does not answer or a concurrent transaction won, and its
        subclass `OutcomeUnknownError` if the answer to the commit was lost.
        """
        effects = Effects()
        with self._errors_for_callers(), self._begun(writes=True) as connection:
            connection.info[_EFFECTS] = effects
            yield connection
        if effects.events or effects.runnable:
            try:
                self.after_commit(effects)
            except Exception:  # noqa: BLE001 (the call must not fail)
                # The call is done: to report a failure would make its caller, or a round of matching, undo it.
                _log.exception("what follows from a commit failed")

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that only reads. Raises the same errors as `write`."""
        with self._errors_for_callers(), self._begun(writes=False) as connection:
            yield connection

    def migrate(self) -> None:
        """Upgrades the schema to the newest version; only one process at a time does it.

        Raises `UnavailableError` if the database does not answer.
        """
        with self._errors_for_callers(), self._begun(writes=True) as connection:
            if not self.is_embedded:
                # Large tables take long, and so may another server that migrates too.
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                # If two servers start together, the second waits here and then has nothing to do.
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": SQLITE_APPLICATION_ID}
                )
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def check(self) -> None:
        """Checks that the database answers and has the schema of this version.

        Raises `UnavailableError` if it does not answer, `PreconditionError` (SCHEMA_OUTDATED) if it has
        another schema.
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
    def _begun(self, *, writes: bool) -> Iterator[Connection]:
        connection, transaction = self._begin(writes=writes)
        with connection:
            try:
                yield connection
            except BaseException as error:
                self._undo(connection, transaction, error)
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                self._undo(connection, transaction, error)
                if writes and _may_be_done(error):
                    raise self._unknown(error) from error
                raise

    def _begin(self, *, writes: bool) -> tuple[Connection, RootTransaction]:
        connection = self.engine.connect()
        try:
            return connection, self._begin_on(connection, writes=writes)
        except DBAPIError as error:
            connection.close()
            if not error.connection_invalidated:
                raise
        except BaseException:
            connection.close()
            raise
        # The connection broke while it was idle, as probably all in the pool did; nothing was executed on it.
        connection = self.engine.connect()
        try:
            return connection, self._begin_on(connection, writes=writes)
        except BaseException:
            connection.close()
            raise

    def _begin_on(self, connection: Connection, *, writes: bool) -> RootTransaction:
        if self.is_embedded and writes:
            connection.execution_options(pandawn_begin="BEGIN IMMEDIATE")
        return connection.begin()

    def _undo(
        self, connection: Connection, transaction: RootTransaction, error: BaseException
    ) -> None:
        trouble = trouble_of(error) if isinstance(error, DBAPIError) else None
        try:
            transaction.rollback()
        except DBAPIError:
            # It is rolled back already, or the connection is broken: in both cases it must not be reused.
            connection.invalidate()
        if trouble is not None and trouble.drops_connections and not connection.closed:
            connection.invalidate()
        if trouble is Trouble.READ_ONLY:
            # All other connections lead to the same read-only server.
            self.engine.dispose()

    @contextmanager
    def _errors_for_callers(self) -> Iterator[None]:
        try:
            yield
        except PandawnError:
            raise
        except PoolTimeoutError as error:
            raise self._error(Trouble.BUSY, "all connections are in use") from error
        except DBAPIError as error:
            trouble = trouble_of(error)
            if trouble is None:
                raise
            raise self._error(trouble, str(error.orig).strip()) from error

    def _error(self, trouble: Trouble, detail: str) -> PandawnError:
        error = error_for(trouble)
        if trouble is not Trouble.LOST_RACE:
            error.detail = f"database {self.shown_url}: {detail}"
            self._log_at_times(trouble, error)
        return error

    def _unknown(self, error: DBAPIError) -> OutcomeUnknownError:
        unknown = OutcomeUnknownError(
            "DATABASE_UNAVAILABLE",
            "the server's database did not confirm the change; retry the call with the same request_id",
            retry_after=RETRY_AFTER,
        )
        unknown.detail = f"database {self.shown_url}: {str(error.orig).strip()}"
        self._log_at_times(Trouble.AWAY, unknown)
        return unknown

    def _log_at_times(self, trouble: Trouble, error: PandawnError) -> None:
        now = time.monotonic()
        if now - self._logged.get(trouble, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._logged[trouble] = now
            _log.error("%s (%s)", error.message.partition("; repeat")[0], error.detail)


def _may_be_done(error: DBAPIError) -> bool:
    """Whether a commit that failed with this error may still have been done.

    PostgreSQL reports a commit that was not done, but a broken connection reports nothing. With SQLite the disk may
    fail after the last write.
    """
    return error.connection_invalidated or trouble_of(error) is Trouble.AWAY
