"""Sessions are begun, read, renewed and ended; their keys are made and changed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.principals import Session
from pandawn_server.domain.sessions import SECRET_BYTES, SessionKey, worn_out
from pandawn_server.storage import pilots, session_keys
from pandawn_server.storage.database import Database
from pandawn_server.usecases.context import Context

REFRESH_INTERVAL = timedelta(seconds=20)
"""Time until a process knows of keys that another made, and of pilots that another ended."""

KEY_LEAD = REFRESH_INTERVAL * 3
"""A new key waits for so long: by then every process knows it."""


def begin_session(context: Context, session: Session) -> tuple[str, datetime]:
    """Returns the token of a session and when it expires."""
    if not context.sessions.has_keys:
        refresh_sessions(context)
    return context.sessions.issue(session, context.clock())


def refresh_sessions(context: Context) -> None:
    """Reads the keys, and makes the first; ends the sessions of pilots that other processes ended."""
    now = context.clock()
    sessions = context.sessions
    watched = sessions.watched(now)
    with context.db.read() as tx:
        keys = session_keys.all_keys(tx)
        ended = pilots.ended_among(tx, watched) if watched else set()
    sessions.end(ended, now)
    sessions.take_keys(keys or _first_key(context, now))


def _first_key(context: Context, now: datetime) -> list[SessionKey]:
    try:
        with context.db.write() as tx:
            if not session_keys.all_keys(tx):
                session_keys.insert_key(tx, SessionKey(1, _secret(context.rng), now))
    except UnavailableError as error:
        if error.reason != "DATABASE_CONFLICT":
            raise
    with context.db.read() as tx:
        return session_keys.all_keys(tx)


def rotate_key(
    db: Database, rng: random.Random, now: datetime, *, end_sessions: bool
) -> SessionKey:
    """Makes another key, which signs after `KEY_LEAD`; the tokens of the old ones stay good.

    With `end_sessions` the old ones go and the new one signs at once: no session outlives it.
    """
    with db.write() as tx:
        known = session_keys.all_keys(tx)
        number = max((key.key_id for key in known), default=0) + 1
        use_time = now if end_sessions or not known else now + KEY_LEAD
        key = SessionKey(number, _secret(rng), use_time)
        session_keys.insert_key(tx, key)
        gone = known if end_sessions else worn_out([*known, key], now)
        session_keys.delete_keys(tx, [old.key_id for old in gone])
    return key


def _secret(rng: random.Random) -> bytes:
    return rng.randbytes(SECRET_BYTES)
