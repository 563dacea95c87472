"""The databases of the server under test: fills them directly, and reads what the server wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql

from pandawn_tools.bench.rows import Row, Table
from pandawn_tools.bench.services import Postgres

_CHUNK_ROWS = 2000
_SQLITE_TIMEOUT_S = 60.0


class BenchDatabase(Protocol):
    """The operations of the benchmark on a database. `release` may be called from another thread."""

    name: str
    url: str
    release_period_s: float

    def fill(self, tables: Iterable[Table]) -> None:
        """Writes rows into empty tables."""

    def release(self, job_ids: Sequence[int]) -> None:
        """Makes waiting jobs runnable now."""

    def leased(self) -> set[int]:
        """The jobs that have a lease."""

    def attempts(self) -> int:
        """The number of attempts."""

    def version(self) -> str:
        """The version that the engine reports."""

    def close(self) -> None:
        """Closes the connections."""


class PostgresDatabase:
    """A database of a PostgreSQL server."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.name = "postgresql"
        self.url = server.url(name)
        self.release_period_s = 0.02
        self._dsn = server.dsn(name)
        self._release_link = psycopg.connect(self._dsn, autocommit=True)

    def fill(self, tables: Iterable[Table]) -> None:
        """See `BenchDatabase.fill`."""
        with psycopg.connect(self._dsn, autocommit=True) as link:
            with link.transaction(), link.cursor() as cursor:
                # The rows are consistent; to check every foreign key would take minutes.
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute("SET LOCAL TimeZone = 'UTC'")
                for table in tables:
                    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
                    statement = sql.SQL("COPY {} ({}) FROM STDIN")
                    into = statement.format(sql.Identifier(table.name), columns)
                    with cursor.copy(into) as copy:
                        for some in _chunks(table.rows):
                            copy.write("".join(["\t".join(row) + "\n" for row in some]))
            link.execute("VACUUM ANALYZE")
            link.execute("CHECKPOINT")

    def release(self, job_ids: Sequence[int]) -> None:
        """See `BenchDatabase.release`."""
        self._release_link.execute(
            "UPDATE jobs SET state = 'activated', state_time = %s WHERE job_id = ANY(%s)",
            (datetime.now(UTC), list(job_ids)),
        )

    def leased(self) -> set[int]:
        """See `BenchDatabase.leased`."""
        with psycopg.connect(self._dsn) as link:
            return {row[0] for row in link.execute("SELECT job_id FROM leases")}

    def attempts(self) -> int:
        """See `BenchDatabase.attempts`."""
        with psycopg.connect(self._dsn) as link:
            return sum(row[0] for row in link.execute("SELECT count(*) FROM attempts"))

    def version(self) -> str:
        """See `BenchDatabase.version`."""
        with psycopg.connect(self._dsn) as link:
            return "".join(str(row[0]) for row in link.execute("SHOW server_version"))

    def close(self) -> None:
        """See `BenchDatabase.close`."""
        self._release_link.close()


class SqliteDatabase:
    """The file of an embedded database."""

    def __init__(self, path: Path) -> None:
        self.name = "sqlite"
        self.url = f"sqlite:///{path}"
        # SQLite has one writer at a time: if we wrote more often, the server would wait for us.
        self.release_period_s = 0.25
        self._path = path
        self._release_link = self._connect()

    def fill(self, tables: Iterable[Table]) -> None:
        """See `BenchDatabase.fill`."""
        with closing(self._connect()) as link, link:
            for table in tables:
                columns = ", ".join(f'"{column}"' for column in table.columns)
                marks = ", ".join("?" for _ in table.columns)
                # The names are our own.
                statement = f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})'  # noqa: S608
                link.executemany(statement, table.rows)
        with closing(self._connect()) as link:
            link.execute("ANALYZE")
            link.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def release(self, job_ids: Sequence[int]) -> None:
        """See `BenchDatabase.release`."""
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
        with self._release_link as link:
            link.executemany(
                "UPDATE jobs SET state = 'activated', state_time = ? WHERE job_id = ?",
                [(now, job_id) for job_id in job_ids],
            )

    def leased(self) -> set[int]:
        """See `BenchDatabase.leased`."""
        with closing(self._connect()) as link:
            return {row[0] for row in link.execute("SELECT job_id FROM leases")}

    def attempts(self) -> int:
        """See `BenchDatabase.attempts`."""
        with closing(self._connect()) as link:
            return sum(row[0] for row in link.execute("SELECT count(*) FROM attempts"))

    def version(self) -> str:
        """See `BenchDatabase.version`."""
        return sqlite3.sqlite_version

    def close(self) -> None:
        """See `BenchDatabase.close`."""
        self._release_link.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_SQLITE_TIMEOUT_S, check_same_thread=False)


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    some: list[Row] = []
    for row in rows:
        some.append(row)
        if len(some) == _CHUNK_ROWS:
            yield some
            some = []
    yield some
