"""Classifies errors of the database: their cause, whether a retry helps, and whether to drop connections.

This is the only table of PostgreSQL's SQLSTATEs and SQLite's result codes. Any other error is a bug of ours, and
is reported as an incident.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from enum import Enum
from types import MappingProxyType

from sqlalchemy.exc import DBAPIError

from pandawn_server.domain.errors import UnavailableError

RETRY_AFTER = timedelta(seconds=1)
"""When to retry while the database does not answer: about the time of a PostgreSQL restart."""

CONFLICT_RETRY_AFTER = timedelta(milliseconds=50)
"""When to retry after a lost race with another transaction."""

OPERATOR_RETRY_AFTER = timedelta(seconds=5)
"""When to retry if an operator must act first: free disk space, or bring back the primary."""


class Trouble(Enum):
    """What is wrong with the database. It passes, or an operator must repair it; none is the caller's fault."""

    LOST_RACE = "lost race"
    AWAY = "away"
    BUSY = "busy"
    READ_ONLY = "read-only"
    FULL = "full"
    DAMAGED = "damaged"
    REFUSES_US = "refuses us"

    @property
    def drops_connections(self) -> bool:
        """Whether open connections must be dropped, because their server has gone or changed its role."""
        return self in {Trouble.AWAY, Trouble.READ_ONLY}


# By whole SQLSTATE first, then by its class.
_STATES = MappingProxyType(
    {
        # A unique key exists already. In a race this means a repeated request: when the loser retries, it finds what
        # the winner wrote.
        "23505": Trouble.LOST_RACE,
        "25006": Trouble.READ_ONLY,  # after a failover our connections lead to a standby
        "25P03": Trouble.AWAY,  # the transaction was idle for too long, and was ended
        "26000": Trouble.AWAY,  # a prepared statement is missing: a pooler gave us another backend
        "42P05": Trouble.AWAY,  # or it exists already
        "0A000": Trouble.AWAY,  # "cached plan must not change result type", after a concurrent migration
        "28000": Trouble.REFUSES_US,
        "28P01": Trouble.REFUSES_US,
        "3D000": Trouble.REFUSES_US,
        "42501": Trouble.REFUSES_US,  # no permission for a table or the schema: restored by another owner
        "53100": Trouble.FULL,
        "55006": Trouble.BUSY,
        "55P03": Trouble.BUSY,  # a lock was not acquired before the deadline
        "57014": Trouble.BUSY,  # a statement exceeded its deadline, or an administrator cancelled it
        "58030": Trouble.DAMAGED,
        "XX001": Trouble.DAMAGED,
        "XX002": Trouble.DAMAGED,
    }
)
_CLASSES = MappingProxyType(
    {
        "08": Trouble.AWAY,  # connection
        "40": Trouble.LOST_RACE,  # deadlock, serialization
        "53": Trouble.BUSY,  # out of connections or memory, or over a configured limit
        "57": Trouble.AWAY,  # it was shut down, crashed, or is starting
        "58": Trouble.AWAY,  # errors of its operating system
    }
)
# By primary result code, which is the low byte of extended codes.
_SQLITE = MappingProxyType(
    {
        sqlite3.SQLITE_BUSY: Trouble.BUSY,
        sqlite3.SQLITE_LOCKED: Trouble.BUSY,
        sqlite3.SQLITE_INTERRUPT: Trouble.BUSY,
        sqlite3.SQLITE_NOMEM: Trouble.BUSY,
        sqlite3.SQLITE_PROTOCOL: Trouble.BUSY,
        sqlite3.SQLITE_CANTOPEN: Trouble.AWAY,
        sqlite3.SQLITE_IOERR: Trouble.AWAY,
        sqlite3.SQLITE_FULL: Trouble.FULL,
        sqlite3.SQLITE_READONLY: Trouble.READ_ONLY,
        sqlite3.SQLITE_PERM: Trouble.REFUSES_US,
        sqlite3.SQLITE_AUTH: Trouble.REFUSES_US,
        sqlite3.SQLITE_CORRUPT: Trouble.DAMAGED,
        sqlite3.SQLITE_NOTADB: Trouble.DAMAGED,
    }
)
_SQLITE_UNIQUE = frozenset({sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE})

# The errors for callers. They do not contain the database's address, which is in the log.
_ERRORS: MappingProxyType[Trouble, tuple[str, str, timedelta]] = MappingProxyType(
    {
        Trouble.LOST_RACE: (
            "DATABASE_CONFLICT",
            "another transaction wrote the same row first; retry the call",
            CONFLICT_RETRY_AFTER,
        ),
        Trouble.AWAY: (
            "DATABASE_UNAVAILABLE",
            "the server's database does not answer; retry the call",
            RETRY_AFTER,
        ),
        Trouble.BUSY: (
            "DATABASE_BUSY",
            "the server's database is busy: a lock, a connection or an answer took too long; retry the call",
            RETRY_AFTER,
        ),
        Trouble.READ_ONLY: (
            "DATABASE_UNAVAILABLE",
            "the server's database is read-only now, perhaps after a failover; retry the call",
            RETRY_AFTER,
        ),
        Trouble.FULL: (
            "DATABASE_UNAVAILABLE",
            "the disk of the server's database is full; its operator must free space; retry the call later",
            OPERATOR_RETRY_AFTER,
        ),
        Trouble.DAMAGED: (
            "DATABASE_UNAVAILABLE",
            "the server's database is damaged; its operator must restore it; retry the call later",
            OPERATOR_RETRY_AFTER,
        ),
        Trouble.REFUSES_US: (
            "DATABASE_UNAVAILABLE",
            "the server's database denies access to the server; its operator must fix this; retry the call later",
            OPERATOR_RETRY_AFTER,
        ),
    }
)


def trouble_of(error: DBAPIError) -> Trouble | None:
    """Classifies an error of the driver; None if it is a bug of ours."""
    original = error.orig
    if isinstance(original, sqlite3.Error):
        # Errors of the driver itself have no code.
        code = getattr(original, "sqlite_errorcode", None)
        if code is None:
            return None
        return Trouble.LOST_RACE if code in _SQLITE_UNIQUE else _SQLITE.get(code & 0xFF)
    state = getattr(original, "sqlstate", None)
    if state is not None:
        found = _STATES.get(state) or _CLASSES.get(state[:2])
        if found is not None:
            return found
    elif type(original).__name__ in {"OperationalError", "ConnectionTimeout", "InterfaceError"}:
        # The connection failed or broke.
        return Trouble.AWAY
    return Trouble.AWAY if error.connection_invalidated else None


def error_for(trouble: Trouble) -> UnavailableError:
    """The error for callers."""
    reason, message, retry_after = _ERRORS[trouble]
    return UnavailableError(reason, message, retry_after=retry_after)
