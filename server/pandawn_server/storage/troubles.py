"""What an error of the database means: whose trouble it is, whether it passes, and what is to be done with connections.

The one table of PostgreSQL's SQLSTATEs and SQLite's result codes. What is in neither is an error of ours, and
stays an incident.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from enum import Enum
from types import MappingProxyType

from sqlalchemy.exc import DBAPIError

from pandawn_server.domain.errors import UnavailableError

RETRY_AFTER = timedelta(seconds=1)
"""When to come back while the database does not answer: a restart of PostgreSQL takes about as long."""

CONFLICT_RETRY_AFTER = timedelta(milliseconds=50)
"""When to come back after a lost race with another transaction."""

OPERATOR_RETRY_AFTER = timedelta(seconds=5)
"""When to come back where somebody must do something first: make room, or bring the primary back."""


class Trouble(Enum):
    """What is wrong with the database. Each passes by itself, or is the operator's to mend; none is the caller's."""

    LOST_RACE = "lost race"
    AWAY = "away"
    BUSY = "busy"
    READ_ONLY = "read-only"
    FULL = "full"
    DAMAGED = "damaged"
    REFUSES_US = "refuses us"

    @property
    def drops_connections(self) -> bool:
        """Whether connections that are open now are no good any more: what they lead to is another thing by now."""
        return self in {Trouble.AWAY, Trouble.READ_ONLY}


# By whole SQLSTATE first, then by its class.
_STATES = MappingProxyType(
    {
        # A unique key is taken. Every one that a race can hit guards a repeated request: the repeat of the loser
        # finds what the winner wrote.
        "23505": Trouble.LOST_RACE,
        "25006": Trouble.READ_ONLY,  # after a failover we hold connections to what is a standby now
        "25P03": Trouble.AWAY,  # we were silent inside a transaction for too long, and it was ended
        "26000": Trouble.AWAY,  # a prepared statement that is gone: a pooler gave us another backend
        "42P05": Trouble.AWAY,  # or one that is there already
        "0A000": Trouble.AWAY,  # "cached plan must not change result type", after a migration beside us
        "28000": Trouble.REFUSES_US,
        "28P01": Trouble.REFUSES_US,
        "3D000": Trouble.REFUSES_US,
        "42501": Trouble.REFUSES_US,  # no right to a table, or to the schema: a restore by another owner
        "53100": Trouble.FULL,
        "55006": Trouble.BUSY,
        "55P03": Trouble.BUSY,  # a lock was not had within the deadline
        "57014": Trouble.BUSY,  # a statement took longer than its deadline, or an administrator cancelled it
        "58030": Trouble.DAMAGED,
        "XX001": Trouble.DAMAGED,
        "XX002": Trouble.DAMAGED,
    }
)
_CLASSES = MappingProxyType(
    {
        "08": Trouble.AWAY,  # connection
        "40": Trouble.LOST_RACE,  # deadlock, serialization
        "53": Trouble.BUSY,  # out of connections, memory, or what the configuration allows
        "57": Trouble.AWAY,  # the administrator stops it, it crashed, or it is starting
        "58": Trouble.AWAY,  # of its operating system
    }
)
# By primary result code; extended ones have it in their low byte.
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

# What callers read. Of the database they need not know where it is: the log says it.
_TOLD: MappingProxyType[Trouble, tuple[str, str, timedelta]] = MappingProxyType(
    {
        Trouble.LOST_RACE: (
            "DATABASE_CONFLICT",
            "another transaction wrote the same thing first; repeat the call",
            CONFLICT_RETRY_AFTER,
        ),
        Trouble.AWAY: (
            "DATABASE_UNAVAILABLE",
            "the server's database does not answer; repeat the call",
            RETRY_AFTER,
        ),
        Trouble.BUSY: (
            "DATABASE_BUSY",
            "the server's database is busy: a lock, a connection or an answer was not had in time; repeat the call",
            RETRY_AFTER,
        ),
        Trouble.READ_ONLY: (
            "DATABASE_UNAVAILABLE",
            "the server's database takes no writes now, after a failover perhaps; repeat the call",
            RETRY_AFTER,
        ),
        Trouble.FULL: (
            "DATABASE_UNAVAILABLE",
            "the disk of the server's database is full; its operator must make room; repeat the call later",
            OPERATOR_RETRY_AFTER,
        ),
        Trouble.DAMAGED: (
            "DATABASE_UNAVAILABLE",
            "the server's database is damaged; its operator must restore it; repeat the call later",
            OPERATOR_RETRY_AFTER,
        ),
        Trouble.REFUSES_US: (
            "DATABASE_UNAVAILABLE",
            "the server's database does not let the server in; its operator must mend that; repeat the call later",
            OPERATOR_RETRY_AFTER,
        ),
    }
)


def trouble_of(error: DBAPIError) -> Trouble | None:
    """What an error of the driver means; None: it is ours."""
    original = error.orig
    if isinstance(original, sqlite3.Error):
        # Errors that the driver makes itself, not SQLite, have no code.
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
        # No connection was made, or it broke.
        return Trouble.AWAY
    return Trouble.AWAY if error.connection_invalidated else None


def told_as(trouble: Trouble) -> UnavailableError:
    """What callers hear of it."""
    reason, message, retry_after = _TOLD[trouble]
    return UnavailableError(reason, message, retry_after=retry_after)
