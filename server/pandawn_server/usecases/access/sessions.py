"""Sessions are begun, read, renewed and ended; their keys are made and changed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from pandawn_server.domain.access.admission import Shown
from pandawn_server.domain.access.principals import Principal, Session
from pandawn_server.domain.access.sessions import SECRET_BYTES, SessionKey, worn_out
from pandawn_server.domain.access.vouching import write_credential
from pandawn_server.domain.errors import (
    ForbiddenError,
    NotFoundError,
    PandawnError,
    UnauthenticatedError,
    UnavailableError,
)
from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.logs import Log
from pandawn_server.storage.access import session_keys, vouchers
from pandawn_server.storage.database import Database
from pandawn_server.storage.leases import pilots
from pandawn_server.usecases.access.admission import check_still_brings, queue_to_serve
from pandawn_server.usecases.context import Context

REFRESH_INTERVAL = timedelta(seconds=20)
"""Time until a process knows of keys that another made, and of pilots that another ended."""

KEY_LEAD = REFRESH_INTERVAL * 3
"""A new key waits for so long: by then every process knows it."""


_log: Log = structlog.get_logger(__name__)


def begin_session(context: Context, session: Session) -> tuple[str, datetime]:
    """Returns the token of a session and when it expires."""
    if not context.sessions.has_keys:
        refresh_sessions(context)
    now = context.clock()
    return context.sessions.issue(replace(session, begin_time=now), now)


def refresh_sessions(context: Context) -> None:
    """Reads the keys, and makes the first; ends the sessions of pilots that other processes ended."""
    now = context.clock()
    sessions = context.sessions
    watched = sessions.watched(now)
    # What changes while it is judged by is judged by again.
    changes = sessions.judge.changes()
    with context.db.read() as tx:
        keys = session_keys.all_keys(tx)
        ended = pilots.ended_among(tx, watched) if watched else set()
        shown = vouchers.credentials(tx, watched) if changes != sessions.judged_at else {}
    sessions.end(ended, now)
    _judge_again(context, shown, now)
    sessions.judged_at = changes
    sessions.take_keys(keys or _first_key(context, now))


def renew_session(context: Context, by: Principal) -> str:
    """Another token for a pilot; empty for one whose session is not to go on.

    What the session was begun with is asked again: the credential, the rules, the queue. One that counts no more
    ends the session; one that has expired, or a life that was long enough, lets it run out, and the pilot shows a
    good one then, with the same `request_id`.
    """
    session, now = by.session, context.clock()
    if session is None or not session.pilot_id:
        return ""
    with context.db.read() as tx:
        shown = vouchers.credentials(tx, [session.pilot_id]).get(session.pilot_id)
        pilot = pilots.get_pilots(tx, [session.pilot_id]).get(session.pilot_id)
    begin = session.begin_time
    # Without either it is of a time when nobody wrote that down: the pilot registers again, and then it is.
    if shown is None or begin is None or pilot is None or pilot.state is not PilotState.LIVE:
        return ""
    judge = context.sessions.judge
    try:
        queue = queue_to_serve(context, session.queue)
        check_still_brings(judge.judge(shown, now), queue, session.key.node)
    except (UnauthenticatedError, ForbiddenError, NotFoundError) as error:
        _bar(context, session.pilot_id, error, now)
        return ""
    if now - begin >= context.sessions.longest or now >= shown.expire_time + judge.outlives(shown):
        return ""
    return context.sessions.issue(session, now)[0]


def _judge_again(context: Context, shown: Mapping[str, Shown], now: datetime) -> None:
    """Ends the sessions that were begun with what counts no more."""
    # Of one credential there may be thousands of pilots.
    verdicts: dict[str, PandawnError | None] = {}
    for pilot_id, credential in shown.items():
        key = write_credential(credential)
        if key not in verdicts:
            try:
                context.sessions.judge.judge(credential, now)
                verdicts[key] = None
            except (UnauthenticatedError, ForbiddenError) as error:
                verdicts[key] = error
        verdict = verdicts[key]
        if verdict is not None:
            _bar(context, pilot_id, verdict, now)


def _bar(context: Context, pilot_id: str, why: PandawnError, now: datetime) -> None:
    context.sessions.bar(pilot_id, now)
    _log.warning("session ended", pilot_id=pilot_id, reason=why.reason, message=why.message)


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
